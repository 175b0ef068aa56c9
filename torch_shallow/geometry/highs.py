"""Linear programs by HiGHS, through its own interface; callers check the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from highspy import Highs

Minimiser = Callable[
    [Float[np.ndarray, "coordinates"]], tuple[Float[np.ndarray, "coordinates"] | None, Float[np.ndarray, "rows"]]
]


def linear_program(
    rows: Float[np.ndarray, "rows columns"],
    sides: tuple[Float[np.ndarray, "rows"] | float, Float[np.ndarray, "rows"] | float],
    bounds: tuple[Float[np.ndarray, "columns"], Float[np.ndarray, "columns"]],
    options: dict[str, Any],
    *,
    maximise: bool = False,
) -> Highs:
    """Return a model of HiGHS without a cost.

    Args:
        rows: Linear functions that are bounded, besides the variables.
        sides: Lower and upper bounds of the rows, one for each or for all; an infinite one is no bound.
        bounds: Lower and upper bounds of the variables, likewise.
        options: Options of HiGHS.
        maximise: Whether to maximise the cost instead of minimising it.
    """
    import highspy

    highs, lp = highspy.Highs(), highspy.HighsLp()
    for option, value in {"output_flag": False, **options}.items():
        highs.setOptionValue(option, value)
    lp.num_row_, lp.num_col_ = rows.shape
    lp.sense_ = highspy.ObjSense.kMaximize if maximise else highspy.ObjSense.kMinimize
    lp.col_cost_ = np.zeros(rows.shape[1])
    lp.row_lower_, lp.row_upper_ = (np.full(len(rows), side) for side in sides)
    lp.col_lower_, lp.col_upper_ = bounds
    at, column = np.nonzero(rows)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.searchsorted(at, np.arange(len(rows) + 1))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = column, rows[at, column]
    highs.passModel(lp)
    return highs


def solve(highs: Highs, cost: Float[np.ndarray, "columns"]) -> str:
    """Solve a model for a cost, starting from the last solution; return the status, an empty text if it is optimal."""
    import highspy

    highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
    highs.run()
    status = highs.getModelStatus()
    return "" if status == highspy.HighsModelStatus.kOptimal else highs.modelStatusToString(status)


def of_one_variable(normals: Float[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows"]:
    """Return which rows bound a single variable."""
    return np.count_nonzero(normals, axis=1) == 1


def tightest(
    normals: Float[np.ndarray, "rows columns"], sides: Float[np.ndarray, "rows"]
) -> tuple[Int[np.ndarray, "columns"], Int[np.ndarray, "columns"]]:
    """Return the single-variable rows of `normals x <= sides` that bound each variable most, below and above.

    If several do, the first is returned; -1 if none does.
    """
    rows = np.flatnonzero(of_one_variable(normals))
    columns = np.abs(normals[rows]).argmax(axis=1)
    slopes = normals[rows, columns]
    loosest_first = np.lexsort((-rows, -sides[rows] / np.abs(slopes)))
    found = np.full((2, normals.shape[1]), -1)
    found[(slopes > 0.0).astype(int)[loosest_first], columns[loosest_first]] = rows[loosest_first]
    return found[0], found[1]


def minimiser(half_spaces: Float[np.ndarray, "rows homogeneous"]) -> Minimiser:
    """Return a function from costs to solutions of a linear program over a cell; each solve continues from the last.

    Half-spaces of one variable, such as those of a box, become its bounds. The solution is None if HiGHS finds none;
    the dual solution, >= 0, is then zero or whatever HiGHS has.
    """
    normals, offsets = half_spaces[:, :-1], half_spaces[:, -1]
    single, columns = of_one_variable(normals), np.arange(normals.shape[1])
    rows = np.flatnonzero(~single)
    low_rows, high_rows = tightest(-normals, offsets)
    lower, upper = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    for bounds, bounding in ((lower, low_rows), (upper, high_rows)):
        some = bounding >= 0
        bounds[some] = -(offsets[bounding[some]] / normals[bounding[some], columns[some]])
    tolerances = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
    highs = linear_program(normals[rows], (-offsets[rows], np.inf), (lower, upper), tolerances)

    def minimise(cost: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        status = solve(highs, cost)
        solution, dual = highs.getSolution(), np.zeros(len(half_spaces))
        if len(solution.row_dual) == len(rows):
            dual[rows] = np.maximum(solution.row_dual, 0.0)
            # The bounds account for the rest of the cost.
            reduced = cost - dual[rows] @ normals[rows]
            for bounding, pays in ((low_rows, reduced > 0.0), (high_rows, reduced < 0.0)):
                some = (bounding >= 0) & pays
                dual[bounding[some]] = reduced[some] / normals[bounding[some], columns[some]]
        return None if status else np.array(solution.col_value), dual

    return minimise
