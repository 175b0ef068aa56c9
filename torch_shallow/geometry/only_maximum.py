"""Maximum of a linear program as its basis gives it, whatever way led there."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.dual_simplex import LANES, SMALLEST_PIVOT, feasible_point, worst_violation

APART = 1e-7  # the best basis is the only one if its costs and its distances to other bounds exceed this


@compiled("contract", "nsz")
def only_maximum(simplex, count, objective):
    """Compute the point where `maximise` has ended from the set of its tight bounds, and return its objective.

    It is -inf if another point may be as good. Otherwise, the point does not depend on where `maximise` started.
    """
    dimension, wide, point = objective.shape[0], (count + LANES - 1) // LANES * LANES, simplex.point
    matrix, right, size = simplex.tableau, simplex.price, 0
    if worst_violation(simplex, wide) > -APART:
        return -np.inf
    for k in range(dimension):
        simplex.stays[k] = 0
    for i in range(dimension):
        variable, fixed = simplex.loose[i], False
        if variable < dimension:
            fixed = simplex.lower[variable] == simplex.upper[variable]
            simplex.stays[variable] = 1
            point[variable] = simplex.at[i]
        else:  # sorted
            at = size
            while at > 0 and simplex.order[at - 1] > variable:
                simplex.order[at] = simplex.order[at - 1]
                at -= 1
            simplex.order[at] = variable
            size += 1
        if not fixed and abs(simplex.cost[i]) < APART:
            return -np.inf
    for r in range(size):
        half_space, column = simplex.rows[simplex.order[r] - dimension], 0
        right[r] = 0.0
        for k in range(dimension):
            if simplex.stays[k]:
                right[r] -= half_space[k] * point[k]
            else:
                matrix[r, column] = half_space[k]
                column += 1
    if not eliminate(matrix, right, size):
        return -np.inf
    column = 0
    for k in range(dimension):
        if not simplex.stays[k]:
            point[k] = right[column]
            column += 1
    return feasible_point(simplex, count, objective)


@compiled("contract", "nsz")
def eliminate(matrix, right, size):
    """Solve linear equations in place; return whether they have a solution."""
    for k in range(size):
        pivot = k
        for r in range(k + 1, size):
            if abs(matrix[r, k]) > abs(matrix[pivot, k]):
                pivot = r
        if abs(matrix[pivot, k]) < SMALLEST_PIVOT:
            return False
        if pivot != k:
            right[k], right[pivot] = right[pivot], right[k]
            for c in range(k, size):
                matrix[k, c], matrix[pivot, c] = matrix[pivot, c], matrix[k, c]
        factor = 1.0 / matrix[k, k]
        for r in range(k + 1, size):
            share = factor * matrix[r, k]
            right[r] -= share * right[k]
            for c in range(k + 1, size):
                matrix[r, c] -= share * matrix[k, c]
    for k in range(size - 1, -1, -1):
        for c in range(k + 1, size):
            right[k] -= matrix[k, c] * right[c]
        right[k] /= matrix[k, k]
    return True
