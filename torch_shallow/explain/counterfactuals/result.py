"""What a search for a counterfactual gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """The nearest input that reaches a target, and the bound that proves it; or that there is none.

    Attributes:
        x: the counterfactual, in the shape, dtype and on the device of the input; None if there is none.
        distance: from the input to `x` as it is, rounded to its dtype; inf if there is none.
        bound: no counterfactual is nearer than this, by weak duality in every cell that was left out.
        region: of `x` in the shallow network; -1 for a deep one, or if there is none.
        norm: in which the distance is measured.
        excess: by how much the output at `x`, in float64, misses the target: at most 0, unless the regions that reach
            it do so only in points that rounding cannot hit.
        tolerance: what `proven` allows.
        changes: value before and after of each feature that changes by more than rounding, in units of the features.
        outputs: value before and after of each output that the target is about, by its number in the flattened output;
            of a class, those of the classes before and after.
        digits: how many digits the values of `changes` need so that the target is reached with them: 6 or more.
        radius: of a deep network, the largest box around the input that was looked at; inf of a shallow one.
        tally: how many cells were opened, left out and by what, and how many programs were solved.
    """

    x: Float[Tensor, "*in_shape"] | None
    distance: float
    bound: float
    region: int
    norm: float
    excess: float
    tolerance: float
    changes: Mapping[str, tuple[float, float]]
    radius: float
    tally: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    digits: int = 6

    @property
    def proven(self) -> bool:
        """Whether nothing is nearer, up to the tolerance: of `x`, or of there being none within `bound`."""
        return self.x is None or self.distance - self.bound <= self.tolerance * self.distance

    def __str__(self) -> str:
        name = f"L{self.norm:g}"
        if self.x is None:
            return f"No counterfactual: the target is not reached within {name} distance {self.bound:.6g}."
        lines = [f"{name} distance {self.distance:.6g}, nothing is nearer than {self.bound:.6g}"]
        width = max(map(len, self.changes), default=0)
        lines += [
            f"  {feature:<{width}}  {old:.6g} -> {new:.{self.digits}g}" for feature, (old, new) in self.changes.items()
        ]
        lines += [f"output {number}: {old:.6g} -> {new:.6g}" for number, (old, new) in self.outputs.items()]
        return "\n".join(lines)
