"""Where the network is looked at: all of R^n, a box, or a polytope."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError

TOLERANCE = 1e-9  # how far a point may be outside of a domain, relative to the domain's size

Inequalities = tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]
Lengths = Float[np.ndarray, "inputs"] | float


class Domain(ABC):
    """A closed convex set of inputs, given by linear inequalities; `one & other` is the intersection of two."""

    @abstractmethod
    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """`(A, b)`, float64, with finite `b`, so that the domain is `A x <= b` for the flattened input `x`."""

    @abstractmethod
    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """The arrays that `inside` takes to tell which points lie in the domain.

        Args:
            in_shape: shape of one input.
            lengths: where nothing else tells how much rounding is (at a bound with no other bound opposite, and at
                inequalities), limits are moved outwards by `TOLERANCE` times these lengths of the inputs.
        """

    def contains(self, x: Float[Tensor, "*batch inputs"], tolerance: float = TOLERANCE) -> Bool[Tensor, "*batch"]:
        """Which rows of `x` (flattened inputs, floating point) lie in the domain; see `inside` for `tolerance`."""
        return inside(
            x, tuple(torch.as_tensor(a, device=x.device) for a in self.limits(tuple(x.shape[-1:]))), tolerance
        )

    def __and__(self, other: Domain) -> Domain:
        """The inputs in both: a `Box` of two of them, and a `Polytope` where one of the two is a polytope.

        A polytope takes the finite bounds of a box as rows. It has no interior where the box fixes an entry, and then
        `transform` refuses it.

        Raises:
            TransformError: they are sets of inputs of different sizes, or two boxes without a common point.

        Example:
            >>> Box(-1.0, 1.0) & Box([0.0, -2.0], 2.0) & Polytope([[1.0, 1.0]], [0.5])
            Polytope(5 inequalities)
        """
        return _intersection(self, other) if isinstance(other, Domain) else NotImplemented


@torch.fx.wrap
def inside(
    x: Float[Tensor, "*batch inputs"],
    limits: tuple[Tensor, ...],
    tolerance: float = TOLERANCE,
    rounding: float | None = None,
) -> Bool[Tensor, "*batch"]:
    """Which rows of `x` satisfy `lower <= x <= upper` or `A x <= b`; a row with NaN or infinity never does.

    Args:
        x: points, floating point.
        limits: `(lower, upper)`, `(A, b)`, or nothing.
        tolerance: how far a point may be outside, relative to the width of the box (none, where it has no other bound)
            or the size of the terms of the inequality; never less than `rounding`, so that a point on the boundary is
            inside.
        rounding: the unit of rounding of the dtype in which the points were given: that of `x` if None.
    """
    rounding = torch.finfo(x.dtype).eps if rounding is None else rounding
    slack = max(tolerance, rounding)
    x = x.double()
    finite = x.isfinite().all(-1)
    if not limits:
        return finite
    first, second = limits
    if first.dim() == 2:
        return finite & (x @ first.T <= second + slack * (x.abs() @ first.abs().T + second.abs())).all(-1)
    width = torch.where((second - first).isfinite(), second - first, 0.0)
    allowed = slack * width + rounding * x.abs()
    return finite & ((x >= first - allowed) & (x <= second + allowed)).all(-1)


class WholeSpace(Domain):
    """All of R^n: the domain when none is given.

    Example:
        >>> WholeSpace(), WholeSpace() & Box(-1.0, 1.0)
        (R^n, Box(lower=-1.0, upper=1.0))
    """

    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """No inequality at all."""
        return np.zeros((0, int(np.prod(in_shape, dtype=np.int64)))), np.zeros(0)

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Nothing."""
        return ()

    def __repr__(self) -> str:
        return "R^n"


