"""The point of a polyhedron nearest to 0 in the norms L1 and L-infinity, by linear programs with proven bounds.

Both are written as the programs of `partition.simplex`: a linear function over a box that is cut by half-spaces. All
lengths are relative to the cutoff, beyond which nothing is looked for.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.dual_simplex import BELOW, FAILED, Simplex, maximise, proven_bound
from torch_shallow.geometry.quadratic import BEYOND, NEAREST, UNSETTLED, Quadratic, project

TOLERANCE = 1e-11


def linear_program(dimension: int, capacity: int, norm: float) -> Simplex:
    """Room for so many half-spaces: variables are positive and negative parts, or the point and its length, then 1."""
    columns = 2 * dimension + 1 if norm == 1.0 else dimension + 2
    rows = capacity + (0 if norm == 1.0 else 2 * dimension)
    return Simplex(
        lower=np.zeros(columns),
        upper=np.ones(columns),
        rows=np.zeros((rows, columns)),
        tableau=np.zeros((rows + 1, columns)),
        basic=np.zeros(rows, dtype=np.int64),
        loose=np.zeros(columns, dtype=np.int64),
        at=np.zeros(columns),
        rests_high=np.zeros(columns, dtype=np.uint8),
        point=np.zeros(columns),
        objective=np.zeros(columns),
        price=np.zeros(columns),
        ratios=np.zeros(columns),
        order=np.zeros(columns, dtype=np.int64),
    )


@compiled()
def nearest(
    work: Quadratic, simplex: Simplex, norm: float, count: int, lower: np.ndarray, upper: np.ndarray, cutoff: float
) -> int:
    """The point nearest to 0 of the first `count` half-spaces of `work` and a box: see `project`.

    Args:
        work: half-spaces; bound and point of the answer.
        simplex: of `linear_program` for norms 1 and infinity.
        norm: 1, 2 or infinity.
        count: of half-spaces.
        lower: of the box.
        upper: of the box.
        cutoff: finite for norms 1 and infinity.
    """
    n = work.point.shape[0]
    if norm == 2.0:
        return project(work, count, lower, upper, cutoff)
    for i in range(n):
        if lower[i] > upper[i]:
            work.bound[0] = np.inf
            return BEYOND
        if max(lower[i], -upper[i]) >= cutoff:
            work.bound[0] = cutoff
            return BEYOND
    length, rows = (2 * n if norm == 1.0 else n), count
    one = simplex.lower.shape[0] - 1
    simplex.lower[one], simplex.upper[one], simplex.objective[one] = 1.0, 1.0, 0.0
    for i in range(n):
        low, high = max(-1.0, lower[i] / cutoff), min(1.0, upper[i] / cutoff)
        if norm == 1.0:
            simplex.lower[i], simplex.upper[i] = max(0.0, low), max(0.0, high)
            simplex.lower[n + i], simplex.upper[n + i] = max(0.0, -high), max(0.0, -low)
            simplex.objective[i], simplex.objective[n + i] = -1.0, -1.0
        else:
            simplex.lower[i], simplex.upper[i], simplex.objective[i] = low, high, 0.0
            for side in range(2):
                for k in range(one + 1):
                    simplex.rows[rows, k] = 0.0
                simplex.rows[rows, i] = np.sqrt(0.5) * (1.0 - 2.0 * side)
                simplex.rows[rows, length] = np.sqrt(0.5)
                rows += 1
    if norm != 1.0:
        simplex.lower[length], simplex.upper[length], simplex.objective[length] = 0.0, 1.0, -1.0
    for j in range(count):
        last = work.rhs[j] / cutoff
        size = 1.0 / np.sqrt(1.0 + last * last)
        for i in range(n):
            simplex.rows[j, i] = -work.rows[j, i] * size
            if norm == 1.0:
                simplex.rows[j, n + i] = work.rows[j, i] * size
        if norm != 1.0:
            simplex.rows[j, length] = 0.0
        simplex.rows[j, one] = last * size
    status = maximise(simplex, rows, simplex.objective, -1.0, TOLERANCE)
    if status == FAILED:
        # Most often nothing is there: the Euclidean method proves it, in the box beyond which nothing is looked for.
        for i in range(n):
            simplex.lower[i], simplex.upper[i] = max(lower[i], -cutoff), min(upper[i], cutoff)
        status = project(work, count, simplex.lower[:n], simplex.upper[:n], np.inf)
        if work.bound[0] >= (cutoff if norm == 1.0 else cutoff * np.sqrt(n)):
            work.bound[0] = cutoff
            return BEYOND
        work.bound[0] /= 1.0 if norm == 1.0 else np.sqrt(n)
        return UNSETTLED
    work.bound[0] = min(cutoff, -cutoff * (proven_bound(simplex, rows, simplex.objective) + 1e-14))
    if status == BELOW:
        return BEYOND
    for i in range(n):
        work.point[i] = cutoff * (simplex.point[i] - (simplex.point[n + i] if norm == 1.0 else 0.0))
    return NEAREST
