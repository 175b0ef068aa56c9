"""Domains in which a network is examined: all of R^n, a box, or a polytope."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError

TOLERANCE = 1e-9  # how far a point may lie outside a domain, relative to the domain's size

Inequalities = tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]
Lengths = Float[np.ndarray, "inputs"] | float


class Domain(ABC):
    """A closed convex set of inputs, given by linear inequalities; `one & other` is the intersection of two domains."""

    @abstractmethod
    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """Return `(A, b)`, float64 with finite `b`, where the domain is the set `A x <= b` of flattened inputs `x`."""

    @abstractmethod
    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Return the arrays from which `inside` decides which points lie in the domain.

        Args:
            in_shape: shape of one input.
            lengths: scales of the inputs. At inequalities, and at bounds without an opposite bound, nothing else tells
                the size of rounding, so limits there are moved outwards by `TOLERANCE` times these lengths.
        """

    def contains(self, x: Float[Tensor, "*batch inputs"], tolerance: float = TOLERANCE) -> Bool[Tensor, "*batch"]:
        """Tell which points lie in the domain, including its boundary; a point with NaN or infinity never does.

        Args:
            x: flattened inputs, of shape `(*batch, inputs)`, floating point.
            tolerance: how far a point may lie outside, relative to the width of a box or the size of an inequality's
                terms.

        Returns:
            A boolean for each point, of shape `batch`.

        Raises:
            TransformError: the domain is defined for inputs of another size.

        Example:
            >>> import torch, torch_shallow
            >>> torch_shallow.Box(-1.0, 1.0).contains(torch.tensor([[0.0, 1.0], [0.0, 1.1]]))
            tensor([ True, False])
        """
        return inside(
            x, tuple(torch.as_tensor(a, device=x.device) for a in self.limits(tuple(x.shape[-1:]))), tolerance
        )

    def __and__(self, other: Domain) -> Domain:
        """Intersect two domains: the result is a `Box` for two boxes, and a `Polytope` if either is a polytope.

        A polytope takes the finite bounds of a box as rows. If the box fixes an entry, the polytope has no interior,
        and `transform` refuses it.

        Raises:
            TransformError: the two domains contain inputs of different sizes, or are boxes without a common point.

        Example:
            >>> from torch_shallow import Box, Polytope
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
    """Tell which rows of `x` satisfy `lower <= x <= upper` or `A x <= b`; a row with NaN or infinity never does.

    Args:
        x: points, floating point.
        limits: `(lower, upper)`, `(A, b)`, or an empty tuple.
        tolerance: how far a point may lie outside, relative to the width of the box (0 if the opposite bound is
            missing) or to the size of the inequality's terms; never less than `rounding`, so points on the boundary are
            inside.
        rounding: the unit of rounding of the dtype in which the points were given; that of `x` if None.
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
    """All of R^n, the domain if none is given.

    Example:
        >>> from torch_shallow import Box, WholeSpace
        >>> WholeSpace(), WholeSpace() & Box(-1.0, 1.0)
        (R^n, Box(lower=-1.0, upper=1.0))
    """

    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """Return no inequalities."""
        return np.zeros((0, int(np.prod(in_shape, dtype=np.int64)))), np.zeros(0)

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Return an empty tuple."""
        return ()

    def __repr__(self) -> str:
        return "R^n"


class Box(Domain):
    """The inputs between `lower` and `upper`, entry by entry.

    Args:
        lower: smallest value of each entry: one number for all, or an array of the input's shape; may be `-inf`. Bounds
            that are float32 numbers are displayed in the fewest digits that identify them as float32: -2.4, not
            -2.4000000953674316.
        upper: largest value of each entry, in the same form; may be `inf`. An entry with `lower == upper` is fixed.

    Raises:
        TransformError: a bound is NaN, or a lower bound exceeds its upper bound.

    Example:
        >>> import torch_shallow
        >>> torch_shallow.Box(0.0, [1.0, 2.0])
        Box(lower=0.0, upper=[1.0, 2.0])
    """

    def __init__(self, lower: object, upper: object) -> None:
        self.lower, self.upper = _float64("Box: lower", lower), _float64("Box: upper", upper)
        try:
            low, high = np.broadcast_arrays(self.lower, self.upper)
        except ValueError as error:
            raise TransformError(
                f"Box: lower has shape {self.lower.shape} and upper has shape {self.upper.shape}; give both the same "
                "shape, or a number for one of them."
            ) from error
        wrong = np.argwhere(~(low <= high))
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            raise TransformError(
                f"Box: expected lower <= upper everywhere, found lower {low[at]} > upper {high[at]} at index {at} "
                f"({len(wrong)} in total); swap or correct these bounds."
            )
        if np.isposinf(low).any() or np.isneginf(high).any():
            raise TransformError(
                "Box: expected lower bounds below +inf and upper bounds above -inf, found one that leaves no point; "
                "correct it."
            )

    @classmethod
    def around(cls, x: object, radius: object) -> Box:
        """Build the box of the inputs that differ from `x` by at most `radius` in each entry, in float64.

        Args:
            x: one input, as a tensor or an array of the input's shape; or one number for all entries.
            radius: one number for all entries, or an array of the shape of `x`; not negative. An entry with radius 0 is
                fixed, and one with radius `inf` has no bounds.

        Raises:
            TransformError: `x` is not finite, or the radius is negative, NaN, or of another shape.

        Example:
            >>> import torch_shallow
            >>> torch_shallow.Box.around([1.0, 2.0], 0.5)
            Box(lower=[0.5, 1.5], upper=[1.5, 2.5])
        """
        centre, distance = _float64("Box.around: x", x), _float64("Box.around: radius", radius)
        if not np.isfinite(centre).all():
            raise TransformError(
                "Box.around: expected finite entries of x, found infinity; use radius=inf for an entry without bounds."
            )
        if distance.ndim and distance.shape != centre.shape:
            raise TransformError(
                f"Box.around: expected a number for radius or an array of the shape {centre.shape} of x, found shape "
                f"{distance.shape}."
            )
        if (distance < 0.0).any():
            raise TransformError(f"Box.around: expected a radius of at least 0, found {distance.min()}.")
        return cls(centre - distance, centre + distance)

    def bounds(self, in_shape: tuple[int, ...]) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """Return the lower and the upper bound of each entry of the flattened input."""
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
        """Return the finite bounds as inequalities, lower bounds first."""
        lower, upper = self.bounds(in_shape)
        eye = np.eye(len(lower))
        low, high = np.isfinite(lower), np.isfinite(upper)
        return np.concatenate([-eye[low], eye[high]]), np.concatenate([-lower[low], upper[high]])

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Return the lower and upper bounds, moved outwards where one of the two is missing."""
        lower, upper = self.bounds(in_shape)
        room = np.where(np.isfinite(lower) & np.isfinite(upper), 0.0, TOLERANCE * lengths)
        return lower - room, upper + room

    def __repr__(self) -> str:
        return f"Box(lower={_short(self.lower)}, upper={_short(self.upper)})"


