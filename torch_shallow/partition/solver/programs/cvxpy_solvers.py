"""Any solver of cvxpy, through one parametrised problem that is compiled once for each capacity."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.partition.solver.programs.cell_program import Answer, CellProgram


class CvxpyProgram(CellProgram):
    """A linear program whose objective and rows are parameters (disciplined parametrised programming).

    The rows are padded with zeros up to a capacity; a path that outgrows it has the problem compiled again with twice
    as many. First-order solvers (SCS, OSQP) are asked for an accuracy that they may miss; then the check of
    `CellProgram` refuses their answer. They are for tolerances of 1e-6 or more.

    Args:
        lower: lower bounds.
        upper: upper bounds.
        tolerance: see `CellProgram`.
        solver: a name in `cvxpy.installed_solvers()`.
        capacity: number of rows to begin with.
    """

    def __init__(
        self,
        lower: Float[np.ndarray, "dimension"],
        upper: Float[np.ndarray, "dimension"],
        tolerance: float,
        solver: str,
        capacity: int = 32,
    ) -> None:
        super().__init__(lower, upper, tolerance)
        self.name = solver
        self._compile(capacity)

    def _compile(self, capacity: int) -> None:
        import cvxpy as cp

        fixed = self.lower == self.upper
        free = np.flatnonzero(~fixed)
        y = cp.Variable(len(self.lower))
        self._objective = cp.Parameter(len(self.lower))
        self._padded = cp.Parameter((capacity, len(self.lower)))
        self._above = self._padded @ y >= 0.0
        constraints = [self._above]
        if len(free):
            constraints += [y[free] >= self.lower[free], y[free] <= self.upper[free]]
        if fixed.any():
            constraints.append(y[np.flatnonzero(fixed)] == self.lower[fixed])
        self._point = y
        self._problem = cp.Problem(cp.Minimize(-self._objective @ y), constraints)

    def _like(self, lower: np.ndarray, upper: np.ndarray) -> CvxpyProgram:
        return CvxpyProgram(lower, upper, self.tolerance, self.name, self._padded.shape[0])

    def _solve(self, objective: Float[np.ndarray, "dimension"], *, careful: bool) -> Answer:
        import cvxpy as cp

        if self._count > self._padded.shape[0]:
            self._compile(2 * self._count)
        padded = np.zeros(self._padded.shape)
        padded[: self._count] = self.rows
        self._padded.value, self._objective.value = padded, objective
        settings = _settings(self.name, 0.01 * self.tolerance, 10 if careful else 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": accuracy is checked, not believed
            try:
                self._problem.solve(solver=self.name, warm_start=not careful, **settings)
            except cp.error.SolverError as error:
                return Answer(None, None, str(error))
        status = str(self._problem.status)
        if self._point.value is None or self._above.dual_value is None or not status.startswith(cp.OPTIMAL):
            return Answer(None, None, status)
        return Answer(self._point.value, self._above.dual_value[: self._count], status)


def check_installed(solver: str) -> str:
    """The name of a solver as cvxpy writes it.

    Raises:
        TransformError: it is not installed.
    """
    import cvxpy as cp

    installed = cp.installed_solvers()
    if not isinstance(solver, str) or solver.upper() not in installed:
        raise TransformError(
            f"solver: expected None (HiGHS, driven directly) or a name in cvxpy.installed_solvers(), which are "
            f"{', '.join(installed)}; found {solver!r}."
        )
    return solver.upper()


def _settings(solver: str, accuracy: float, effort: int) -> dict[str, Any]:
    """How each solver is asked for an accuracy; a solver not listed keeps its own."""
    settings: dict[str, dict[str, Any]] = {
        "CLARABEL": {"tol_gap_abs": accuracy, "tol_gap_rel": accuracy, "tol_feas": accuracy, "max_iter": 200 * effort},
        "SCS": {"eps_abs": accuracy, "eps_rel": accuracy, "max_iters": 20_000 * effort},
        "OSQP": {"eps_abs": accuracy, "eps_rel": accuracy, "max_iter": 20_000 * effort, "polishing": True},
        "ECOS": {"abstol": accuracy, "reltol": accuracy, "feastol": accuracy, "max_iters": 200 * effort},
        "HIGHS": {
            "primal_feasibility_tolerance": max(accuracy, 1e-10),
            "dual_feasibility_tolerance": max(accuracy, 1e-10),
        },
        "GUROBI": {"FeasibilityTol": 1e-9, "OptimalityTol": 1e-9},
    }
    return settings.get(solver, {})
