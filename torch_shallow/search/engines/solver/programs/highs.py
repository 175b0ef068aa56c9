"""HiGHS through its own interface: one model, kept warm from one program to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.search.engines.solver.programs.cell_program import Answer, CellProgram


class HighsProgram(CellProgram):
    """The simplex method of HiGHS, started from the last basis.

    The objective is changed in place, rows are added and deleted at the end.
    """

    name = "HiGHS"

    def __init__(
        self, lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"], tolerance: float
    ) -> None:
        import highspy

        super().__init__(lower, upper, tolerance)
        self._highs = highspy.Highs()
        self._infinity = highspy.kHighsInf
        self._optimal = highspy.HighsModelStatus.kOptimal
        accuracy = max(1e-10, min(1e-7, 0.1 * tolerance))
        options: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "presolve": "off",
            "solver": "simplex",
            "simplex_scale_strategy": 0,  # rows are unit vectors already
            "small_matrix_value": 1e-12,
            "primal_feasibility_tolerance": accuracy,
            "dual_feasibility_tolerance": accuracy,
            "simplex_strategy": 4,  # primal: the last vertex often stays feasible, never optimal
        }
        for option, value in options.items():
            self._highs.setOptionValue(option, value)
        self._highs.addVars(len(lower), lower, upper)
        self._columns = np.arange(len(lower), dtype=np.int32)

    def push(self, row: Float[np.ndarray, "dimension"]) -> None:
        """Add a row to the model."""
        super().push(row)
        self._highs.addRow(0.0, self._infinity, len(row), self._columns, row)

    def truncate(self, count: int) -> None:
        """Delete the last rows of the model."""
        if count < self._count:
            self._highs.deleteRows(self._count - count, np.arange(count, self._count, dtype=np.int32))
        super().truncate(count)

    def forget(self) -> None:
        """Forget the last basis."""
        super().forget()
        self._highs.clearSolver()

    def _like(self, lower: np.ndarray, upper: np.ndarray) -> HighsProgram:
        return HighsProgram(lower, upper, self.tolerance)

    def _solve(self, objective: Float[np.ndarray, "dimension"], *, careful: bool) -> Answer:
        highs = self._highs
        highs.changeColsCost(len(objective), self._columns, -objective)
        if careful:  # from scratch, and by the dual method
            highs.clearSolver()
            highs.setOptionValue("simplex_strategy", 1)
        highs.run()
        if careful:
            highs.setOptionValue("simplex_strategy", 4)
        status = highs.getModelStatus()
        if status != self._optimal:
            return Answer(None, None, highs.modelStatusToString(status))
        solution = highs.getSolution()
        return Answer(np.array(solution.col_value), np.array(solution.row_dual), "Optimal")
