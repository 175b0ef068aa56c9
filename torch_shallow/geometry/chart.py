"""Coordinates in which a network is enumerated: no idle directions, no fixed inputs, lengths of about one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.geometry.units import typical_lengths


@dataclass(frozen=True)
class Chart:
    """The affine map `x = origin + v @ directions` from chart coordinates `v` to flattened inputs `x`.

    Every activation region of the domain is the preimage of its image in the chart, which omits directions in which no
    neuron changes (the quotient by the lineality space) and fixed inputs.

    Attributes:
        origin: Input at `v = 0`.
        directions: Movement of the input with each chart coordinate; rows are linearly independent.
        inequalities: The domain in homogeneous chart coordinates, `inequalities @ [v, 1] >= 0`, with unit rows.
        inner: Point in the interior of the domain.
        is_box: Whether the domain is `|v| <= 1`.
    """

    origin: Float[np.ndarray, "inputs"]
    directions: Float[np.ndarray, "coordinates inputs"]
    inequalities: Float[np.ndarray, "rows homogeneous"]
    inner: Float[np.ndarray, "coordinates"]
    is_box: bool = False

    @property
    def num_coordinates(self) -> int:
        """Dimension of the chart."""
        return self.directions.shape[0]

    @property
    def num_corners(self) -> int:
        """Number of vertices of the domain if it is a box with all coordinates bounded; else 0."""
        return 1 << self.num_coordinates if self.is_box else 0

    @property
    def lengths(self) -> Float[np.ndarray, "inputs"]:
        """Distance by which each input moves when one chart coordinate moves by 1; 0 if it does not move."""
        return np.abs(self.directions).max(axis=0, initial=0.0)

    def lengths_in(self, domain: Domain, in_shape: tuple[int, ...]) -> Float[np.ndarray, "inputs"]:
        """Return `lengths`, but for an input that nothing reads, half its width in a box, or 0 if that is infinite."""
        if not isinstance(domain, Box):
            return self.lengths
        lower, upper = domain.bounds(in_shape)
        bounded = np.isfinite(lower) & np.isfinite(upper)
        half = np.subtract(upper, lower, out=np.zeros(len(lower)), where=bounded) / 2
        return np.where(self.lengths > 0.0, self.lengths, half)

    def lines(
        self, reads: Float[np.ndarray, "rows inputs"], free: Bool[np.ndarray, "inputs"]
    ) -> Float[np.ndarray, "lines inputs"]:
        """Find independent unit directions along which only some inputs move and nothing that is read changes.

        Args:
            reads: Rows that span what the network and the domain read from the inputs.
            free: Mask of the inputs that may move.
        """
        columns = np.flatnonzero(free)
        rank = int(self.directions[:, columns].any(axis=1).sum())
        lines = np.zeros((len(columns) - rank, len(free)))
        if len(lines):
            units = np.where(self.lengths > 0.0, self.lengths, 1.0)[columns]
            triangle = np.linalg.qr(reads[:, columns] * units, mode="r")
            lines[:, columns] = np.linalg.svd(triangle, full_matrices=True)[2][rank:] * units
        return lines / np.linalg.norm(lines, axis=1, keepdims=True)

    def lift(self, v: Float[np.ndarray, "points coordinates"]) -> Float[np.ndarray, "points inputs"]:
        """Return the inputs at chart coordinates `v`."""
        return self.origin + v @ self.directions

    def pull_back(
        self, weight: Float[np.ndarray, "rows inputs"], bias: Float[np.ndarray, "rows"]
    ) -> Float[np.ndarray, "rows homogeneous"]:
        """Express the affine functions `weight x + bias` as linear functions of `[v, 1]`."""
        rows = np.empty((len(weight), self.num_coordinates + 1))
        rows[:, :-1], rows[:, -1] = weight @ self.directions.T, weight @ self.origin + bias
        return rows


@runtime_checkable
class Readable(Protocol):
    """The properties of a program that a chart needs, as of `ReLUProgram`."""

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def reads(self) -> Float[np.ndarray, "rows inputs"]:
        """Rows that span what is read from the inputs."""

    @property
    def biases(self) -> Float[np.ndarray, "rows"]:
        """Constant added to each row."""

    @property
    def units(self) -> Float[np.ndarray, "inputs"]:
        """Typical length of each input."""


def make_chart(program: Readable, domain: Domain) -> Chart:
    """Choose the chart of a domain for a program.

    Lengths are measured for each input separately, in powers of two: if the network's inputs are expressed in other
    units, and the domain with them, the chart stays the same.

    Raises:
        TransformError: The domain does not fit the input, is empty or, for a polytope, has no interior.
    """
    if isinstance(domain, Box):
        return _box_chart(program.reads, program.biases, *domain.bounds(program.in_shape))
    if isinstance(domain, Polytope):
        return _polytope_chart(program.reads, program.biases, *domain.inequalities(program.in_shape))
    directions = program.units * row_space(program.reads, program.units)
    p, d = directions.shape
    return Chart(np.zeros(d), directions, np.zeros((0, p + 1)), np.zeros(p))


def row_space(
    matrix: Float[np.ndarray, "rows columns"], units: Float[np.ndarray, "columns"]
) -> Float[np.ndarray, "rank columns"]:
    """Return a basis of the row space of `matrix * units`: axes if they span it, else orthonormal rows.

    Rows are compared at unit length, so that the rank depends neither on the units of inputs nor on those of neurons.
    """
    used = np.flatnonzero(matrix.any(axis=0))
    axes = np.eye(matrix.shape[1])[used]
    if len(used) == 0:
        return axes
    scaled = matrix[:, used] * units[used]
    scaled = scaled[scaled.any(axis=1)]
    scaled = np.ldexp(scaled, -np.frexp(np.abs(scaled).max(axis=1, keepdims=True))[1])
    _, singular, basis = np.linalg.svd(scaled, full_matrices=False)
    rank = np.count_nonzero(singular > singular[0] * max(matrix.shape) * np.finfo(np.float64).eps)
    return axes if rank == len(used) else basis[:rank] @ axes


def right_inverse(
    projection: Float[np.ndarray, "coordinates inputs"], units: Float[np.ndarray, "inputs"]
) -> Float[np.ndarray, "inputs coordinates"]:
    """Map coordinates `u = projection @ x` to an `x` for each `u`: the shortest, with each input measured in its unit.

    For `projection = row_space(...) / units`, this is the transpose of `row_space(...) * units`.
    """
    scaled = projection * units
    return units[:, None] * np.linalg.solve(scaled @ scaled.T, scaled).T


def _box_chart(reads: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Chart:
    low, high = np.isfinite(lower), np.isfinite(upper)
    used = reads.any(axis=0) & (lower < upper)
    bounded, half, free = (np.flatnonzero(used & mask) for mask in (low & high, low ^ high, ~low & ~high))
    with np.errstate(invalid="ignore"):
        middle = lower + (upper - lower) / 2
        # A half-bounded input starts at its bound if it is read, in its interior if not.
        inside = np.where(used, 0.0, 1.0 + np.abs(np.where(low, lower, upper)))
        one_sided = np.where(low, lower + inside, np.where(high, upper - inside, 0.0))
    origin = np.where(lower == upper, lower, np.where(low & high, middle, one_sided))
    units = (
        typical_lengths(reads, _values_at(origin, reads, offsets)) if len(half) + len(free) else np.ones(len(origin))
    )
    units[bounded] = ((upper - lower) / 2)[bounded]
    eye = np.eye(len(lower))
    loose = row_space(reads[:, free], units[free]) @ eye[free] if len(free) else np.zeros((0, len(lower)))
    sign = np.where(low[half], 1.0, -1.0)
    directions = units * np.concatenate([eye[bounded], eye[half] * sign[:, None], loose])
    p, n = len(directions), len(bounded)
    rows = np.eye(p + 1)
    walls = np.concatenate([rows[p] - rows[:n], rows[p] + rows[:n], rows[n : n + len(half)]])
    inner = np.zeros(p)
    inner[n : n + len(half)] = 1.0
    return Chart(origin, directions, _unit_rows(walls), inner, is_box=n == p)


def _polytope_chart(reads: np.ndarray, offsets: np.ndarray, a: np.ndarray, b: np.ndarray) -> Chart:
    middle, units = _bounded_by_rows(a, b)
    rest = np.isnan(units)
    middle[rest] = 0.0
    room = b - a @ middle
    distant = _values_at(middle, -a, b)
    walls = a[distant != 0.0][:, rest]
    of_domain = typical_lengths(walls, distant[distant != 0.0])
    values = np.concatenate([distant, _values_at(middle, reads, offsets)])
    of_all = typical_lengths(np.concatenate([a, reads])[:, rest], values, first=len(a))
    units[rest] = np.where(walls.any(axis=0), of_domain, of_all)
    scaled = a * units
    norms = np.linalg.norm(scaled, axis=1)
    norms[norms == 0.0] = 1.0
    centre, radius = _chebyshev_ball(scaled / norms[:, None], room / norms)
    radius = radius if np.isfinite(radius) else 1.0
    origin = middle + units * centre
    directions = radius * units * row_space(np.concatenate([reads, a]), units)
    inequalities = np.column_stack([-a @ directions.T, b - a @ origin])
    return Chart(origin, directions, _unit_rows(inequalities), np.zeros(len(directions)))


def _values_at(point: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return `weight @ point + bias`, with 0 for values that are only rounding of their terms and tell no length."""
    values, terms = weight @ point + bias, np.abs(weight) @ np.abs(point) + np.abs(bias)
    return np.where(np.abs(values) > 16.0 * np.finfo(np.float64).eps * terms, values, 0.0)


