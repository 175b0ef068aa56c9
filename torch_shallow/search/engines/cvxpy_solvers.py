"""Any solver of cvxpy, through one parametrised problem that is compiled once for each capacity."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.search.engines.cell_program import Answer, CellProgram


class _Compiled(NamedTuple):
    """A problem of cvxpy, its parameters, and what is read off its solution."""

    problem: Any
    objective: Any
    padded: Any
    above: Any  # the constraints of the rows
    point: Any


class ByCvxpy:
    """Linear programs whose objective and rows are parameters (disciplined parametrised programming).

    The rows are padded with zeros up to a capacity; for cells that outgrow it there is another problem, of twice the
    capacity. First-order solvers (SCS, OSQP) are asked for an accuracy that they may miss; then the check of `Solver`
    refuses their answer. They are for tolerances of 1e-6 or more.

    Args:
        solver: a name in `cvxpy.installed_solvers()`.
        lower: lower bounds of all programs.
        upper: upper bounds of all programs.
    """

    def __init__(
        self, solver: str, lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"]
    ) -> None:
        self.solver, self.lower, self.upper = solver, lower, upper
        self._compiled: dict[int, _Compiled] = {}

    def __call__(
        self, program: CellProgram, objective: Float[np.ndarray, "dimension"], tolerance: float, careful: bool
    ) -> Answer:
        """Maximise; nothing is kept from one program to the next."""
        import cvxpy as cp

        count, capacity = len(program.rows), 32
        while capacity < count:
            capacity *= 2
        if capacity not in self._compiled:
            self._compiled[capacity] = self._compile(capacity)
        compiled = self._compiled[capacity]
        padded = np.zeros(compiled.padded.shape)
        padded[:count] = program.rows
        compiled.padded.value, compiled.objective.value = padded, objective
        settings = _settings(self.solver, 0.01 * tolerance, 10 if careful else 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": accuracy is checked, not believed
            try:
                compiled.problem.solve(solver=self.solver, warm_start=False, **settings)
            except cp.error.SolverError as error:
                return Answer(None, None, str(error))
        status = str(compiled.problem.status)
        if compiled.point.value is None or compiled.above.dual_value is None or not status.startswith(cp.OPTIMAL):
            return Answer(None, None, status)
        return Answer(compiled.point.value, compiled.above.dual_value[:count], status)

    def _compile(self, capacity: int) -> _Compiled:
        import cvxpy as cp

        fixed = self.lower == self.upper
        free = np.flatnonzero(~fixed)
        y = cp.Variable(len(self.lower))
        objective = cp.Parameter(len(self.lower))
        padded = cp.Parameter((capacity, len(self.lower)))
        above = padded @ y >= 0.0
        constraints = [above]
        if len(free):
            constraints += [y[free] >= self.lower[free], y[free] <= self.upper[free]]
        if fixed.any():
            constraints.append(y[np.flatnonzero(fixed)] == self.lower[fixed])
        return _Compiled(cp.Problem(cp.Minimize(-objective @ y), constraints), objective, padded, above, y)


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
