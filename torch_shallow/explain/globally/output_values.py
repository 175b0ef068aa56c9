"""Range of the outputs, as values that are attained and bounds that are proven."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_shallow.display import Displayed, TextTable


@dataclass(frozen=True, eq=False, repr=False)
class OutputRange(Displayed):
    """The range of every output, or of the values before a head. All tensors are float64.

    The range is exact where the search has ended. Where it was stopped, `lower` and `upper` are values that outputs
    take, and `lower_bound` and `upper_bound` are proven bounds.

    Attributes:
        lower: least value of each output, of shape `(*out_shape)`; -inf where it falls without bound.
        upper: greatest value of each output; inf where it rises without bound.
        argmin: a point of the domain with the least value, of shape `(*out_shape, *in_shape)`; NaN where there is none.
        argmax: a point of the domain with the greatest value; NaN where there is none.
        lower_region: number of a region whose closure contains `argmin`, or in which the output falls without bound; -1
            where regions were not examined.
        upper_region: number of a region whose closure contains `argmax`, or in which the output rises without bound; -1
            where regions were not examined.
        lower_ray: a unit direction along which the output falls without bound in that region; NaN where it does not.
        upper_ray: a unit direction along which the output rises without bound in that region; NaN where it does not.
        residual: largest difference between these values and what the network computes at these points, relative to the
            size of the terms that are summed there; this is rounding unless `attained` is False.
        attained: whether the network takes the values at the points. False only for a network whose weights may have
            been
            trained: where it jumps, it may approach a value without taking it.
        programs: number of linear programs solved, for regions of too many vertices, and in a box of many inputs for
            all regions that might have a better value.
        before_head: whether these are the values that enter the network's head (logits), not its outputs.
        lower_bound: proven lower bound of each output; equal to `lower` up to rounding unless the search was stopped.
        upper_bound: proven upper bound of each output; equal to `upper` up to rounding unless the search was stopped.
        cells: number of cells that the search has opened.
        seconds: time taken, in seconds.
        reason: reason why the search was stopped; empty if it has ended.
    """

    lower: Float[Tensor, "*out_shape"]
    upper: Float[Tensor, "*out_shape"]
    argmin: Float[Tensor, "*out_and_in_shape"]
    argmax: Float[Tensor, "*out_and_in_shape"]
    lower_region: Int64[Tensor, "*out_shape"]
    upper_region: Int64[Tensor, "*out_shape"]
    lower_ray: Float[Tensor, "*out_and_in_shape"]
    upper_ray: Float[Tensor, "*out_and_in_shape"]
    residual: float
    attained: bool
    programs: int
    before_head: bool = False
    lower_bound: Float[Tensor, "*out_shape"] = field(default_factory=lambda: torch.zeros(0))
    upper_bound: Float[Tensor, "*out_shape"] = field(default_factory=lambda: torch.zeros(0))
    cells: int = 0
    seconds: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            if not getattr(self, f"{name}_bound").numel():  # all regions were examined
                object.__setattr__(self, f"{name}_bound", getattr(self, name))

    @property
    def gap(self) -> float:
        """Largest distance between a value and its bound; 0 where both are infinite."""
        pairs = ((self.lower, self.lower_bound), (self.upper, self.upper_bound))
        return max(float(torch.where(a == b, 0.0, (a - b).abs()).max()) for a, b in pairs)

    @property
    def proven(self) -> bool:
        """Whether the range is exact."""
        return not self.reason

    def __str__(self) -> str:
        """One line for each output, or for each value before the head."""
        lines = []
        for i, (low, high, least, most) in enumerate(self._rows):
            proven = "" if self.proven else f", proven: within {least} to {most}"
            lines.append(f"{self._name} {i}: {low} to {high}{proven}")
        return "\n".join([*lines, *self._stopped])

    @property
    def _name(self) -> str:
        return "value before the head" if self.before_head else "output"

    @property
    def _stopped(self) -> list[str]:
        return [] if self.proven else [f"stopped by {self.reason} after {self.cells:,} cells"]

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        """Least and greatest value of each output, and their bounds, as texts."""
        columns = (self.lower, self.upper, self.lower_bound, self.upper_bound)
        return list(zip(*([f"{value:.6g}" for value in each.reshape(-1).tolist()] for each in columns), strict=True))

    def _line(self) -> str:
        count = self.lower.numel()
        ends = f"{float(self.lower_bound.min()):.6g} to {float(self.upper_bound.max()):.6g}"
        return ", ".join([f"{count} {self._name}{'s'[: count != 1]} within {ends}", *self._stopped])

    def _parts(self) -> Iterable[str | TextTable]:
        head = [self._name, "least", "greatest", *([] if self.proven else ["none is below", "none is above"])]
        yield TextTable(head, [[f"{i}", *row[: len(head) - 1]] for i, row in enumerate(self._rows)])
        yield from self._stopped