class Box(Domain):
    """The inputs between `lower` and `upper`, entry by entry.

    Args:
        lower: lowest value of each entry: a number for all, or an array of the input's shape; may be `-inf`. Bounds
            that are float32 numbers are shown in the fewest digits that give them back as float32: -2.4, not
            -2.4000000953674316.
        upper: highest value likewise; may be `inf`. An entry with `lower == upper` is fixed.

    Raises:
        TransformError: a bound is NaN or lies on the wrong side of the other.

    Example:
        >>> Box(0.0, [1.0, 2.0])
        Box(lower=0.0, upper=[1.0, 2.0])
    """

    def __init__(self, lower: object, upper: object) -> None:
        self.lower, self.upper = _float64("Box: lower", lower), _float64("Box: upper", upper)
        try:
            low, high = np.broadcast_arrays(self.lower, self.upper)
        except ValueError as error:
            raise TransformError(
                f"Box: lower has shape {self.lower.shape} and upper has shape {self.upper.shape}; "
                "expected the same shape, or a number for one of them."
            ) from error
        wrong = np.argwhere(~(low <= high))
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            raise TransformError(
                f"Box: expected lower <= upper everywhere, found lower {low[at]} > upper {high[at]} at index {at} "
                f"({len(wrong)} such entries); swap or correct these bounds."
            )
        if np.isposinf(low).any() or np.isneginf(high).any():
            raise TransformError("Box: a lower bound is +inf or an upper bound is -inf, which leaves no point.")

    @classmethod
    def around(cls, x: object, radius: object) -> Box:
        """The box of the inputs that differ from `x` by at most `radius`, entry by entry, in float64.

        Args:
            x: one input, as a tensor or an array of the input's shape; or a number, for all entries.
            radius: a number for all entries, or an array of the shape of `x`; not negative. An entry of radius 0 is
                fixed, and one of radius `inf` has no bounds.

        Raises:
            TransformError: `x` is not finite, or the radius is negative, NaN, or of another shape.

        Example:
            >>> Box.around([1.0, 2.0], 0.5)
            Box(lower=[0.5, 1.5], upper=[1.5, 2.5])
        """
        centre, distance = _float64("Box.around: x", x), _float64("Box.around: radius", radius)
        if not np.isfinite(centre).all():
            raise TransformError("Box.around: x contains infinity; expected the finite entries of one input.")
        if distance.ndim and distance.shape != centre.shape:
            raise TransformError(
                f"Box.around: radius has shape {distance.shape} and x has shape {centre.shape}; expected the same "
                "shape, or a number for radius."
            )
        if (distance < 0.0).any():
            raise TransformError(f"Box.around: expected a radius from 0, found {distance.min()}.")
        return cls(centre - distance, centre + distance)

    def bounds(self, in_shape: tuple[int, ...]) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """Both bounds for each entry of the flattened input."""
        size = int(np.prod(in_shape, dtype=np.int64))
        return self._bound("lower", self.lower, in_shape, size), self._bound("upper", self.upper, in_shape, size)

    @staticmethod
    def _bound(name: str, bound: np.ndarray, in_shape: tuple[int, ...], size: int) -> np.ndarray:
        if bound.ndim == 0 or bound.size == size:
            return np.broadcast_to(bound.reshape(-1), (size,)).astype(np.float64)
        raise TransformError(
            f"Box: {name} has shape {bound.shape}, but the model's input has shape {in_shape}; "
            "give a number or one bound for each entry."
        )

    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """The finite bounds, lower ones first."""
        lower, upper = self.bounds(in_shape)
        eye = np.eye(len(lower))
        low, high = np.isfinite(lower), np.isfinite(upper)
        return np.concatenate([-eye[low], eye[high]]), np.concatenate([-lower[low], upper[high]])

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Lower and upper bounds."""
        lower, upper = self.bounds(in_shape)
        room = np.where(np.isfinite(lower) & np.isfinite(upper), 0.0, TOLERANCE * lengths)
        return lower - room, upper + room

    def __repr__(self) -> str:
        return f"Box(lower={_short(self.lower)}, upper={_short(self.upper)})"


class Polytope(Domain):
    """The inputs with `A x <= b`, bounded or not, with at least one interior point.

    Args:
        A: one row for each inequality, one column for each entry of the flattened input.
        b: right-hand side of each inequality.

    Raises:
        TransformError: the shapes do not fit, or an entry is not a finite number.

    Example:
        >>> Polytope([[1.0, 1.0], [-1.0, 0.0]], [1.0, 0.0])  # x + y <= 1 and x >= 0
        Polytope(2 inequalities)
    """

    def __init__(self, A: object, b: object) -> None:  # noqa: N803 (the field's notation)
        self.A, self.b = _float64("Polytope: A", A), _float64("Polytope: b", b)
        if self.A.ndim != 2 or self.b.shape != self.A.shape[:1]:
            raise TransformError(
                f"Polytope: expected A of shape (rows, inputs) and b of shape (rows,), "
                f"found {self.A.shape} and {self.b.shape}."
            )
        if not (np.isfinite(self.A).all() and np.isfinite(self.b).all()):
            raise TransformError("Polytope: A and b must be finite; leave out an inequality that is always true.")

    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """The rows as given."""
        size = int(np.prod(in_shape, dtype=np.int64))
        if self.A.shape[1] != size:
            raise TransformError(
                f"Polytope: A has {self.A.shape[1]} columns, but the model's input of shape {in_shape} has {size} "
                "entries; give one column for each."
            )
        return self.A, self.b

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """`A` and `b`."""
        a, b = self.inequalities(in_shape)
        return a, b + TOLERANCE * (np.abs(a) * lengths).sum(axis=1)

    def __repr__(self) -> str:
        return f"Polytope({self.A.shape[0]} inequalities)"


def _intersection(one: Domain, other: Domain) -> Domain:
    """What two domains have in common."""
    if isinstance(one, WholeSpace):
        return other
    if isinstance(other, WholeSpace):
        return one
    shape = _common_shape(one, other)
    if isinstance(one, Box) and isinstance(other, Box):
        return _common_box(one, other, shape)
    (a, b), (c, d) = one.inequalities(shape), other.inequalities(shape)
    return Polytope(np.concatenate([a, c]), np.concatenate([b, d]))


def _common_box(one: Box, other: Box, shape: tuple[int, ...]) -> Box:
    """What two boxes have in common, of which all bounds that are not numbers have as many entries as the shape."""
    bounds = [b.reshape(shape) if b.ndim else b for b in (one.lower, other.lower, one.upper, other.upper)]
    lower, upper = np.maximum(*bounds[:2]), np.minimum(*bounds[2:])
    low, high = np.broadcast_arrays(lower, upper)
    apart = np.argwhere(low > high)
    if len(apart):
        at = tuple(int(i) for i in apart[0])
        raise TransformError(
            f"Box & Box: expected boxes with a common point, found that one ends at {high[at]} and the other begins at "
            f"{low[at]}{f' at index {at}' if at else ''}."
        )
    return Box(lower, upper)


def _common_shape(one: Domain, other: Domain) -> tuple[int, ...]:
    """The shape of the inputs that two domains are of; `()` if both are boxes with the same bounds for all entries."""
    shapes = [*_shapes(one), *_shapes(other)]
    if len({math.prod(shape) for shape in shapes}) > 1:
        raise TransformError(
            f"{type(one).__name__} & {type(other).__name__}: expected sets of inputs of one size, found "
            f"{' and '.join(map(str, dict.fromkeys(shapes)))}; give them the same number of entries."
        )
    return shapes[0] if shapes else ()


def _shapes(domain: Domain) -> list[tuple[int, ...]]:
    """The shapes of one input that the arrays of a domain tell; none if it has the same bounds for all entries."""
    if isinstance(domain, Polytope):
        return [domain.A.shape[1:]]
    return [bound.shape for bound in (domain.lower, domain.upper) if bound.ndim] if isinstance(domain, Box) else []


def _float64(name: str, value: object) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WrongTypeError(f"{name} must be a real number or an array of them, found {value!r}.") from error
    if np.isnan(array).any():
        raise TransformError(f"{name} contains NaN; every bound must be a number.")
    return array


def _short(array: np.ndarray) -> str:
    """Few numbers as they are, in float32 digits where all of them are float32; of many, their shape."""
    if array.size > 6:
        return f"array of shape {array.shape}"
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    digits = np.array([float(str(value)) for value in single.ravel()]).reshape(array.shape)
    return str((digits if np.array_equal(single, array) else array).tolist())
