"""Find the affine map nearest to given values in the maximum norm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve

if TYPE_CHECKING:
    from highspy import Highs

FIRST = 3  # points per unknown in the first linear program, and in each addition
ROUNDS = 100
OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
LEAST = 1e-9  # smallest range of the values in a linear program, relative to their size
DUAL, PRIMAL = 1, 4  # simplex methods of HiGHS
EXACT = 1e-7  # share by which another point may exceed the deviation


def solved(program: Highs, cost: Float[np.ndarray, "columns"]) -> str:
    """Solve as `solve` does; if that fails, anew from nothing, and then by the primal simplex method.

    No cost is below 0, so a program that HiGHS calls unbounded is one where it failed.
    """
    status = solve(program, cost)
    for strategy in (DUAL, PRIMAL):
        if status in ("", "Infeasible"):
            break
        program.clearSolver()
        program.setOptionValue("simplex_strategy", strategy)
        status = solve(program, cost)
    program.setOptionValue("simplex_strategy", DUAL)
    return status


class NearestMap:
    """Find the affine function of some inputs with the smallest largest deviation at points, by linear programming.

    Only points that matter become rows of the program: it begins with few, and points with a larger deviation than all
    rows are added until there are none. The next call starts from the result of the last one, and may have more points.

    Args:
        lower: lower bounds of the points.
        upper: upper bounds of the points.
        terms: the inputs that may have a coefficient; the others have 0.
        y: some of the values, which set the scale.
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
        until: float = np.inf,
    ) -> tuple[Float[np.ndarray, "homogeneous"], float]:
        """Return the function nearest to the values at all points.

        Args:
            x: the points of the last call, optionally followed by more.
            y: values at the points.
            allowed: units in which deviations are measured; those of the values if None.
            until: time on the monotonic clock from which on the nearest function at some of the points will do, or, if
                there is none yet, that of least squares.

        Returns:
            Coefficients and constant, and a lower bound on the deviation of any affine function of these terms.

        Raises:
            TransformError: HiGHS does not solve a linear program.
        """
        rows = np.column_stack([((x - self.middle) / self.half)[:, self.terms], np.ones(len(x))])
        values, units, unit = (y - self.level) / self.height, np.ones(len(x)), 1.0
        if allowed is not None:
            unit = float(allowed.max())
            units = allowed / unit
        solution, least = np.zeros(rows.shape[1] + 1), 0.0
        if not len(self._chosen):
            start, *_ = np.linalg.lstsq(rows, values, rcond=None)
            solution[:-1] = start
            self._choose(rows, values, units, np.argsort(-np.abs(values - rows @ start) / units))
        for _ in range(ROUNDS):
            if time.monotonic() >= until and solution.any():
                break
            status = solved(self._program, self._cost)
            if status:
                raise TransformError(
                    f"simplify: expected a nearest affine map from HiGHS, found that it failed ({status}); scale "
                    "inputs and outputs."
                )
            solution = np.array(self._program.getSolution().col_value)
            least = float(solution[-1])
            apart = np.abs(values - rows @ solution[:-1]) / units
            apart[self._chosen] = 0.0
            worse = np.flatnonzero(apart > solution[-1] * (1.0 + EXACT) + 1e-12)
            if not len(worse):
                break
            self._choose(rows, values, units, worse[np.argsort(-apart[worse])])
        weights = np.zeros(x.shape[1])
        weights[self.terms] = self.height * solution[:-2] / self.half[self.terms]
        constant = self.level + self.height * solution[-2] - float(weights @ self.middle)
        return np.append(weights, constant), self.height * least / unit

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
