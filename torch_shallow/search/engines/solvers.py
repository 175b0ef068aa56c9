"""Linear programs over one cell, settled by HiGHS or a solver of cvxpy, whose answers are checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve


@dataclass(frozen=True)
class CellProgram:
    """Linear functions over `{y : rows @ y >= 0, lower <= y <= upper}`.

    Attributes:
        rows: Half-spaces, as unit rows.
        lower: Lower bounds.
        upper: Upper bounds. All bounds are finite, so every function has a maximum unless the cell is empty.
    """

    rows: Float[np.ndarray, "rows dimension"]
    lower: Float[np.ndarray, "dimension"]
    upper: Float[np.ndarray, "dimension"]

    def depth(self, point: Float[np.ndarray, "dimension"]) -> float:
        """Return the distance of a point to the nearest half-space; negative if it is outside."""
        return float((self.rows @ point).min(initial=1.0))

    def bound(self, objective: Float[np.ndarray, "dimension"], multipliers: Float[np.ndarray, "rows"]) -> float:
        """Return an upper bound of a function by weak duality, however inaccurate the multipliers are."""
        total = objective + np.maximum(multipliers, 0.0) @ self.rows
        return float(np.maximum(total * self.lower, total * self.upper).sum())


@dataclass(frozen=True)
class Solved:
    """Answer of a solver: a maximiser and multipliers of the rows, or, if there is none, the reason."""

    point: Float[np.ndarray, "dimension"] | None
    multipliers: Float[np.ndarray, "rows"] | None
    status: str


class SettledMaximum(NamedTuple):
    """Maximum over a cell, enclosed from both sides whichever solver found the parts.

    Attributes:
        point: A point of the closed cell.
        value: The objective at that point: a lower bound of the maximum.
        bound: An upper bound of the maximum.
    """

    point: Float[np.ndarray, "dimension"]
    value: float
    bound: float


@dataclass(frozen=True)
class Solver:
    """A solver, with the check of its answers.

    Attributes:
        name: Name of the solver, for error messages.
        solve: Function of program, objective, accuracy, and whether to take care, as after a poor answer.
        tolerance: Least difference of two maxima that must be told apart.
    """

    name: str
    solve: Callable[[CellProgram, Float[np.ndarray, "dimension"], float, bool], Solved]
    tolerance: float

    def maximise(
        self,
        program: CellProgram,
        objective: Float[np.ndarray, "dimension"],
        threshold: float,
        interior: Float[np.ndarray, "dimension"],
    ) -> SettledMaximum:
        """Maximise `objective @ y` as far as needed to tell on which side of `threshold` the maximum lies.

        Neither feasibility nor optimality is taken on trust: a point outside the cell is moved into it, and the
        multipliers prove a bound.

        Args:
            program: The cell.
            objective: The linear function, with norm at most 1.
            threshold: The result suffices if it proves the maximum above or below this, or encloses it within half of
                `tolerance`.
            interior: Interior point of the cell, towards which a point outside is moved.

        Raises:
            TransformError: Two attempts gave no such result.
        """
        status = ""
        for careful in (False, True):
            answer = self.solve(program, objective, self.tolerance, careful)
            status = answer.status
            if answer.point is None or answer.multipliers is None:
                continue
            point = self._moved_inside(program, answer.point, interior)
            # Summed in the order of the compiled walk, which will judge the point by the same number.
            value = float(np.cumsum(objective * point)[-1]) if self._is_inside(program, point) else -np.inf
            bound = program.bound(objective, answer.multipliers)
            if value > threshold or bound <= threshold or bound - value <= 0.5 * self.tolerance:
                return SettledMaximum(point, value, bound)
            status += f" (maximum between {value:.3g} and {bound:.3g})"
        raise TransformError(
            f"solver: {self.name} could not settle a linear program over a cell with {len(program.rows)} half-spaces "
            f"at tolerance {self.tolerance:g}: {status}; use a more accurate solver (solver=None is HiGHS), or a "
            "larger tolerance."
        )

    def _is_inside(self, program: CellProgram, point: np.ndarray) -> bool:
        return program.depth(point) >= -0.1 * self.tolerance

    def _moved_inside(self, program: CellProgram, point: np.ndarray, interior: np.ndarray) -> np.ndarray:
        point = np.clip(point, program.lower, program.upper)
        if self._is_inside(program, point):
            return point
        outside = -program.depth(point)
        return point + outside / (outside + max(0.0, program.depth(interior))) * (interior - point)


def centre(program: CellProgram) -> Float[np.ndarray, "dimension"] | None:
    """Return a point as far as possible from all half-spaces, at most 1, found by HiGHS; None if it finds none."""
    rows = np.column_stack([program.rows, -np.ones(len(program.rows))])
    lifted = CellProgram(rows, np.append(program.lower, 0.0), np.append(program.upper, 1.0))
    answer = by_highs(lifted, np.append(np.zeros(len(program.lower)), 1.0), 0.0, True)
    return None if answer.point is None else np.clip(answer.point[:-1], program.lower, program.upper)


def by_highs(
    program: CellProgram, objective: Float[np.ndarray, "dimension"], tolerance: float, careful: bool
) -> Solved:
    """Maximise by the simplex method of HiGHS, through its own interface; by the dual one if `careful`."""
    accuracy = max(1e-10, min(1e-7, 0.1 * tolerance))
    options: dict[str, Any] = {
        "threads": 1,
        "presolve": "off",
        "solver": "simplex",
        "simplex_strategy": 1 if careful else 4,
        "simplex_scale_strategy": 0,  # rows are already unit vectors
        "small_matrix_value": 1e-12,
        "primal_feasibility_tolerance": accuracy,
        "dual_feasibility_tolerance": accuracy,
    }
    highs = linear_program(program.rows, (0.0, np.inf), (program.lower, program.upper), options)
    status = solve(highs, -objective)
    if status:
        return Solved(None, None, status)
    solution = highs.getSolution()
    return Solved(np.array(solution.col_value), np.array(solution.row_dual), "Optimal")


class _Compiled(NamedTuple):
    """A problem of cvxpy, its parameters, and the parts read off its solution."""

    problem: Any
    objective: Any
    padded: Any
    above: Any  # the constraints of the rows
    point: Any


class ByCvxpy:
    """Maximises over cells with linear programs whose objective and rows are parameters of cvxpy.

    Programs follow disciplined parametrised programming. Rows are padded with zeros up to a capacity; larger cells use
    another problem of twice the capacity. First-order solvers (SCS, OSQP) may miss the accuracy asked for; the check in
    `Solver` then rejects their answer. Use them with tolerances of 1e-6 or more.

    Args:
        solver: A name in `cvxpy.installed_solvers()`.
        lower: Lower bounds of all programs.
        upper: Upper bounds of all programs.
    """

    def __init__(
        self, solver: str, lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"]
    ) -> None:
        self.solver, self.lower, self.upper = solver, lower, upper
        self._compiled: dict[int, _Compiled] = {}

    def __call__(
        self, program: CellProgram, objective: Float[np.ndarray, "dimension"], tolerance: float, careful: bool
    ) -> Solved:
        """Maximise; nothing carries over from one program to the next."""
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
                return Solved(None, None, str(error))
        status = str(compiled.problem.status)
        if compiled.point.value is None or compiled.above.dual_value is None or not status.startswith(cp.OPTIMAL):
            return Solved(None, None, status)
        return Solved(compiled.point.value, compiled.above.dual_value[:count], status)

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
    """Return the name of a solver as cvxpy writes it.

    Raises:
        TransformError: The solver is not installed.
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
    """Return the options that ask each solver for an accuracy; an unlisted solver keeps its own."""
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