def _bounded_by_rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and half the width of each input between rows that bound it alone; NaN for other inputs."""
    lower, upper = np.full(a.shape[1], -np.inf), np.full(a.shape[1], np.inf)
    for row in np.flatnonzero(np.count_nonzero(a, axis=1) == 1):
        column = int(a[row].nonzero()[0][0])
        bound = b[row] / a[row, column]
        if a[row, column] > 0.0:
            upper[column] = min(upper[column], bound)
        else:
            lower[column] = max(lower[column], bound)
    both = np.isfinite(lower) & np.isfinite(upper) & (lower < upper)
    with np.errstate(invalid="ignore"):
        half = (upper - lower) / 2
        return np.where(both, lower + half, np.nan), np.where(both, half, np.nan)


def _chebyshev_ball(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centre and radius of the largest ball in `a x <= b`, with unit or zero rows; radius inf if unbounded."""
    from scipy.optimize import linprog

    if len(a) == 0:
        return np.zeros(a.shape[1]), np.inf
    rows = np.column_stack([a, a.any(axis=1).astype(np.float64)])

    def solved(cost: float, radius: tuple[float, float | None]) -> Any:
        costs, bounds = np.append(np.zeros(a.shape[1]), cost), [(None, None)] * a.shape[1] + [radius]
        return linprog(costs, A_ub=rows, b_ub=b, bounds=bounds, method="highs")

    solution = solved(-1.0, (0.0, None))
    if solution.status == 3:  # unbounded: balls of every size fit
        return solved(0.0, (1.0, 1.0)).x[:-1], np.inf
    if solution.status == 2:
        raise TransformError("domain: the polytope is empty: no point satisfies A x <= b; relax b.")
    if solution.status != 0:
        raise TransformError(
            f"domain: the search for a point of the polytope failed ({solution.message}); scale its rows and inputs to "
            "ordinary sizes."
        )
    centre, radius = solution.x[:-1], float(solution.x[-1])
    size = 1.0 + float(np.abs(centre).max(initial=0.0))
    if radius <= 1e-9 * size:
        raise TransformError(
            "domain: the polytope has no interior (its inequalities force an equality); fix inputs with a Box that "
            "has lower == upper, or substitute the equality into the model."
        )
    return centre, radius


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[norm[:, 0] > 0.0] / norm[norm[:, 0] > 0.0]


