"""Coordinates in which a network is enumerated: no idle directions, no fixed inputs, lengths of about one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.trace.program import ReLUProgram


@dataclass(frozen=True)
class Chart:
    """The affine map `x = origin + v @ directions` from chart coordinates `v` to flattened inputs `x`.

    Every activation region of the domain is the preimage of its image in the chart: directions in which no
    neuron changes are left out (the quotient by the lineality space), and so are fixed inputs.

    Attributes:
        origin: the input at `v = 0`.
        directions: how the input moves with each chart coordinate; rows are linearly independent.
        inequalities: the domain in homogeneous chart coordinates: `inequalities @ [v, 1] >= 0`; unit rows.
        inner: a point in the interior of the domain.
        is_box: whether the domain is `|v| <= 1`.
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

    def lift(self, v: Float[np.ndarray, "points coordinates"]) -> Float[np.ndarray, "points inputs"]:
        """Inputs at chart coordinates `v`."""
        return self.origin + v @ self.directions

    def pull_back(
        self, weight: Float[np.ndarray, "rows inputs"], bias: Float[np.ndarray, "rows"]
    ) -> Float[np.ndarray, "rows homogeneous"]:
        """The affine functions `weight x + bias` as linear functions of `[v, 1]`."""
        return np.column_stack([weight @ self.directions.T, weight @ self.origin + bias])


def make_chart(program: ReLUProgram, domain: Domain) -> Chart:
    """Choose the chart of a domain for a program.

    Raises:
        TransformError: the domain does not fit the input, is empty or, for a polytope, has no interior.
    """
    d = program.num_inputs
    reads = np.concatenate([np.zeros((0, d)), *(stage.weight[:, :d] for stage in program.stages)])
    scale = _typical_offset(program)
    if isinstance(domain, Box):
        return _box_chart(reads, scale, *domain.bounds(program.in_shape))
    a, b = domain.inequalities(program.in_shape)
    origin = np.zeros(d)
    if isinstance(domain, Polytope):
        origin, radius = _chebyshev_ball(a, b)
        scale = radius if np.isfinite(radius) else scale
    directions = scale * row_space(np.concatenate([reads, a]))
    inequalities = np.column_stack([-a @ directions.T, b - a @ origin])
    return Chart(origin, directions, _unit_rows(inequalities), np.zeros(len(directions)))


def row_space(matrix: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rank columns"]:
    """A basis of the row space: the coordinate axes where it is everything they span, else orthonormal rows."""
    used = np.flatnonzero(matrix.any(axis=0))
    axes = np.eye(matrix.shape[1])[used]
    if len(used) == 0:
        return axes
    _, singular, basis = np.linalg.svd(matrix[:, used], full_matrices=False)
    rank = int(np.sum(singular > singular[0] * max(matrix.shape) * np.finfo(np.float64).eps))
    return axes if rank == len(used) else basis[:rank] @ axes


def _typical_offset(program: ReLUProgram) -> float:
    """Median distance from 0 to the hyperplanes of the first stage, as a power of two (so scaling is exact)."""
    if not program.stages:
        return 1.0
    stage = program.stages[0]
    norm = np.linalg.norm(stage.weight, axis=1)
    some = (norm > 0.0) & (stage.bias != 0.0)
    return float(2.0 ** np.round(np.median(np.log2(np.abs(stage.bias[some]) / norm[some])))) if some.any() else 1.0


def _box_chart(reads: np.ndarray, scale: float, lower: np.ndarray, upper: np.ndarray) -> Chart:
    low, high = np.isfinite(lower), np.isfinite(upper)
    used = reads.any(axis=0) & (lower < upper)
    with np.errstate(invalid="ignore"):
        middle = lower + (upper - lower) / 2
        # A half-bounded input that is read starts at its bound, one that is not read in its interior.
        inside = np.where(used, 0.0, 1.0 + np.abs(np.where(low, lower, upper)))
        one_sided = np.where(low, lower + inside, np.where(high, upper - inside, 0.0))
    origin = np.where(lower == upper, lower, np.where(low & high, middle, one_sided))
    bounded, half, free = (np.flatnonzero(used & mask) for mask in (low & high, low ^ high, ~low & ~high))
    eye = np.eye(len(lower))
    loose = np.zeros((0, len(lower)))
    if len(free):
        loose = row_space(reads[:, free]) @ eye[free]
    sign = np.where(low[half], scale, -scale)
    directions = np.concatenate(
        [eye[bounded] * ((upper - lower) / 2)[bounded, None], eye[half] * sign[:, None], scale * loose]
    )
    p, n = len(directions), len(bounded)
    rows = np.eye(p + 1)
    walls = np.concatenate([rows[p] - rows[:n], rows[p] + rows[:n], rows[n : n + len(half)]])
    inner = np.zeros(p)
    inner[n : n + len(half)] = 1.0
    return Chart(origin, directions, _unit_rows(walls), inner, is_box=n == p)


def _chebyshev_ball(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the largest ball in `a x <= b`; radius `inf` where there is none largest."""
    from scipy.optimize import linprog

    norms = np.linalg.norm(a, axis=1)
    if len(a) == 0:
        return np.zeros(a.shape[1]), np.inf
    cost = np.append(np.zeros(a.shape[1]), -1.0)
    bounds = [(None, None)] * a.shape[1] + [(0.0, None)]
    solution = linprog(cost, A_ub=np.column_stack([a, norms]), b_ub=b, bounds=bounds, method="highs")
    if solution.status == 3:  # unbounded: balls of every size fit
        fixed = linprog(
            np.zeros(a.shape[1] + 1),
            A_ub=np.column_stack([a, norms]),
            b_ub=b,
            bounds=[*bounds[:-1], (1.0, 1.0)],
            method="highs",
        )
        return fixed.x[:-1], np.inf
    if solution.status == 2:
        raise TransformError("domain: the polytope is empty: no point satisfies A x <= b; relax b.")
    if solution.status != 0:
        raise TransformError(f"domain: looking for a point of the polytope failed: {solution.message}")
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
