"""Dual simplex method for linear programs whose variables are all bounded; it starts from any basis.

With every variable between two finite bounds, each basis is dual feasible once the variables outside it rest at the
bounds that their reduced costs ask for. So a program may be changed in any way (bounds, rows and objective) and solved
on from where it was, with a handful of pivots for a child of a search tree. Every step is a step of the dual, whose
objective is an upper bound of the maximum, so a program may be left as soon as it is below the target. Steps continue
from bound to bound as long as that helps (the long-step rule: Maros 2003), and the leaving row is the one furthest out
relative to its length (steepest edge: Forrest & Goldfarb 1992).

The result is not trusted: callers take the multipliers and compute the bound by weak duality.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

OPTIMAL = 0  # no variable is outside of its bounds
BELOW = 1  # the bound is at most the target
EMPTY = 2  # no point satisfies all bounds, up to tolerance, as the row in `out` shows
STUCK = 3  # too many steps: the bound is valid but not the least one

OUTSIDE = 1e-9  # how far a variable may leave its bounds
SMALLEST_PIVOT = 1e-8


class BoxedProgram(Bundle):
    """Maximise an affine function of variables v between bounds; each row is a further variable, r = A v + a.

    Variables are numbered, first those of columns, then those of rows. Each row of the tableau expresses a basic
    variable, or in the last row the objective, as an affine function of the variables outside the basis and of the
    constant 1, which is the last column.
    """

    lower: np.ndarray  # float64 (columns + rows,)
    upper: np.ndarray  # float64 (columns + rows,)
    tableau: np.ndarray  # float64 (rows + 1, columns + 1)
    loose: np.ndarray  # int64 (columns,): variable of each column
    basic: np.ndarray  # int64 (rows,): variable of each row
    place: np.ndarray  # int64 (columns + rows,): column of a variable, or -1 - row
    at: np.ndarray  # float64 (columns + 1,): value of each column's variable; 1 at the end
    value: np.ndarray  # float64 (rows + 1,): value of each row's variable, and of the objective
    ratios: np.ndarray  # float64 (columns,): work space
    order: np.ndarray  # int64 (columns,): work space
    pivots: np.ndarray  # float64 (columns + 1,): work space
    out: np.ndarray  # int64 (2,): row that proves that there is no point; 1 if its variable is below its bound


def room(columns: int, rows: int) -> BoxedProgram:
    """Allocate a program of this size, all zero."""
    variables = columns + rows
    return BoxedProgram(
        np.zeros(variables),
        np.zeros(variables),
        np.zeros((rows + 1, columns + 1)),
        np.zeros(columns, dtype=np.int64),
        np.zeros(rows, dtype=np.int64),
        np.zeros(variables, dtype=np.int64),
        np.ones(columns + 1),
        np.zeros(rows + 1),
        np.zeros(columns),
        np.zeros(columns, dtype=np.int64),
        np.zeros(columns + 1),
        np.zeros(2, dtype=np.int64),
    )


@compiled()
def begin(lp):
    """Declare the current tableau to be that of the basis of all rows."""
    columns, rows = lp.loose.shape[0], lp.basic.shape[0]
    for q in range(columns):
        lp.loose[q] = q
        lp.place[q] = q
    for r in range(rows):
        lp.basic[r] = columns + r
        lp.place[columns + r] = -1 - r


@compiled("contract", "reassoc", "nsz")
def dot(a, b):
    """Return the sum of products."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@compiled()
def rest(lp):
    """Set variables outside the basis to the bounds that their reduced costs ask for, and compute all values."""
    columns, rows = lp.loose.shape[0], lp.basic.shape[0]
    for q in range(columns):
        variable, cost = lp.loose[q], lp.tableau[rows, q]
        low, high = lp.lower[variable], lp.upper[variable]
        if cost > 0.0:
            lp.at[q] = high
        elif cost < 0.0:
            lp.at[q] = low
        else:
            lp.at[q] = high if lp.at[q] >= high else low
    for r in range(rows + 1):
        lp.value[r] = dot(lp.tableau[r], lp.at)


@compiled()
def set_objective(lp, objective):
    """Set another objective, an affine function of the variables of columns and of the constant 1."""
    columns, rows = lp.loose.shape[0], lp.basic.shape[0]
    cost = lp.tableau[rows]
    for q in range(columns):
        cost[q] = 0.0
    cost[columns] = objective[columns]
    for variable in range(columns):
        slope = objective[variable]
        if slope != 0.0:
            place = lp.place[variable]
            if place >= 0:
                cost[place] += slope
            else:
                row = lp.tableau[-1 - place]
                for q in range(columns + 1):
                    cost[q] += slope * row[q]


@compiled("contract", "nsz")
def pivot(lp, row, column):
    """Exchange the variable of a row with that of a column, without updating values."""
    tableau, rows = lp.tableau, lp.basic.shape[0]
    width = tableau.shape[1]
    own = lp.pivots  # a copy of the row: the compiler vectorises the loop below if no other row can overlap it
    factor = 1.0 / tableau[row, column]
    for q in range(width):
        own[q] = -factor * tableau[row, q]
    own[column] = factor
    for q in range(width):
        tableau[row, q] = own[q]
    for r in range(rows + 1):
        if r != row:
            other = tableau[r]
            share = other[column]
            if share != 0.0:
                other[column] = 0.0
                for q in range(width):
                    other[q] += share * own[q]
    leaving, entering = lp.basic[row], lp.loose[column]
    lp.basic[row], lp.loose[column] = entering, leaving
    lp.place[entering], lp.place[leaving] = -1 - row, column


