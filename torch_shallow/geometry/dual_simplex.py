"""A small dual simplex method for the linear programs of one cell, with a certificate for every answer.

The programs are alike: maximise a linear function over a box cut by a few half-spaces, with a point inside known
beforehand. The bounded dual simplex method (Lemke 1954; Koberstein 2005) needs no first phase for these: with all
half-spaces slack, each variable at its better bound is dual feasible. A step goes on from bound to bound as long as it
helps (the long-step rule: Maros 2003), so a box of hundreds of variables takes about as many pivots as it is cut by
half-spaces. Every pivot lowers an upper bound on the maximum, so most programs end early: as soon as the bound is below
what is asked. Answers are not believed but checked:
a point by putting it into the inequalities, a bound by weak duality on the original data.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

BELOW = 0  # the maximum is at most the target: proven by multipliers
ABOVE = 1  # the point exceeds the target: it was put into all inequalities
FAILED = 2  # neither could be shown

FEASIBILITY = 1e-12
SMALLEST_PIVOT = 1e-9


class Simplex(Bundle):
    """Bounds of the variables, and work space for up to as many half-spaces as there are rows."""

    lower: np.ndarray  # float64 (dimension,)
    upper: np.ndarray  # float64 (dimension,)
    rows: np.ndarray  # float64 (capacity, dimension): half-spaces `rows @ y >= 0`
    tableau: np.ndarray  # float64 (capacity + 1, dimension)
    basic: np.ndarray  # int64 (capacity,): variable of each tableau row; half-space j is variable dimension + j
    loose: np.ndarray  # int64 (dimension,): variable of each column
    at: np.ndarray  # float64 (dimension,): value of each column's variable
    rests_high: np.ndarray  # uint8 (dimension,): whether it is at its upper bound
    point: np.ndarray  # float64 (dimension,): the answer
    objective: np.ndarray  # float64 (dimension,): for the caller
    price: np.ndarray  # float64 (dimension,): work space
    ratios: np.ndarray  # float64 (dimension,): work space
    order: np.ndarray  # int64 (dimension,): work space


def room(lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"], capacity: int) -> Simplex:
    """Room for linear programs of up to so many half-spaces between some bounds."""
    dimension = len(lower)
    at, point, objective, price, ratios = np.zeros((5, dimension))
    basic, loose, order = (np.zeros(size, dtype=np.int64) for size in (capacity, dimension, dimension))
    rows, tableau = np.zeros((capacity, dimension)), np.zeros((capacity + 1, dimension))
    rests_high = np.zeros(dimension, dtype=np.uint8)
    return Simplex(lower, upper, rows, tableau, basic, loose, at, rests_high, point, objective, price, ratios, order)


@compiled("contract", "reassoc", "nsz")
def maximise(simplex, count, objective, target, tolerance):
    """Whether the maximum of `objective @ y` over the box and the first `count` half-spaces exceeds `target`.

    Returns:
        BELOW, ABOVE with the point in `simplex.point`, or FAILED. `tolerance` is how far beyond the target a proven
        bound may be, for rounding.
    """
    tableau, basic, loose, at, rests_high = (
        simplex.tableau,
        simplex.basic,
        simplex.loose,
        simplex.at,
        simplex.rests_high,
    )
    dimension = objective.shape[0]
    for j in range(count):
        basic[j] = dimension + j
        for i in range(dimension):
            tableau[j, i] = simplex.rows[j, i]
    for i in range(dimension):
        tableau[count, i] = objective[i]
        loose[i] = i
        rests_high[i] = objective[i] > 0.0
        at[i] = simplex.upper[i] if objective[i] > 0.0 else simplex.lower[i]
    for _ in range(50 + 10 * (count + dimension)):
        bound = 0.0
        for i in range(dimension):
            bound += tableau[count, i] * at[i]
        if bound <= target:
            return BELOW if proven_bound(simplex, count, objective) <= target + tolerance else FAILED
        worst, row, rising = FEASIBILITY, -1, True
        for j in range(count):
            value = 0.0
            for i in range(dimension):
                value += tableau[j, i] * at[i]
            variable = basic[j]
            below, above = -value, -1.0
            if variable < dimension:
                below, above = simplex.lower[variable] - value, value - simplex.upper[variable]
            if below > worst:
                worst, row, rising = below, j, True
            if above > worst:
                worst, row, rising = above, j, False
        if row < 0:
            return ABOVE if feasible_point(simplex, count, objective) > target else FAILED
        column = entering(simplex, count, row, rising, worst)
        if column < 0:
            return FAILED
        pivot(simplex, count, row, column, rising)
    return FAILED


@compiled()
def entering(simplex, count, row, rising, violation):
    """The column whose variable takes over from a violated row; -1 if there is none.

    Columns come in by what they cost. Those that cost least, and with their whole range do not mend the violation yet,
    go over to their other bound; the first that does mend it enters.
    """
    tableau, dimension, ratios, order = simplex.tableau, simplex.lower.shape[0], simplex.ratios, simplex.order
    stop = 0
    for i in range(dimension):
        slope = mending(simplex, row, i, rising)
        if slope > SMALLEST_PIVOT:
            ratios[i] = abs(tableau[count, i]) / slope
            order[stop] = i
            stop += 1
    start = 0  # the column is in `order` from here to `stop`; all before go over
    while start < stop:
        middle = ratios[order[(start + stop) // 2]]
        cheaper, as_cheap = start, start
        cheaper_range, range_with_equals = 0.0, 0.0
        for k in range(start, stop):
            i = order[k]
            if ratios[i] > middle + 1e-12:
                continue
            reach = mending(simplex, row, i, rising) * reach_of(simplex, i)
            range_with_equals += reach
            order[k] = order[as_cheap]
            if ratios[i] < middle - 1e-12:
                cheaper_range += reach
                order[as_cheap] = order[cheaper]
                order[cheaper] = i
                cheaper += 1
            else:
                order[as_cheap] = i
            as_cheap += 1
        if cheaper_range >= violation:
            stop = cheaper
        elif range_with_equals >= violation or as_cheap == stop:
            start, stop = cheaper, as_cheap
            break
        else:
            start, violation = as_cheap, violation - range_with_equals
    best, column = 0.0, -1
    for k in range(start, stop):
        slope = mending(simplex, row, order[k], rising)
        if slope > best:
            best, column = slope, order[k]
    for k in range(start):
        i = order[k]
        simplex.rests_high[i] = not simplex.rests_high[i]
        simplex.at[i] = simplex.upper[simplex.loose[i]] if simplex.rests_high[i] else simplex.lower[simplex.loose[i]]
    return column


@compiled()
def mending(simplex, row, column, rising):
    """How fast a violated row comes closer to its bound when a column's variable leaves its own bound."""
    variable = simplex.loose[column]
    if variable < simplex.lower.shape[0] and simplex.lower[variable] == simplex.upper[variable]:
        return 0.0
    slope = simplex.tableau[row, column] if rising else -simplex.tableau[row, column]
    return -slope if simplex.rests_high[column] else slope


