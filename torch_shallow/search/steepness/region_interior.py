"""Interior points of regions, or proofs that there is none."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.geometry.highs import linear_program, solve

THIN = 1e-10  # a region no wider than this, in the units of the scaled inputs, has no interior
NOTHING = 1e-13  # a neuron whose slopes are below this, in the scaled inputs, is constant


def interior_of_domain(scaled: ScaledProgram, walls: Float[np.ndarray, "rows inputs1"]) -> Float[np.ndarray, "free"]:
    """Return an interior point of the domain, in scaled inputs."""
    rows = _walls(scaled, walls)
    if len(rows) == 0:
        return np.zeros(scaled.num_free)
    point, _ = _deepest(rows)
    return np.zeros(scaled.num_free) if point is None else point


def interior_of_region(
    scaled: ScaledProgram, walls: Float[np.ndarray, "rows inputs1"], pattern: Int8[np.ndarray, "neurons"]
) -> tuple[Float[np.ndarray, "free"] | None, bool]:
    """Return an interior point of a pattern's region, in scaled inputs, and whether it is proven that there is none."""
    n, count = scaled.num_free, len(pattern)
    maps = np.zeros((n + count, n + 1))
    maps[:n, :n] = np.eye(n)
    rows = np.zeros((count, n + 1))
    for j in range(count):
        rows[j] = scaled.weights[j] @ maps
        rows[j, -1] += scaled.biases[j]
        if pattern[j]:
            maps[n + j] = rows[j]
    rows = np.where(pattern[:, None] == 1, rows, -rows)
    constant = np.abs(rows[:, :-1]).max(axis=1, initial=0.0) <= NOTHING
    if (constant & (rows[:, -1] < -NOTHING)).any():  # a constant 0 may count as active or inactive
        return None, True
    rows = np.concatenate([rows[~constant], _walls(scaled, walls)])
    point, depth = _deepest(rows)
    return point, depth <= THIN


def _walls(scaled: ScaledProgram, walls: Float[np.ndarray, "rows inputs1"]) -> Float[np.ndarray, "rows free1"]:
    """Return the walls of a polytope over scaled inputs, without constant ones."""
    slopes = walls[:, scaled.free] * scaled.half[scaled.free]
    rows = np.column_stack([slopes, walls[:, :-1] @ scaled.middle + walls[:, -1]])
    return rows[np.abs(slopes).max(axis=1, initial=0.0) > 0.0]


def _deepest(rows: Float[np.ndarray, "rows free1"]) -> tuple[Float[np.ndarray, "free"] | None, float]:
    """Return the point of the cube deepest inside half-spaces `rows @ (v, 1) >= 0`, and a proven bound of its depth.

    Depth is distance in the largest norm, up to a factor. The point is None if there is none inside.
    """
    n = rows.shape[1] - 1
    sizes = np.abs(rows[:, :-1]).sum(axis=1)
    rows = np.concatenate([rows / sizes[:, None], np.column_stack([np.eye(n), np.ones(n)])])
    rows = np.concatenate([rows, np.column_stack([-np.eye(n), np.ones(n)])])
    # maximise t with rows @ (v, 1) >= t
    lifted = np.column_stack([rows[:, :-1], -np.ones(len(rows))])
    bounds = np.append(np.full(n, -1.0), -4.0), np.append(np.full(n, 1.0), 1.0)
    tolerances = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    highs = linear_program(lifted, (-rows[:, -1], np.inf), bounds, tolerances, maximise=True)
    if solve(highs, np.append(np.zeros(n), 1.0)):
        return None, np.inf
    solution = highs.getSolution()
    v = np.clip(np.array(solution.col_value)[:-1], -1.0, 1.0)
    weights = np.abs(np.array(solution.row_dual))
    most = np.inf
    if weights.sum() > 0.0:
        weights /= weights.sum()
        most = float(weights @ rows[:, -1] + np.abs(weights @ rows[:, :-1]).sum()) + 1e-14 * len(rows)
    return (v if (rows[:, :-1] @ v + rows[:, -1]).min() > THIN / 2 else None), most
