"""Small dual simplex method for the linear programs of one cell, with a certificate for every answer.

The programs are alike: maximise a linear function over a box cut by a few half-spaces, with an interior point known in
advance. The bounded dual simplex method (Lemke 1954; Koberstein 2005) needs no first phase for these: with all
half-spaces slack, each variable at its better bound is dual feasible. A step continues from bound to bound as long as
that helps (the long-step rule: Maros 2003), so a box of hundreds of variables takes about as many pivots as it is cut
by half-spaces. Every pivot lowers an upper bound of the maximum, so most programs end early, once the bound is below
the target. A program may start from the basis where a similar one ended. Answers are checked rather than trusted: a
point by evaluating the inequalities, a bound by weak duality on the original data.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

BELOW = 0  # the maximum is at most the target: proven by multipliers
ABOVE = 1  # the point exceeds the target, as checked in all inequalities
FAILED = 2  # neither could be shown

FEASIBILITY = 1e-12
SMALLEST_PIVOT = 1e-9
LEAST_ENTRY = 1e-3  # half-spaces have length 1; one that depends less on each variable is not put into a first basis


class Simplex(Bundle):
    """Bounds of the variables, and work space for as many half-spaces as there are rows.

    The tableau is stored column by column, so that a step processes many rows at once.
    """

    lower: np.ndarray  # float64 (dimension,)
    upper: np.ndarray  # float64 (dimension,)
    rows: np.ndarray  # float64 (capacity, dimension): half-spaces `rows @ y >= 0`
    start: np.ndarray  # int64 (dimension + 1,): number of half-spaces that are at 0 in the first basis, and these
    stays: (
        np.ndarray
    )  # uint8 (dimension,): whether a variable is at a bound there, like all if there are no half-spaces
    tableau: np.ndarray  # float64 (dimension, capacity)
    cost: np.ndarray  # float64 (dimension,): the objective in the variables of the columns
    basic: np.ndarray  # int64 (capacity,): variable of each tableau row; half-space j is variable dimension + j
    values: np.ndarray  # float64 (capacity,): value of each row's variable
    least: np.ndarray  # float64 (capacity,): its bounds
    most: np.ndarray  # float64 (capacity,)
    loose: np.ndarray  # int64 (dimension,): variable of each column
    at: np.ndarray  # float64 (dimension,): value of each column's variable
    rests_high: np.ndarray  # uint8 (dimension,): whether this is its upper bound
    point: np.ndarray  # float64 (dimension,): the answer
    objective: np.ndarray  # float64 (dimension,): free for the caller
    price: np.ndarray  # float64 (dimension,): work space
    ratios: np.ndarray  # float64 (dimension,): work space, like all that follow
    slopes: np.ndarray  # float64 (dimension,)
    reaches: np.ndarray  # float64 (dimension,)
    order: np.ndarray  # int64 (dimension,)
    pivots: np.ndarray  # float64 (capacity,)


LANES = 8  # number of rows processed at a time


def room(lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"], capacity: int) -> Simplex:
    """Allocate linear programs with given bounds and at least `capacity` half-spaces."""
    dimension, capacity = len(lower), -(-max(capacity, 1) // LANES) * LANES
    at, point, objective, price, ratios, slopes, reaches, cost = np.zeros((8, dimension))
    values, least, most, pivots = np.zeros((4, capacity))
    sizes = capacity, dimension, dimension, dimension + 1
    basic, loose, order, start = (np.zeros(size, dtype=np.int64) for size in sizes)
    rows, tableau = np.zeros((capacity, dimension)), np.zeros((dimension, capacity))
    rests_high, stays = np.zeros((2, dimension), dtype=np.uint8)
    of_rows = rows, start, stays, tableau, cost, basic, values, least, most
    work = price, ratios, slopes, reaches, order, pivots
    return Simplex(lower, upper, *of_rows, loose, at, rests_high, point, objective, *work)


@compiled("contract", "reassoc", "nsz")
def maximise(simplex, count, objective, target, tolerance):
    """Decide whether the maximum of `objective @ y` over the box and the first `count` half-spaces exceeds `target`.

    Returns:
        BELOW, ABOVE with the point in `simplex.point`, or FAILED. `tolerance` is how far a proven bound may exceed the
        target, to allow for rounding.
    """
    dimension, wide = objective.shape[0], (count + LANES - 1) // LANES * LANES
    begin(simplex, count, wide, objective)
    fresh = True
    for _ in range(50 + 10 * (count + dimension)):
        bound = 0.0
        for i in range(dimension):
            bound += simplex.cost[i] * simplex.at[i]
        if bound <= target:
            return BELOW if proven_bound(simplex, objective) <= target + tolerance else FAILED
        worst = worst_violation(simplex, wide)
        if worst <= FEASIBILITY and not fresh:
            evaluate_rows(simplex, wide)
            fresh, worst = True, worst_violation(simplex, wide)
        if worst <= FEASIBILITY:
            return ABOVE if written_point(simplex, count, objective) > target else FAILED
        row = 0
        while row < count and max(simplex.least[row] - simplex.values[row], above(simplex, row)) < worst:
            row += 1
        if row == count:
            return FAILED
        rising = simplex.least[row] - simplex.values[row] >= worst
        column = entering(simplex, wide, row, rising, worst)
        if column < 0:
            return FAILED
        pivot(simplex, wide, row, column, rising)
        fresh = False
    return FAILED


@compiled()
def begin(simplex, count, wide, objective):
    """Start with the half-spaces of `start` at 0 and the others slack, and rows after the last never violated."""
    tableau, dimension = simplex.tableau, objective.shape[0]
    for j in range(wide):
        simplex.basic[j] = dimension + j
        simplex.least[j] = 0.0 if j < count else -np.inf
        simplex.most[j] = np.inf
    for i in range(dimension):
        for j in range(count):
            tableau[i, j] = simplex.rows[j, i]
        for j in range(count, wide):
            tableau[i, j] = 0.0
        simplex.cost[i] = objective[i]
        simplex.loose[i] = i
    for at in range(simplex.start[0]):
        tighten(simplex, wide, simplex.start[at + 1])
    rest(simplex)
    evaluate_rows(simplex, wide)


@compiled("contract", "nsz")
def tighten(simplex, wide, row):
    """Make a half-space tight, in place of the bound of the variable that it depends on most."""
    tableau, dimension = simplex.tableau, simplex.lower.shape[0]
    column, largest = -1, LEAST_ENTRY
    for i in range(dimension):
        variable = simplex.loose[i]
        if variable >= dimension or simplex.stays[variable] or simplex.lower[variable] == simplex.upper[variable]:
            continue
        if abs(tableau[i, row]) > largest:
            column, largest = i, abs(tableau[i, row])
    if column >= 0:
        swap(simplex, wide, row, column)


@compiled()
def rest(simplex):
    """Set the variables of columns to their better bounds; a half-space has an upper one that no point attains."""
    dimension = simplex.lower.shape[0]
    for i in range(dimension):
        variable, high = simplex.loose[i], simplex.cost[i] > 0.0
        simplex.rests_high[i] = high
        if variable < dimension:
            simplex.at[i] = simplex.upper[variable] if high else simplex.lower[variable]
        else:
            simplex.at[i] = 1.0 if high else 0.0
            if high:
                half_space = simplex.rows[variable - dimension]
                for k in range(dimension):
                    simplex.at[i] += max(half_space[k] * simplex.lower[k], half_space[k] * simplex.upper[k])


@compiled("contract", "nsz")
def evaluate_rows(simplex, wide):
    """Compute the value of each row's variable from those of the columns."""
    for j in range(wide):
        simplex.values[j] = 0.0
    for i in range(simplex.lower.shape[0]):
        add_column(simplex, wide, i, simplex.at[i])


