"""What a search for a counterfactual gives."""

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
    """The inequalities of a target.

    Raises:
        WrongTypeError: it is of another type.
        TransformError: there is no such output, values are not finite or in the wrong order, or a margin is given where
            it has no meaning.
    """
    if not (isinstance(margin, int | float) and math.isfinite(margin) and margin >= 0.0):
        raise argument_error(margin, int, float)(f"margin: expected a finite number from 0, found {margin!r}.")
    target = _one_number(target)
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        if outputs < 2:
            raise TransformError(
                f"target: expected AtLeast, AtMost or Between, as the network has {outputs} output, found the class "
                f"{target}."
            )
        return _rows(Wins(int(target), margin).formula(0, outputs, "target"), outputs)
    if not isinstance(target, Property):
        raise WrongTypeError(
            f"target: expected the number of a class, AtLeast, AtMost or another property, found "
            f"{type(target).__name__}."
        )
    if margin != 0.0:
        raise TransformError(f"margin: expected 0 for a value of an output, found {margin}; put it into the value.")
    return _rows(target.formula(0, outputs, "target"), outputs)


def _rows(formula: Formula, outputs: int) -> TargetRows:
    """The rows of a conjunction of closed rows about outputs."""
    rows = _conjunction(formula)
    if not rows or any(row.strict for row in rows):
        raise TransformError(
            "target: expected linear constraints on outputs joined by &, found | or ~; ask for one alternative after "
            "another, and for AtMost in place of ~AtLeast."
        )
    weights = np.zeros((len(rows), outputs))
    for weight, row in zip(weights, rows, strict=True):
        weight[list(row.outputs)] = [-c for c in row.outputs.values()]
    return TargetRows(weights, np.array([-row.constant for row in rows]))


def _conjunction(formula: Formula) -> list[Row]:
    """The rows that all have to hold; none if there are alternatives."""
    if isinstance(formula, Row):
        return [formula]
    parts = [_conjunction(part) for part in formula.parts]
    if not isinstance(formula, AllOf) or not all(parts):
        return []
    return [row for part in parts for row in part]


def _one_number(target: object) -> object:
    """The class that a tensor or an array of one whole number is, such as an `argmax()`; anything else as it is."""
    if isinstance(target, Tensor):
        target = target.detach().cpu().numpy()
    if isinstance(target, np.ndarray) and target.size == 1 and target.dtype.kind in "iu":
        return int(target.item())
    return target


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactual(Displayed):
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
        tally: how many cells were opened, left out and by what, and how many programs were solved.
        seconds: how long it took.
        reason: why the search ended before it was proven; empty if it is.
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
        """No counterfactual is nearer: proven."""
        return self.bound

    @property
    def upper_bound(self) -> float:
        """A counterfactual is known at this distance."""
        return self.distance

    @property
    def gap(self) -> float:
        """The width of the proven interval; 0 where it is proven that there is none at all."""
        return 0.0 if self.bound == self.distance else self.distance - self.bound

    @property
    def cells(self) -> int:
        """How many cells were opened."""
        return self.tally.get("cells opened", 0)

    @property
    def proven(self) -> bool:
        """Whether nothing is nearer, up to the tolerance: of `x`, or of there being none within `bound`.

        Where the search was stopped before it has found any, that is not known.
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
        """Each feature that changes, before and after."""
        return [(name, f"{old:.6g}", f"{new:.{self.digits}g}") for name, (old, new) in self.changes.items()]

    @property
    def _outputs(self) -> list[tuple[str, str, str]]:
        return [(f"output {number}", f"{old:.6g}", f"{new:.6g}") for number, (old, new) in self.outputs.items()]

    def _parts(self) -> Iterable[str | TextTable]:
        yield self._line()
        if self.x is not None:
            yield TextTable(["", "before", "after"], [*self._changes, *self._outputs])
