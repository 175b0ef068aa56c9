"""Linear programs over one polyhedron for many costs, by HiGHS; whoever asks checks the answer by its dual."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

Minimiser = Callable[
    [Float[np.ndarray, "coordinates"]], tuple[Float[np.ndarray, "coordinates"] | None, Float[np.ndarray, "rows"]]
]


def minimiser(half_spaces: Float[np.ndarray, "rows homogeneous"]) -> Minimiser:
    """From the cost of a linear program over a cell to its solution, by HiGHS, each starting where the last one ended.

    Half-spaces of one variable, such as those of a box, become its bounds. The solution is None if HiGHS finds none;
    the dual solution, >= 0, is zero then or whatever HiGHS has.
    """
    import highspy

    normals, offsets = half_spaces[:, :-1], half_spaces[:, -1]
    columns = normals.shape[1]
    single = np.count_nonzero(normals, axis=1) == 1
    rows, slopes = np.flatnonzero(~single), normals[np.arange(len(normals)), np.abs(normals).argmax(axis=1)]
    low_rows, high_rows = (_tightest(half_spaces, single & (sign * slopes > 0.0)) for sign in (1.0, -1.0))
    lower, upper = np.full(columns, -np.inf), np.full(columns, np.inf)
    for bounds, tightest in ((lower, low_rows), (upper, high_rows)):
        bounds[tightest >= 0] = -(offsets / np.where(single, slopes, 1.0))[tightest[tightest >= 0]]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, len(rows)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.zeros(columns), lower, upper
    lp.row_lower_, lp.row_upper_ = -offsets[rows], np.full(len(rows), np.inf)
    at, column = np.nonzero(normals[rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.searchsorted(at, np.arange(len(rows) + 1))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = column, normals[rows[at], column]
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
    highs.setOptionValue("dual_feasibility_tolerance", 1e-9)
    highs.passModel(lp)
    changed = np.arange(columns, dtype=np.int32)

    def minimise(cost: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        highs.changeColsCost(columns, changed, cost)
        highs.run()
        solution, dual = highs.getSolution(), np.zeros(len(half_spaces))
        if len(solution.row_dual) == len(rows):
            dual[rows] = np.maximum(solution.row_dual, 0.0)
            # What is left of the cost is for the bounds to pay.
            reduced = cost - dual[rows] @ normals[rows]
            low, high = (low_rows >= 0) & (reduced > 0.0), (high_rows >= 0) & (reduced < 0.0)
            dual[low_rows[low]] = reduced[low] / slopes[low_rows[low]]
            dual[high_rows[high]] = reduced[high] / slopes[high_rows[high]]
        found = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return np.array(solution.col_value) if found else None, dual

    return minimise


def _tightest(
    half_spaces: Float[np.ndarray, "rows homogeneous"], bounding: Bool[np.ndarray, "rows"]
) -> Int[np.ndarray, "columns"]:
    """Which of the rows that bound one variable each, from one side, bounds each variable most; -1 for none."""
    rows = np.flatnonzero(bounding)
    sizes = np.abs(half_spaces[rows, :-1])
    order = np.argsort(-half_spaces[rows, -1] / sizes.max(axis=1), kind="stable")
    tightest = np.full(half_spaces.shape[1] - 1, -1)
    tightest[sizes.argmax(axis=1)[order]] = rows[order]
    return tightest
