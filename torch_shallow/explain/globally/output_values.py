"""What is known of the range of outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class OutputRange:
    """The range of every output, or of the values before a head. All tensors are float64.

    It is exact where the search has ended; where it was stopped, `lower` and `upper` are values that outputs have, and
    `lower_bound` and `upper_bound` values that none is beyond.

    Attributes:
        lower: the least value of each output, of shape `(*out_shape)`; -inf where it falls without bound.
        upper: the greatest value; inf where it rises without bound.
        argmin: a point of the domain with the least value, of shape `(*out_shape, *in_shape)`; NaN where there is none.
        argmax: likewise with the greatest value.
        lower_region: a region whose closure the point lies in, or that is unbounded where there is no point; -1 where
            regions were not looked at.
        upper_region: likewise.
        lower_ray: a unit direction along which the output falls without bound in that region; NaN where it does not.
        upper_ray: likewise along which it rises.
        residual: the largest difference between these values and what the network computes at these points, relative to
            the size of the terms that are added up there: rounding. More where `attained` is False.
        attained: whether the network has the values at the points. False only for a network whose weights may have been
            trained: where it jumps, a bound may be approached and not reached.
        programs: how many linear programs were solved: for regions of too many vertices, and of a box of many inputs
            for all regions that may have a better value than is known.
        before_head: whether these are the values before the network's head (logits), and not its outputs.
        lower_bound: no value is less than this: proven. Equal to `lower` up to rounding, unless the search was stopped.
        upper_bound: no value is greater than this.
        cells: how many cells the search has opened.
        seconds: how long it took.
        reason: why the search was stopped; empty if it has ended.
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
            if not getattr(self, f"{name}_bound").numel():  # all regions were looked at
                object.__setattr__(self, f"{name}_bound", getattr(self, name))

    @property
    def gap(self) -> float:
        """How far a bound is from the value at most; 0 where both are infinite."""
        pairs = ((self.lower, self.lower_bound), (self.upper, self.upper_bound))
        return max(float(torch.where(a == b, 0.0, (a - b).abs()).max()) for a, b in pairs)

    @property
    def proven(self) -> bool:
        """Whether the range is exact."""
        return not self.reason

    def __str__(self) -> str:
        """One line for each output, or for each value before the head."""
        columns = (self.lower, self.upper, self.lower_bound, self.upper_bound)
        name = "value before the head" if self.before_head else "output"
        lines = []
        for i, (low, high, least, most) in enumerate(
            zip(*(each.reshape(-1).tolist() for each in columns), strict=True)
        ):
            proven = "" if self.proven else f", proven: within {least:.6g} to {most:.6g}"
            lines.append(f"{name} {i}: {low:.6g} to {high:.6g}{proven}")
        return "\n".join(lines if self.proven else [*lines, f"stopped by {self.reason} after {self.cells:,} cells"])
