"""Which half-spaces of a polyhedron are facets, by linear programs, in any number of dimensions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError


def irredundant(
    a: Float[np.ndarray, "rows inputs"],
    b: Float[np.ndarray, "rows"],
    point: Float[np.ndarray, "inputs"],
    tolerance: float = 1e-9,
) -> Bool[np.ndarray, "rows"]:
    """Which rows of `a x <= b` cannot be left out; of several with one hyperplane, only the first.

    A row is needed for sure if the way from the point straight to its hyperplane meets no other one before. From the
    last row to the first, each other row is left out if the others keep its value below its bound.

    Args:
        a: rows, none of them zero.
        b: right-hand sides.
        point: a point in the interior.
        tolerance: how far a half-space must reach beyond the others to be needed, relative to their median distance.

    Raises:
        TransformError: HiGHS does not solve a linear program.
    """
    norms = np.linalg.norm(a, axis=1)
    normals, slack = a / norms[:, None], (b - a @ point) / norms
    if not len(slack):
        return np.zeros(0, dtype=bool)
    slack /= np.median(slack)
    program, needed = _Program(normals, slack), np.ones(len(slack), dtype=bool)
    for row in range(len(slack) - 1, -1, -1):
        along = normals @ normals[row]
        along[row] = 0.0
        beyond = along * slack[row] < slack * (1.0 - 1e-6)
        if not beyond[needed & (along > 0.0)].all():
            needed[row] = program.reach(row) > slack[row] + tolerance
            if not needed[row]:
                program.drop(row)
    return needed


class _Program:
    """The linear program over `normals x <= slack`, by HiGHS, each time started where the last one ended."""

    def __init__(self, normals: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"]) -> None:
        import highspy

        rows, columns = normals.shape
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, rows
        lp.sense_ = highspy.ObjSense.kMaximize
        lp.col_cost_ = np.zeros(columns)
        lp.col_lower_, lp.col_upper_ = np.full(columns, -np.inf), np.full(columns, np.inf)
        lp.row_lower_, lp.row_upper_ = np.full(rows, -np.inf), slack
        at, column = np.nonzero(normals)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.searchsorted(at, np.arange(rows + 1))
        lp.a_matrix_.index_, lp.a_matrix_.value_ = column, normals[at, column]
        self._highs, self._optimal = highspy.Highs(), highspy.HighsModelStatus.kOptimal
        for option, value in (("output_flag", False), ("primal_feasibility_tolerance", 1e-10)):
            self._highs.setOptionValue(option, value)
        self._highs.passModel(lp)
        self._normals, self._slack = normals, slack
        self._columns = np.arange(columns, dtype=np.int32)

    def reach(self, row: int) -> float:
        """The largest value of a row where the others hold, and it itself does up to one more than it should.

        Raises:
            TransformError: HiGHS does not find it.
        """
        self._highs.changeColsCost(len(self._columns), self._columns, self._normals[row])
        self._highs.changeRowBounds(row, -np.inf, self._slack[row] + 1.0)
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != self._optimal:
            raise TransformError(
                f"solver: HiGHS ended with {self._highs.modelStatusToString(status)} in a linear program for a facet."
            )
        x = np.array(self._highs.getSolution().col_value)
        self._highs.changeRowBounds(row, -np.inf, self._slack[row])
        return float(self._normals[row] @ x)

    def drop(self, row: int) -> None:
        """Leave out a row."""
        self._highs.changeRowBounds(row, -np.inf, np.inf)
