"""The affine map that is nearest to some values in the maximum norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve

if TYPE_CHECKING:
    from highspy import Highs

FIRST = 3  # points for each unknown in the first linear program, and added at once
ROUNDS = 100
OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
LEAST = 1e-9  # of the values, which they lie apart at least, for all that a linear program knows
PRIMAL = 4  # the simplex method of HiGHS
EXACT = 1e-7  # how much of the deviation another point may add


def solved(program: Highs, cost: Float[np.ndarray, "columns"]) -> str:
    """As `solve`, and once more by the primal simplex method where the dual one gives up."""
    status = solve(program, cost)
    if status in ("", "Infeasible", "Unbounded"):
        return status
    program.clearSolver()
    program.setOptionValue("simplex_strategy", PRIMAL)
    return solve(program, cost)


class NearestMap:
    """The affine function of some inputs with the smallest largest deviation at points, by linear programming.

    Only those points are rows of the program that matter: it begins with few, and those where the deviation is larger
    than that of all rows are added until there are none. What is known of the first points of a call is used in the
    next one, which may have more.

    Args:
        lower: bounds of the points.
        upper: likewise.
        terms: the inputs that may have a coefficient; the others have 0.
        y: some of the values, by which others are measured.
    """

    def __init__(
        self,
        lower: Float[np.ndarray, "inputs"],
        upper: Float[np.ndarray, "inputs"],
        terms: Int[np.ndarray, "terms"],
        y: Float[np.ndarray, "points"],
    ) -> None:
        self.terms, self.level = terms, float(y.min() + np.ptp(y) / 2)
        self.height = max(float(np.ptp(y)), LEAST * float(np.abs(y).max())) or 1.0
        self.middle, half = lower + (upper - lower) / 2, (upper - lower) / 2
        self.half = np.where(half > 0.0, half, 1.0)
        columns = len(terms) + 2  # coefficients, the constant, and the deviation
        free = np.full(columns, np.inf)
        self._program = linear_program(np.zeros((0, columns)), (0.0, 0.0), (np.append(-free[1:], 0.0), free), OPTIONS)
        self._cost = np.append(np.zeros(columns - 1), 1.0)
        self._chosen = np.zeros(0, dtype=np.int64)

    def fitted(
        self,
        x: Float[np.ndarray, "points inputs"],
        y: Float[np.ndarray, "points"],
        allowed: Float[np.ndarray, "points"] | None = None,
    ) -> tuple[Float[np.ndarray, "homogeneous"], float]:
        """The nearest function to the values at all points.

        Args:
            x: those of the last call, and perhaps more behind them.
            y: values at these.
            allowed: deviations are measured in these units; in that of the values if None.

        Returns:
            Coefficients and the constant, and the deviation that no affine function of these terms is below.

        Raises:
            TransformError: HiGHS does not solve a linear program.
        """
        rows = np.column_stack([((x - self.middle) / self.half)[:, self.terms], np.ones(len(x))])
        values, units, unit = (y - self.level) / self.height, np.ones(len(x)), 1.0
        if allowed is not None:
            unit = float(allowed.max())
            units = allowed / unit
        if not len(self._chosen):
            start, *_ = np.linalg.lstsq(rows, values, rcond=None)
            self._choose(rows, values, units, np.argsort(-np.abs(values - rows @ start) / units))
        for _ in range(ROUNDS):
            status = solved(self._program, self._cost)
            if status:
                raise TransformError(f"simplify: HiGHS found no nearest affine map: {status}.")
            solution = np.array(self._program.getSolution().col_value)
            apart = np.abs(values - rows @ solution[:-1]) / units
            apart[self._chosen] = 0.0
            worse = np.flatnonzero(apart > solution[-1] * (1.0 + EXACT) + 1e-12)
            if not len(worse):
                break
            self._choose(rows, values, units, worse[np.argsort(-apart[worse])])
        weights = np.zeros(x.shape[1])
        weights[self.terms] = self.height * solution[:-2] / self.half[self.terms]
        constant = self.level + self.height * solution[-2] - float(weights @ self.middle)
        return np.append(weights, constant), self.height * float(solution[-1]) / unit

    def _choose(
        self,
        rows: Float[np.ndarray, "points terms1"],
        values: Float[np.ndarray, "points"],
        units: Float[np.ndarray, "points"],
        worst: Int[np.ndarray, "some"],
    ) -> None:
        new = worst[: FIRST * rows.shape[1]]
        self._chosen = np.append(self._chosen, new)
        ones, count, columns = units[new, None], len(new), rows.shape[1] + 1
        both = np.block([[rows[new], -ones], [rows[new], ones]])
        free = np.full(count, np.inf)
        self._program.addRows(
            2 * count,
            np.concatenate([-free, values[new]]),
            np.concatenate([values[new], free]),
            both.size,
            columns * np.arange(2 * count, dtype=np.int32),
            np.tile(np.arange(columns, dtype=np.int32), 2 * count),
            both.reshape(-1),
        )
