"""Linear programs over one cell that a solver settles: HiGHS, or one of cvxpy. Its word is checked, not believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError


@dataclass(frozen=True)
class CellProgram:
    """Linear functions over `{y : rows @ y >= 0, lower <= y <= upper}`.

    Attributes:
        rows: half-spaces, as unit rows.
        lower: lower bounds.
        upper: upper bounds, finite as well; so every function has a maximum as long as the cell is not empty.
    """

    rows: Float[np.ndarray, "rows dimension"]
    lower: Float[np.ndarray, "dimension"]
    upper: Float[np.ndarray, "dimension"]

    def depth(self, point: Float[np.ndarray, "dimension"]) -> float:
        """Distance of a point to the nearest half-space; negative if it is outside."""
        return float((self.rows @ point).min(initial=1.0))

    def bound(self, objective: Float[np.ndarray, "dimension"], multipliers: Float[np.ndarray, "rows"]) -> float:
        """An upper bound of a function by weak duality, whatever the accuracy of the multipliers."""
        total = objective + np.maximum(multipliers, 0.0) @ self.rows
        return float(np.maximum(total * self.lower, total * self.upper).sum())


@dataclass(frozen=True)
class Answer:
    """What a solver says: a maximiser, and multipliers of the rows; or, if it has none, why."""

    point: Float[np.ndarray, "dimension"] | None
    multipliers: Float[np.ndarray, "rows"] | None
    status: str


class Maximum(NamedTuple):
    """A maximum over a cell, enclosed from both sides whatever solver found the parts.

    Attributes:
        point: a point of the closed cell.
        value: the objective there: a lower bound of the maximum.
        bound: an upper bound of the maximum.
    """

    point: Float[np.ndarray, "dimension"]
    value: float
    bound: float


@dataclass(frozen=True)
class Solver:
    """A solver, and the check of its answers.

    Attributes:
        name: for errors.
        solve: gets program, objective and accuracy, and whether to be careful: after an answer that was not good.
        tolerance: how far apart two maxima have to be to be told apart.
    """

    name: str
    solve: Callable[[CellProgram, Float[np.ndarray, "dimension"], float, bool], Answer]
    tolerance: float

    def maximise(
        self,
        program: CellProgram,
        objective: Float[np.ndarray, "dimension"],
        threshold: float,
        interior: Float[np.ndarray, "dimension"],
    ) -> Maximum:
        """Maximise `objective @ y` as far as needed to tell on which side of `threshold` the maximum is.

        Neither feasibility nor optimality is taken on trust: a point outside the cell is moved into it, and the
        multipliers prove a bound.

        Args:
            program: the cell.
            objective: the linear function; of length one or less.
            threshold: the result is good if the maximum is proved to be above or below, or is known up to half of
                `tolerance`.
            interior: a point in the interior of the cell, towards which a point outside is moved.

        Raises:
            TransformError: no such result was found, at the second attempt either.
        """
        status = ""
        for careful in (False, True):
            answer = self.solve(program, objective, self.tolerance, careful)
            status = answer.status
            if answer.point is None or answer.multipliers is None:
                continue
            point = self._moved_inside(program, answer.point, interior)
            # Added up in the order of the compiled walk, which will judge the point by the same number.
            value = float(np.cumsum(objective * point)[-1]) if self._is_inside(program, point) else -np.inf
            bound = program.bound(objective, answer.multipliers)
            if value > threshold or bound <= threshold or bound - value <= 0.5 * self.tolerance:
                return Maximum(point, value, bound)
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
    """A point as far from all half-spaces as possible, at most 1, according to HiGHS; None if it finds none."""
    rows = np.column_stack([program.rows, -np.ones(len(program.rows))])
    lifted = CellProgram(rows, np.append(program.lower, 0.0), np.append(program.upper, 1.0))
    answer = by_highs(lifted, np.append(np.zeros(len(program.lower)), 1.0), 0.0, True)
    return None if answer.point is None else np.clip(answer.point[:-1], program.lower, program.upper)


def by_highs(
    program: CellProgram, objective: Float[np.ndarray, "dimension"], tolerance: float, careful: bool
) -> Answer:
    """The simplex method of HiGHS, through its own interface; the dual one if it is to be careful."""
    import highspy

    highs, (count, dimension) = highspy.Highs(), program.rows.shape
    accuracy = max(1e-10, min(1e-7, 0.1 * tolerance))
    options: dict[str, Any] = {
        "output_flag": False,
        "threads": 1,
        "presolve": "off",
        "solver": "simplex",
        "simplex_strategy": 1 if careful else 4,
        "simplex_scale_strategy": 0,  # rows are unit vectors already
        "small_matrix_value": 1e-12,
        "primal_feasibility_tolerance": accuracy,
        "dual_feasibility_tolerance": accuracy,
    }
    for option, value in options.items():
        highs.setOptionValue(option, value)
    columns = np.arange(dimension, dtype=np.int32)
    highs.addVars(dimension, program.lower, program.upper)
    highs.changeColsCost(dimension, columns, -objective)
    starts = np.arange(0, program.rows.size, dimension, dtype=np.int32)
    above = np.full(count, highspy.kHighsInf)
    highs.addRows(count, np.zeros(count), above, program.rows.size, starts, np.tile(columns, count), program.rows)
    highs.run()
    status = highs.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        return Answer(None, None, highs.modelStatusToString(status))
    solution = highs.getSolution()
    return Answer(np.array(solution.col_value), np.array(solution.row_dual)[:count], "Optimal")
