"""Target and result of a search for a counterfactual."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.display import Displayed, TextTable
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.properties import Property, Wins
from torch_shallow.properties.formula import AllOf, Formula, Row

Target = int | Property


def read_target(target: object, margin: int | float, outputs: int) -> TargetRows:
    """Read a target as inequalities on the outputs.

    Raises:
        WrongTypeError: the target is of another type.
        TransformError: there is no such output, values are not finite or in the wrong order, the constraints are not
            joined by &, or a margin is given although the target is not a class.
    """
    if not (isinstance(margin, int | float) and math.isfinite(margin) and margin >= 0.0):
        raise argument_error(margin, int, float)(
            f"margin: expected a finite number from 0, found {margin!r}; pass one."
        )
    target = _one_number(target)
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        if outputs < 2:
            raise TransformError(
                f"target: expected AtLeast, AtMost or Between, because the network has {outputs} output, found the "
                f"class {target}; pass one of these."
            )
        return _rows(Wins(int(target), margin).formula(0, outputs, "target"), outputs)
    if not isinstance(target, Property):
        raise WrongTypeError(
            f"target: expected the number of a class, AtLeast, AtMost or another property, found "
            f"{type(target).__name__}; pass one of these."
        )
    if margin != 0.0:
        raise TransformError(f"margin: expected 0 for a value of an output, found {margin}; add it to the value.")
    return _rows(target.formula(0, outputs, "target"), outputs)


def _rows(formula: Formula, outputs: int) -> TargetRows:
    """Rows of a conjunction of non-strict inequalities on outputs."""
    rows = _conjunction(formula)
    if not rows or any(row.strict for row in rows):
        raise TransformError(
            "target: expected linear constraints on outputs joined by &, found | or ~; ask for each alternative "
            "separately, and use AtMost instead of ~AtLeast."
        )
    weights = np.zeros((len(rows), outputs))
    for weight, row in zip(weights, rows, strict=True):
        weight[list(row.outputs)] = [-c for c in row.outputs.values()]
    return TargetRows(weights, np.array([-row.constant for row in rows]))


def _conjunction(formula: Formula) -> list[Row]:
    """Rows that all have to hold; none if the formula contains alternatives."""
    if isinstance(formula, Row):
        return [formula]
    parts = [_conjunction(part) for part in formula.parts]
    if not isinstance(formula, AllOf) or not all(parts):
        return []
    return [row for part in parts for row in part]


def _one_number(target: object) -> object:
    """Convert a tensor or an array of one integer, such as an `argmax()`, to that integer; keep anything else."""
    if isinstance(target, Tensor):
        target = target.detach().cpu().numpy()
    if isinstance(target, np.ndarray) and target.size == 1 and target.dtype.kind in "iu":
        return int(target.item())
    return target


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactual(Displayed):
    """The nearest input that reaches a target with the bound that proves it, or the result that there is none.

    Attributes:
        x: the counterfactual, with the shape, dtype and device of the input; None if there is none.
        distance: distance from the input to `x`, after rounding to its dtype; inf if there is none.
        bound: proven lower bound on the distance of any counterfactual, by weak duality in every discarded cell.
        region: number of the region of `x` in the shallow network; -1 for a deep network, or if there is no `x`.
        norm: the norm in which the distance is measured.
        excess: by how much the output at `x`, in float64, misses the target; at most 0, unless the regions reach the
            target only in points that rounding cannot hit.
        tolerance: relative difference of distance and bound that `proven` allows.
        changes: value before and after of each feature that changes by more than rounding, in units of the features.
        outputs: value before and after of each output that the target is about, by its number in the flattened output;
            for a class, of the largest outputs before and after.
        digits: number of digits to which the values of `changes` must be given to reach the target; at least 6.
        tally: number of cells opened and discarded, by reason, and of programs solved.
        seconds: time taken, in seconds.
        reason: reason why the search ended before the result was proven; empty if it is proven.
    """

    x: Float[Tensor, "*in_shape"] | None
    distance: float
    bound: float
    region: int
    norm: float
    excess: float
    tolerance: float
    changes: Mapping[str, tuple[float, float]]
    tally: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    digits: int = 6
    seconds: float = 0.0
    reason: str = ""

    @property
    def lower_bound(self) -> float:
        """Proven lower bound on the distance of any counterfactual."""
        return self.bound

    @property
    def upper_bound(self) -> float:
        """Distance of the counterfactual that was found."""
        return self.distance

    @property
    def gap(self) -> float:
        """Width of the proven interval; 0 where it is proven that there is no counterfactual."""
        return 0.0 if self.bound == self.distance else self.distance - self.bound

    @property
    def cells(self) -> int:
        """Number of cells opened."""
        return self.tally.get("cells opened", 0)

    @property
    def proven(self) -> bool:
        """Whether it is proven, up to the tolerance, that nothing is nearer than `x`, or within `bound`.

        False if the search was stopped before it found any counterfactual.
        """
        if self.x is None:
            return not self.reason
        return self.distance - self.bound <= self.tolerance * self.distance

    def __str__(self) -> str:
        name = f"L{self.norm:g}"
        if self.x is None:
            more = f" ({self.reason})" if self.reason else ""
            return f"No counterfactual: the target is not reached within {name} distance {self.bound:.6g}{more}."
        lines = [f"{name} distance {self.distance:.6g}, nothing is nearer than {self.bound:.6g}"]
        width = max(map(len, self.changes), default=0)
        lines += [f"  {feature:<{width}}  {old} -> {new}" for feature, old, new in self._changes]
        lines += [f"{output}: {old} -> {new}" for output, old, new in self._outputs]
        return "\n".join(lines)

    @property
    def _changes(self) -> list[tuple[str, str, str]]:
        """Each feature that changes, with its values before and after."""
        return [(name, f"{old:.6g}", f"{new:.{self.digits}g}") for name, (old, new) in self.changes.items()]

    @property
    def _outputs(self) -> list[tuple[str, str, str]]:
        return [(f"output {number}", f"{old:.6g}", f"{new:.6g}") for number, (old, new) in self.outputs.items()]

    def _parts(self) -> Iterable[str | TextTable]:
        yield self._line()
        if self.x is not None:
            yield TextTable(["", "before", "after"], [*self._changes, *self._outputs])