def cut_rows(
    chart: Chart,
    projection: Float[Tensor, "coordinates inputs"] | None,
    normals: Float[Tensor, "cuts coordinates"],
    offsets: Float[Tensor, "cuts"],
) -> Float[np.ndarray, "cuts homogeneous"]:
    """Return each cut at unit length; one that is zero in the whole domain is inactive there, like the constant -1."""
    rows = map_rows(chart, projection, normals[None], offsets[None])[0]
    rows[~rows.any(axis=1), -1] = -1.0
    rows /= np.abs(rows).max(axis=1, keepdims=True)  # otherwise the squares of very small ones would underflow
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def map_rows(
    chart: Chart,
    projection: Float[Tensor, "coordinates inputs"] | None,
    weights: Float[Tensor, "regions outputs coordinates"],
    biases: Float[Tensor, "regions outputs"],
) -> Float[np.ndarray, "regions outputs homogeneous"]:
    """Return each output of each map as a row over homogeneous chart coordinates."""
    weight, bias = weights.detach().cpu().numpy(), biases.detach().cpu().numpy()
    directions, origin = chart.directions.T, chart.origin
    if projection is not None:
        basis = projection.cpu().numpy()
        directions, origin = basis @ directions, basis @ origin
    return np.concatenate([weight @ directions, (weight @ origin + bias)[..., None]], axis=-1)
