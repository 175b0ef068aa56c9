"""Constraints on the changes and their cost, in coordinates in which the input is 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.features import Features
from torch_shallow.explain.nearby.target_rows import TargetRows

WHOLE = 1e-6  # deviation from an integer, as float32 causes it, that is accepted in a feature that stays
SUMMED = 1e-15  # rounding error of the sum of a one_hot group, relative to its terms

Feature = str | int
Range = Mapping[Feature, int | float] | Sequence[int | float] | np.ndarray | int | float | None


@dataclass(frozen=True, eq=False)
class Changes:
    """Constraints `lower <= d <= upper` and `rows @ d <= limits` on a change `d`, and the target of the changed input.

    The input `x` plus the scattered `d / weights` has to reach the target with the smallest norm of `d`.

    Attributes:
        x: the input.
        norm: norm of `d` that measures the distance: 1, 2 or inf.
        free: numbers of the inputs that may change, one for each entry of `d`.
        weights: cost of a change by 1 of each input that may change.
        lower: lower bounds of `d`.
        upper: upper bounds of `d`.
        ends: smallest and largest values of these inputs, which rounding of `d` must not exceed.
        rows: unit rows of the linear constraints on `d`.
        limits: right-hand sides of the linear constraints.
        whole: which entries of `d` are integers in units of the features.
        features: names and units of the inputs.
        target: the inequalities to be reached.
    """

    x: Float[np.ndarray, "inputs"]
    norm: float
    free: Int[np.ndarray, "dimension"]
    weights: Float[np.ndarray, "dimension"]
    lower: Float[np.ndarray, "dimension"]
    upper: Float[np.ndarray, "dimension"]
    ends: tuple[Float[np.ndarray, "dimension"], Float[np.ndarray, "dimension"]]
    rows: Float[np.ndarray, "rows dimension"]
    limits: Float[np.ndarray, "rows"]
    whole: Bool[np.ndarray, "dimension"]
    features: Features
    target: TargetRows

    def pull_back(
        self, a: Float[np.ndarray, "*rows inputs"], b: Float[np.ndarray, "*rows"]
    ) -> tuple[Float[np.ndarray, "*rows dimension"], Float[np.ndarray, "*rows"]]:
        """Express `a @ x + b` as unit rows of `d` and offsets; rows of zeros are kept."""
        offsets = a @ self.x + b
        rows = a[..., self.free] / self.weights
        size = np.linalg.norm(rows, axis=-1)
        size = np.where(size > 0.0, size, 1.0)
        return rows / size[..., None], offsets / size

    def lift(self, d: Float[np.ndarray, "dimension"]) -> Float[np.ndarray, "inputs"]:
        """The input at `d`; inputs that do not change are kept bit by bit."""
        x = self.x.copy()
        x[self.free] = np.where(d == 0.0, x[self.free], np.clip(x[self.free] + d / self.weights, *self.ends))
        return x

    def distance(self, x: Float[np.ndarray, "inputs"]) -> float:
        """Distance of another input."""
        return float(np.linalg.norm(self.weights * (x - self.x)[self.free], self.norm))

    def values(self, d: Float[np.ndarray, "dimension"]) -> Float[np.ndarray, "dimension"]:
        """Values of the changed input in units of the features."""
        return self.features.unscale(self.lift(d))[self.free]

    def of_values(self, values: Float[np.ndarray, "dimension"]) -> Float[np.ndarray, "dimension"]:
        """The `d` at which the features have these values."""
        mean, scale = self.features.mean[self.free], self.features.scale[self.free]
        return ((values - mean) / scale - self.x[self.free]) * self.weights

    def allows(self, d: Float[np.ndarray, "dimension"], tolerance: float) -> bool:
        """Whether `d` meets all constraints except the target."""
        size = tolerance * (1.0 + np.abs(d) + np.abs(self.x[self.free]) * self.weights)
        values = self.values(d)[self.whole]
        return bool(
            (d >= self.lower - size).all()
            and (d <= self.upper + size).all()
            and (self.rows @ d <= self.limits + np.abs(self.rows) @ size).all()
            and (np.abs(values - np.round(values)) <= np.maximum(1e-9, tolerance) * (1.0 + np.abs(values))).all()
        )

    def only(self, entries: Int[np.ndarray, "some"]) -> Changes | None:
        """The same constraints with all other entries kept at 0; None if they cannot be."""
        others = np.ones(len(self.free), dtype=bool)
        others[entries] = False
        must_move = ((self.lower > 0.0) | (self.upper < 0.0))[others].any()
        size = np.linalg.norm(self.rows[:, entries], axis=1)
        kept = size > 0.0
        terms = 1.0 + np.abs(self.rows) @ np.abs(self.x[self.free] * self.weights)
        if must_move or (self.limits[~kept] < -WHOLE * terms[~kept]).any():
            return None
        return replace(
            self,
            free=self.free[entries],
            weights=self.weights[entries],
            lower=self.lower[entries],
            upper=self.upper[entries],
            ends=(self.ends[0][entries], self.ends[1][entries]),
            rows=self.rows[kept][:, entries] / size[kept, None],
            limits=self.limits[kept] / size[kept],
            whole=self.whole[entries],
        )


def read_problem(
    x: Float[np.ndarray, "inputs"],
    target: TargetRows,
    norm: int | float,
    domain: Domain | None,
    features: Features,
    *,
    fixed: Sequence[Feature],
    lower: Range,
    upper: Range,
    increasing: Sequence[Feature],
    decreasing: Sequence[Feature],
    integer: Sequence[Feature],
    one_hot: Sequence[Sequence[Feature]] | None,
    scale: Range,
    within: Domain | None = None,
) -> Changes:
    """Read the constraints, as documented for `counterfactual`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument names no feature or has a wrong value, or constraints contradict each other.
    """
    if not isinstance(norm, int | float | np.number) or norm not in (1, 2, np.inf):
        raise argument_error(norm, int, float, np.number)(f"norm: expected 1, 2 or math.inf, found {norm!r}; pass one.")
    count = len(x)
    weights = np.ones(count) if scale is None else _range("scale", scale, features, 1.0)
    if not (np.isfinite(weights).all() and (weights > 0.0).all()):
        raise TransformError(
            "scale: expected positive finite numbers, found others; to leave a feature as it is, name it in fixed."
        )
    # Ranges are in units of the features; a negative scale swaps their ends.
    ends = [_range("lower", lower, features, -np.inf), _range("upper", upper, features, np.inf)]
    if np.isnan(ends).any() or np.isposinf(ends[0]).any() or np.isneginf(ends[1]).any():
        raise TransformError(
            "lower, upper: expected numbers, found NaN or an infinity of the wrong sign; pass -inf as lower or inf as "
            "upper where there is no limit."
        )
    one_hot = features.one_hot if one_hot is None else one_hot
    if not isinstance(one_hot, Iterable):
        raise WrongTypeError(
            f"one_hot: expected a list of groups, each a list of features, found {one_hot!r}; pass such a list."
        )
    whole, groups = np.zeros(count, dtype=bool), [_indices("one_hot", group, features) for group in one_hot]
    if not all(groups):
        raise TransformError("one_hot: expected groups of at least one feature, found an empty one; leave it out.")
    whole[_indices("integer", integer, features)] = True
    members = [i for group in groups for i in group]
    if len(set(members)) < len(members):
        raise TransformError(
            "one_hot: expected groups that share no feature, found one feature twice; name it in one group only."
        )
    whole[members] = True
    ends[0][members], ends[1][members] = np.maximum(ends[0][members], 0.0), np.minimum(ends[1][members], 1.0)
    if within is not None and not isinstance(within, Domain):
        raise WrongTypeError(f"within: expected a Box, a Polytope or None, found {within!r}; pass one of these.")
    if isinstance(within, Box):
        box = within.bounds((count,))
        ends[0], ends[1] = np.maximum(ends[0], box[0]), np.minimum(ends[1], box[1])
    ends = [
        np.where(whole, np.ceil(ends[0] - 1e-9), ends[0]),
        np.where(whole, np.floor(ends[1] + 1e-9), ends[1]),
    ]
    ends = [(end - features.mean) / features.scale for end in ends]
    low, high = np.minimum(*ends), np.maximum(*ends)
    # The start: values within rounding (as of float32) of an integer or of an end of the range count as being there.
    values = features.unscale(x)
    near = np.where(
        whole & (np.abs(values - np.rint(values)) <= WHOLE * (1.0 + np.abs(values))), np.rint(values), values
    )
    start = np.where(near == values, x, features.rescale(near))
    inside = np.clip(start, low, high)
    start = np.where(np.abs(inside - start) <= WHOLE * (1.0 + np.abs(x)), inside, start)
    wrong = np.flatnonzero((ends[0] > ends[1]) == (features.scale > 0.0))
    wrong = wrong[ends[0][wrong] != ends[1][wrong]]
    if len(wrong):
        raise TransformError(
            f"lower, upper: expected lower <= upper, with an integer between them for integer features, found no such "
            f"range for {features.names[wrong[0]]}; relax it."
        )
    if isinstance(domain, Box):
        bounds = domain.bounds((count,))
        low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
    up, down = _indices("increasing", increasing, features), _indices("decreasing", decreasing, features)
    grows = [(i, features.scale[i] > 0.0) for i in up] + [(i, features.scale[i] < 0.0) for i in down]
    for i, grow in grows:
        low[i], high[i] = (max(low[i], start[i]), high[i]) if grow else (low[i], min(high[i], start[i]))
    stay = _indices("fixed", fixed, features)
    low[stay], high[stay] = np.maximum(low[stay], start[stay]), np.minimum(high[stay], start[stay])
    stays = [i for i in stay if low[i] == high[i]]
    low[stays] = high[stays] = x[stays]
    empty = np.flatnonzero(low > high)
    if len(empty):
        raise TransformError(
            f"constraints: expected a possible value for each feature, found none for {features.names[empty[0]]}, "
            "whose range, domain, and fixed or one-sided changes exclude each other; relax them."
        )
    moving = low < high
    unmoved = features.unscale(np.where(moving, x, low))
    off = np.flatnonzero(whole & ~moving & (np.abs(unmoved - np.round(unmoved)) > WHOLE * (1.0 + np.abs(unmoved))))
    if len(off):
        raise TransformError(
            f"integer: expected integer values, found that {features.names[off[0]]} has to stay at "
            f"{unmoved[off[0]]:g}; let it change, or leave it out."
        )
    # An input that must move to a single value is an entry of d with one value; an input that stays is no entry.
    free = np.flatnonzero(moving | (low != x))
    rows, limits = [], []
    if domain is not None and not isinstance(domain, Box):
        a, b = domain.inequalities((count,))
        rows, limits = [*a], [*b]
    if within is not None and not isinstance(within, Box):  # in units of the features
        a, b = within.inequalities((count,))
        rows, limits = [*rows, *(a * features.scale)], [*limits, *(b - a @ features.mean)]
    for group in groups:
        # In units of the features, the sum of a group is 1.
        row, total = np.zeros(count), float(1.0 - features.mean[group].sum())
        row[group] = features.scale[group]
        still = [i for i in group if i not in free]
        total += float((unmoved[still] - np.rint(unmoved[still])).sum())
        # Rounding of the sum where all members are integers.
        slack = SUMMED * float((np.abs(features.scale * x) + np.abs(features.mean) + 1.0)[group].sum())
        rows, limits = [*rows, row, -row], [*limits, total + slack, slack - total]
    problem = Changes(
        x,
        float(norm),
        free,
        weights[free],
        (low - x)[free] * weights[free],
        (high - x)[free] * weights[free],
        (low[free], high[free]),
        np.zeros((0, len(free))),
        np.zeros(0),
        whole[free],
        features,
        target,
    )
    if not rows:
        return problem
    a, offsets = problem.pull_back(np.array(rows), -np.array(limits, dtype=np.float64))
    stuck = ~a.any(axis=1)
    size = np.abs(np.array(rows)[stuck]) @ (1.0 + np.abs(x))
    if (offsets[stuck] > WHOLE * size).any():
        raise TransformError(
            "constraints: expected fixed features that agree with the domain and the groups of one_hot, found a "
            "contradiction; relax them."
        )
    return replace(problem, rows=a[~stuck], limits=-offsets[~stuck])


def _indices(name: str, chosen: Sequence[Feature], features: Features) -> list[int]:
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise WrongTypeError(f"{name}: expected a list of features, found {chosen!r}; put it into a list.")
    return [_index(name, feature, features) for feature in chosen]


def _index(name: str, feature: object, features: Features) -> int:
    if isinstance(feature, bool) or not isinstance(feature, str | int | np.integer):
        raise WrongTypeError(f"{name}: expected names or numbers of features, found {feature!r}; pass one of these.")
    return features.index(feature if isinstance(feature, str) else int(feature), name)


def _range(name: str, given: Range, features: Features, otherwise: float) -> Float[np.ndarray, "inputs"]:
    values = np.full(len(features), otherwise)
    if given is None:
        return values
    try:
        if isinstance(given, Mapping):
            where = [_index(name, feature, features) for feature in given]
            values[where] = [float(value) for value in given.values()]
            return values
        array = np.asarray(given, dtype=np.float64)
        return np.broadcast_to(array.reshape(-1) if array.ndim else array, values.shape).copy()
    except TransformError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise (WrongTypeError if isinstance(error, TypeError) else TransformError)(
            f"{name}: expected a number, one for each of the {len(features)} features, or a dict from features to "
            f"numbers, found {given!r}; pass one of these."
        ) from error