@compiled()
def reach_of(simplex, column):
    """How far the variable of a column can go."""
    variable = simplex.loose[column]
    return simplex.upper[variable] - simplex.lower[variable] if variable < simplex.lower.shape[0] else np.inf


@compiled("contract", "nsz")
def pivot(simplex, count, row, column, rising):
    """Exchange the variable of a row, which goes to its violated bound, with that of a column."""
    tableau, dimension = simplex.tableau, simplex.lower.shape[0]
    factor = 1.0 / tableau[row, column]
    for i in range(dimension):
        tableau[row, i] *= -factor
    tableau[row, column] = factor
    for j in range(count + 1):
        if j != row:
            share = tableau[j, column]
            if share != 0.0:
                tableau[j, column] = 0.0
                for i in range(dimension):
                    tableau[j, i] += share * tableau[row, i]
    leaving = simplex.basic[row]
    simplex.basic[row] = simplex.loose[column]
    simplex.loose[column] = leaving
    simplex.rests_high[column] = not rising
    if leaving >= dimension:
        simplex.at[column] = 0.0
    else:
        simplex.at[column] = simplex.lower[leaving] if rising else simplex.upper[leaving]


@compiled()
def proven_bound(simplex, count, objective):
    """An upper bound of the objective by weak duality: multipliers from the tableau, everything else as given."""
    dimension, price = objective.shape[0], simplex.price
    for i in range(dimension):
        price[i] = objective[i]
    for column in range(dimension):
        j = simplex.loose[column] - dimension
        if j >= 0:
            multiplier = max(0.0, -simplex.tableau[count, column])
            for i in range(dimension):
                price[i] += multiplier * simplex.rows[j, i]
    bound = 0.0
    for i in range(dimension):
        bound += max(price[i] * simplex.lower[i], price[i] * simplex.upper[i])
    return bound


@compiled()
def feasible_point(simplex, count, objective):
    """Write the tableau's point, put into its bounds, and return its objective; -inf if it violates a half-space."""
    dimension, point = objective.shape[0], simplex.point
    for i in range(dimension):
        if simplex.loose[i] < dimension:
            point[simplex.loose[i]] = simplex.at[i]
    for j in range(count):
        if simplex.basic[j] < dimension:
            value = 0.0
            for i in range(dimension):
                value += simplex.tableau[j, i] * simplex.at[i]
            point[simplex.basic[j]] = value
    total = 0.0
    for i in range(dimension):
        point[i] = min(max(point[i], simplex.lower[i]), simplex.upper[i])
        total += objective[i] * point[i]
    for j in range(count):
        value = 0.0
        for i in range(dimension):
            value += simplex.rows[j, i] * point[i]
        if value < -10.0 * FEASIBILITY:
            return -np.inf
    return total
