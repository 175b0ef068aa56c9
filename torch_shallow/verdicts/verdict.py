"""Report what is known about a property: whether it holds, by how much, and where it fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.display import Displayed, TextTable


@dataclass(frozen=True, eq=False, repr=False)
class Verdict(Displayed):
    """Report whether a property holds for every input of a domain.

    The margin is how far the property is from failing: minus the greatest value, over the domain, of the least of the
    linear functions that must be positive together for it to fail. It is negative where the property fails, and lies
    between `lower_bound`, which is proven, and `upper_bound`, the margin of the worst point found. A search ends as
    soon as the sign is known, whatever the width of this interval.

    Attributes:
        holds: True or False; None if the search was stopped before this was known.
        counterexample: an input of the domain for which the property fails, of shape `in_shape`, in the dtype of the
            model; None if there is none.
        output: the model's own output for the counterexample, in its own dtype.
        margin: the margin of the worst point found; inf if no relevant point was found.
        lower_bound: a proven lower bound on the margin of every input of the domain; -inf if part of it was not
            examined.
        only_rounding: whether the verdict depends on rounding. For a property that fails: it fails for the float64
            values of the network, but not when the model itself, in its own dtype, is given `counterexample`. For one
            that holds: it holds at every point examined, but by rounding the proven bound is on the other side of 0.
        in_domain: whether `counterexample`, rounded to the dtype of the model, is still in the domain; False if the
            domain is too thin for that dtype.
        cells: the number of cells that were opened.
        seconds: the duration in seconds.
        reason: why the search stopped before the verdict was known; empty if it is known.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
        >>> verdict = torch_shallow.verify(model, torch_shallow.Box(-1.0, 1.0), torch_shallow.AtMost(-0.5))
        >>> verdict.holds, bool(verdict.output[0] > -0.5)
        (False, True)
    """

    holds: bool | None
    counterexample: Float[Tensor, "*in_shape"] | None
    output: Float[Tensor, "*out_shape"] | None
    margin: float
    lower_bound: float
    only_rounding: bool
    in_domain: bool
    cells: int
    seconds: float
    reason: str = ""

    @property
    def upper_bound(self) -> float:
        """The margin of the worst point found."""
        return self.margin

    @property
    def gap(self) -> float:
        """The width of the proven interval of the margin; 0 if both ends agree."""
        return 0.0 if self.upper_bound <= self.lower_bound else self.upper_bound - self.lower_bound

    @property
    def proven(self) -> bool:
        """Whether the verdict is known and does not depend on rounding."""
        return self.holds is not None and not self.only_rounding

    def __str__(self) -> str:
        interval = f"margin {_interval(self.lower_bound, self.margin)}"
        effort = f"{self.cells:,} cells, {self.seconds:.2g} s"
        if self.holds is None:
            return f"Not known ({self.reason}): {interval} ({effort})"
        if self.holds:
            rounding = ", up to rounding: the bound reaches 0" if self.only_rounding else ""
            return f"Holds everywhere{rounding}: {interval} ({effort})"
        lines = [f"Fails: {interval} ({effort})", *(f"  {remark}" for remark in self._remarks)]
        lines += [f"  {name:<6} {values}" for name, values in self._values]
        return "\n".join(lines)

    @property
    def _remarks(self) -> list[str]:
        """Remarks on an input for which the property fails."""
        remarks = []
        if self.holds is False and self.only_rounding:
            remarks.append("by rounding alone: the model itself, in its own dtype, keeps the property at this input")
        if self.holds is False and not self.in_domain:
            remarks.append("the input is outside the domain by rounding, since no number of its dtype is inside")
        return remarks

    @property
    def _values(self) -> list[tuple[str, str]]:
        """The counterexample, and what the model gives for it."""
        return [
            (name, np.array2string(tensor.double().cpu().numpy().ravel(), precision=6, threshold=12))
            for name, tensor in (("input", self.counterexample), ("output", self.output))
            if tensor is not None
        ]

    def _parts(self) -> Iterable[str | TextTable]:
        yield self._line()
        yield from self._remarks
        if self._values:
            yield TextTable(["", "where it fails"], self._values)


def _interval(lower: float, upper: float) -> str:
    if lower >= upper:
        return f"{upper:.6g}"
    if np.isinf(lower):
        return f"at most {upper:.6g}"
    return f"from {lower:.6g} to {upper:.6g}"