class Polytope(Domain):
    """The inputs with `A x <= b`, bounded or not, with at least one interior point.

    Args:
        A: coefficients, one row for each inequality and one column for each entry of the flattened input.
        b: right-hand side of each inequality.

    Raises:
        TransformError: the shapes do not match, or an entry is not a finite number.

    Example:
        >>> import torch_shallow
        >>> torch_shallow.Polytope([[1.0, 1.0], [-1.0, 0.0]], [1.0, 0.0])  # x + y <= 1 and x >= 0
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
            raise TransformError(
                "Polytope: expected finite A and b, found infinity; leave out inequalities that are always true."
            )

    def inequalities(self, in_shape: tuple[int, ...]) -> Inequalities:
        """Return `A` and `b` as given."""
        size = int(np.prod(in_shape, dtype=np.int64))
        if self.A.shape[1] != size:
            raise TransformError(
                f"Polytope: A has {self.A.shape[1]} columns, but the model's input of shape {in_shape} has {size} "
                "entries; give one column for each."
            )
        return self.A, self.b

    def limits(self, in_shape: tuple[int, ...], lengths: Lengths = 0.0) -> tuple[np.ndarray, ...]:
        """Return `A`, and `b` moved outwards."""
        a, b = self.inequalities(in_shape)
        return a, b + TOLERANCE * (np.abs(a) * lengths).sum(axis=1)

    def __repr__(self) -> str:
        return f"Polytope({self.A.shape[0]} {'inequality' if self.A.shape[0] == 1 else 'inequalities'})"


def _intersection(one: Domain, other: Domain) -> Domain:
    """Intersect two domains."""
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
    """Intersect two boxes whose bounds are numbers, or arrays with as many entries as `shape`."""
    bounds = [b.reshape(shape) if b.ndim else b for b in (one.lower, other.lower, one.upper, other.upper)]
    lower, upper = np.maximum(*bounds[:2]), np.minimum(*bounds[2:])
    low, high = np.broadcast_arrays(lower, upper)
    apart = np.argwhere(low > high)
    if len(apart):
        at = tuple(int(i) for i in apart[0])
        raise TransformError(
            f"Box & Box: expected boxes with a common point, but one ends at {high[at]} and the other begins at "
            f"{low[at]}{f' at index {at}' if at else ''}."
        )
    return Box(lower, upper)


def _common_shape(one: Domain, other: Domain) -> tuple[int, ...]:
    """Return the shape of the inputs of two domains; `()` if both are boxes with single numbers as bounds."""
    shapes = [*_shapes(one), *_shapes(other)]
    if len({math.prod(shape) for shape in shapes}) > 1:
        raise TransformError(
            f"{type(one).__name__} & {type(other).__name__}: expected domains with inputs of the same size, found "
            f"{' and '.join(map(str, dict.fromkeys(shapes)))}; give them the same number of entries."
        )
    return shapes[0] if shapes else ()


def _shapes(domain: Domain) -> list[tuple[int, ...]]:
    """List the input shapes given by the arrays of a domain; empty for a box with single numbers as bounds."""
    if isinstance(domain, Polytope):
        return [domain.A.shape[1:]]
    return [bound.shape for bound in (domain.lower, domain.upper) if bound.ndim] if isinstance(domain, Box) else []


def _float64(name: str, value: object) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WrongTypeError(f"{name}: expected a real number or an array of them, found {value!r}.") from error
    if np.isnan(array).any():
        raise TransformError(f"{name}: expected numbers, found NaN; replace it, or use inf where there is no bound.")
    return array


def _short(array: np.ndarray) -> str:
    """Format up to six numbers, in float32 digits if all are float32 numbers, and larger arrays by their shape."""
    if array.size > 6:
        return f"array of shape {array.shape}"
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    digits = np.array([float(str(value)) for value in single.ravel()]).reshape(array.shape)
    return str((digits if np.array_equal(single, array) else array).tolist())