@compiled("contract", "nsz")
def add_column(simplex, wide, column, step):
    """Update the values of the rows when a column's variable moves."""
    values, entries = simplex.values, simplex.tableau[column]
    for j in range(wide):
        values[j] += step * entries[j]


@compiled("contract", "reassoc", "nsz", "nnan")
def worst_violation(simplex, wide):
    """Return the greatest violation of a row variable's bounds; it is negative if all are between them."""
    values, least, most, worst = simplex.values, simplex.least, simplex.most, -np.inf
    for j in range(wide):
        worst = max(worst, max(least[j] - values[j], values[j] - most[j]))
    return worst


@compiled()
def above(simplex, row):
    """Return how far a row's variable is above its upper bound."""
    return simplex.values[row] - simplex.most[row]


@compiled()
def entering(simplex, wide, row, rising, violation):
    """Return the column whose variable replaces a violated row; -1 if there is none.

    Columns are considered by increasing cost. Those that do not yet repair the violation with their whole range are
    flipped to their other bound; the first that does repair it enters.
    """
    dimension, ratios, order = simplex.lower.shape[0], simplex.ratios, simplex.order
    slopes, reaches, stop = simplex.slopes, simplex.reaches, 0
    for i in range(dimension):
        variable = simplex.loose[i]
        width = simplex.upper[variable] - simplex.lower[variable] if variable < dimension else np.inf
        # How fast the row approaches its bound when the variable leaves its own.
        slope = simplex.tableau[i, row] if rising == (simplex.rests_high[i] == 0) else -simplex.tableau[i, row]
        if slope > SMALLEST_PIVOT and width > 0.0:
            ratios[i] = abs(simplex.cost[i]) / slope
            slopes[i], reaches[i] = slope, slope * width
            order[stop] = i
            stop += 1
    start = 0  # the column is in `order` from here to `stop`; all earlier ones are flipped
    while start < stop:
        middle = ratios[order[(start + stop) // 2]]
        cheaper, as_cheap = start, start
        cheaper_range, range_with_equals = 0.0, 0.0
        for k in range(start, stop):
            i = order[k]
            if ratios[i] > middle + 1e-12:
                continue
            range_with_equals += reaches[i]
            order[k] = order[as_cheap]
            if ratios[i] < middle - 1e-12:
                cheaper_range += reaches[i]
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
        if slopes[order[k]] > best:
            best, column = slopes[order[k]], order[k]
    for k in range(start):
        i, before = order[k], simplex.at[order[k]]
        simplex.rests_high[i] = not simplex.rests_high[i]
        simplex.at[i] = simplex.upper[simplex.loose[i]] if simplex.rests_high[i] else simplex.lower[simplex.loose[i]]
        add_column(simplex, wide, i, simplex.at[i] - before)
    return column


@compiled("contract", "nsz")
def pivot(simplex, wide, row, column, rising):
    """Exchange the variable of a row, which moves to its violated bound, with that of a column."""
    goal = simplex.least[row] if rising else simplex.most[row]
    step = (goal - simplex.values[row]) / simplex.tableau[column, row]
    add_column(simplex, wide, column, step)
    simplex.values[row] = simplex.at[column] + step
    simplex.at[column], simplex.rests_high[column] = goal, not rising
    swap(simplex, wide, row, column)


@compiled("contract", "nsz")
def swap(simplex, wide, row, column):
    """Exchange the variable of a row with that of a column in the tableau."""
    tableau, dimension, pivots = simplex.tableau, simplex.lower.shape[0], simplex.pivots
    for j in range(wide):  # a copy, so that the compiler sees that no other column overlaps it
        pivots[j] = tableau[column, j]
    factor = 1.0 / pivots[row]
    entered, left = simplex.loose[column], simplex.basic[row]
    simplex.least[row] = simplex.lower[entered] if entered < dimension else 0.0
    simplex.most[row] = simplex.upper[entered] if entered < dimension else np.inf
    simplex.basic[row], simplex.loose[column] = entered, left
    for i in range(dimension):
        if i != column:
            share, entries = -factor * tableau[i, row], tableau[i]
            if share != 0.0:
                for j in range(wide):
                    entries[j] += share * pivots[j]
            entries[row] = share
            simplex.cost[i] += share * simplex.cost[column]
    for j in range(wide):
        tableau[column, j] = factor * pivots[j]
    tableau[column, row] = factor
    simplex.cost[column] *= factor


@compiled()
def proven_bound(simplex, objective):
    """Return an upper bound of the objective by weak duality; only the multipliers come from the tableau."""
    dimension, price = objective.shape[0], simplex.price
    for i in range(dimension):
        price[i] = objective[i]
    for column in range(dimension):
        j = simplex.loose[column] - dimension
        if j >= 0:
            multiplier = max(0.0, -simplex.cost[column])
            for i in range(dimension):
                price[i] += multiplier * simplex.rows[j, i]
    bound = 0.0
    for i in range(dimension):
        bound += max(price[i] * simplex.lower[i], price[i] * simplex.upper[i])
    return bound


@compiled()
def written_point(simplex, count, objective):
    """Write the tableau's point and return its objective; -inf if it violates a half-space."""
    dimension = objective.shape[0]
    for i in range(dimension):
        if simplex.loose[i] < dimension:
            simplex.point[simplex.loose[i]] = simplex.at[i]
    for j in range(count):
        if simplex.basic[j] < dimension:
            simplex.point[simplex.basic[j]] = simplex.values[j]
    return feasible_point(simplex, count, objective)


@compiled("contract", "reassoc", "nsz")
def feasible_point(simplex, count, objective):
    """Clip the point to its bounds and return its objective; -inf if it violates a half-space."""
    dimension, point, total = objective.shape[0], simplex.point, 0.0
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
