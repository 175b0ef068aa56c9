"""Best mixture of the vertices of a cell on which everything is affine, by a small linear program."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.geometry.highs import linear_program, solve


def best_mixture(
    rows: Float[np.ndarray, "rows vertices"], num_goals: int
) -> tuple[Float[np.ndarray, "vertices"] | None, float]:
    """Find the mixture of vertices with the greatest least goal, subject to non-negative constraints.

    The solver's solution is a candidate, and the bound is what its multipliers prove, however accurate they are.

    Args:
        rows: Values of the goals, then of the constraints, at each vertex.
        num_goals: Number of rows that are goals.

    Returns:
        Weights of the vertices, or None if the solver finds none; and an upper bound, -inf if there is no mixture.
    """
    feasible, multipliers = _solve(rows, num_goals)
    of_goals = multipliers[:num_goals].sum()
    bound = float((multipliers @ rows).max() / of_goals) if of_goals > 0.0 else np.inf
    if feasible is None and num_goals < len(rows):
        _, multipliers = _solve(rows[num_goals:], len(rows) - num_goals)
        if (multipliers @ rows[num_goals:]).max() < 0.0:
            bound = -np.inf
    return feasible, bound


def inner_mixture(constraints: Float[np.ndarray, "rows vertices"]) -> Float[np.ndarray, "vertices"]:
    """Return a mixture of all vertices where all constraints are positive if they are so anywhere."""
    count = constraints.shape[1]
    middle = np.full(count, 1.0 / count)
    if len(constraints) == 0:
        return middle
    deepest, _ = best_mixture(constraints, len(constraints))
    depth = -np.inf if deepest is None else (constraints @ deepest).min()
    if deepest is None or depth <= 0.0:
        return middle
    broken = max(0.0, -(constraints @ middle).min())
    return deepest + 0.5 * depth / (depth + broken) * (middle - deepest)


def _solve(
    rows: Float[np.ndarray, "rows vertices"], num_goals: int
) -> tuple[Float[np.ndarray, "vertices"] | None, Float[np.ndarray, "rows"]]:
    """Return non-negative weights of the vertices and multipliers of the rows."""
    count = rows.shape[1]
    level = np.where(np.arange(len(rows)) < num_goals, -1.0, 0.0)
    matrix = np.concatenate([np.column_stack([rows, level]), [[*np.ones(count), 0.0]]])
    sides = np.append(np.zeros(len(rows)), 1.0), np.append(np.full(len(rows), np.inf), 1.0)
    bounds = np.append(np.zeros(count), -np.inf), np.full(count + 1, np.inf)
    highs = linear_program(matrix, sides, bounds, {"presolve": "off"}, maximise=True)
    status = solve(highs, np.append(np.zeros(count), 1.0))
    solution = highs.getSolution()
    dual = np.abs(solution.row_dual)[: len(rows)] if len(solution.row_dual) else np.zeros(len(rows))
    if status:
        return None, dual
    weights = np.maximum(solution.col_value[:count], 0.0)
    return weights / weights.sum(), dual