@compiled("contract", "reassoc", "nsz")
def most_outside(lp, weak):
    """Return the row whose variable is furthest outside its bounds, relative to the row's length; -1 if none is."""
    rows, columns = lp.basic.shape[0], lp.loose.shape[0]
    best, found = 0.0, -1
    for r in range(rows):
        variable = lp.basic[r]
        outside = max(lp.lower[variable] - lp.value[r], lp.value[r] - lp.upper[variable])
        if outside > weak:
            square = 1.0
            row = lp.tableau[r]
            for q in range(columns):
                square += row[q] * row[q]
            score = outside * outside / square
            if score > best:
                best, found = score, r
    return found


@compiled()
def mending(lp, row, column, sign):
    """Return how fast `sign` times a row's variable rises when a column's variable leaves its bound; 0 if it cannot."""
    variable = lp.loose[column]
    low, high = lp.lower[variable], lp.upper[variable]
    if high <= low:
        return 0.0
    slope = sign * lp.tableau[row, column]
    return slope if lp.at[column] <= low else -slope


@compiled()
def entering_column(lp, row, sign, violation, outside):
    """Choose the column that replaces a violated row, by the long-step rule; -1 if all together do not repair the row.

    The cheapest columns that do not repair it with their whole range are flipped to their other bounds; the values of
    the rows are not updated here. The flipped columns are the first `out[0]` entries of `order`.
    """
    columns, rows = lp.loose.shape[0], lp.basic.shape[0]
    ratios, order, costs = lp.ratios, lp.order, lp.tableau[rows]
    count = 0
    for q in range(columns):
        slope = mending(lp, row, q, sign)
        if slope > SMALLEST_PIVOT:
            ratios[q] = abs(costs[q]) / slope
            order[count] = q
            count += 1
    flipped = 0
    while flipped < count:
        least = flipped
        for k in range(flipped + 1, count):
            if ratios[order[k]] < ratios[order[least]]:
                least = k
        limit, best, chosen = ratios[order[least]] + 1e-12, 0.0, least
        for k in range(flipped, count):  # among equally cheap columns, the one with the largest pivot
            if ratios[order[k]] <= limit:
                slope = mending(lp, row, order[k], sign)
                if slope > best:
                    best, chosen = slope, k
        q = order[chosen]
        variable = lp.loose[q]
        violation -= best * (lp.upper[variable] - lp.lower[variable])
        order[chosen] = order[flipped]
        order[flipped] = q
        if violation <= 0.0:
            lp.out[0] = flipped
            return q
        flipped += 1
    if count and violation <= outside:  # all of them together repair it up to rounding
        lp.out[0] = count - 1
        return order[count - 1]
    lp.out[0] = 0
    return -1


@compiled("contract", "reassoc", "nsz")
def step(lp, row, column, sign):
    """Flip columns to their other bounds, and move a row's variable to its own bound in exchange for a column's."""
    rows, flipped = lp.basic.shape[0], lp.out[0]
    if flipped:
        for k in range(flipped):
            q = lp.order[k]
            variable = lp.loose[q]
            low, high = lp.lower[variable], lp.upper[variable]
            lp.ratios[k] = high - low if lp.at[q] <= low else low - high
            lp.at[q] = high if lp.at[q] <= low else low
        for r in range(rows + 1):
            other, total = lp.tableau[r], 0.0
            for k in range(flipped):
                total += other[lp.order[k]] * lp.ratios[k]
            lp.value[r] += total
    leaving = lp.basic[row]
    bound = lp.lower[leaving] if sign > 0.0 else lp.upper[leaving]
    by = (bound - lp.value[row]) / lp.tableau[row, column]
    entered = lp.at[column] + by
    for r in range(rows + 1):
        lp.value[r] += lp.tableau[r, column] * by
    pivot(lp, row, column)
    lp.value[row] = entered
    lp.at[column] = bound


@compiled()
def maximise(lp, target, most_steps, outside):
    """Step from a dual feasible basis until the maximum is found or the bound is at most a target.

    Variables may leave their bounds by `outside`: use `OUTSIDE` unless there is a reason to be lenient.

    Returns:
        OPTIMAL, BELOW, EMPTY or STUCK. The objective, `value[-1]`, is an upper bound in the first and last case.
    """
    rows = lp.basic.shape[0]
    for _ in range(most_steps):
        if lp.value[rows] <= target:
            return BELOW
        row = most_outside(lp, outside)
        if row < 0:
            return OPTIMAL
        variable = lp.basic[row]
        sign = 1.0 if lp.value[row] < lp.lower[variable] else -1.0
        violation = lp.lower[variable] - lp.value[row] if sign > 0.0 else lp.value[row] - lp.upper[variable]
        column = entering_column(lp, row, sign, violation, outside)
        if column < 0:
            lp.out[0], lp.out[1] = row, sign > 0.0
            return EMPTY
        step(lp, row, column, sign)
    return STUCK
