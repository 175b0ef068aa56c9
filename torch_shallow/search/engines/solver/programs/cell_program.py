"""Linear programs over one cell after another: what every solver has in common, and the check of its word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError


@dataclass(frozen=True)
class Answer:
    """What a solver says: a maximiser, and multipliers of the rows; or, if it has none, why."""

    point: Float[np.ndarray, "dimension"] | None
    multipliers: Float[np.ndarray, "rows"] | None
    status: str


@dataclass(frozen=True)
class Maximum:
    """A maximum over a cell, enclosed from both sides whatever solver found the parts.

    Attributes:
        point: a point of the closed cell.
        value: the objective there: a lower bound of the maximum.
        bound: an upper bound of the maximum, from the multipliers by weak duality.
    """

    point: Float[np.ndarray, "dimension"]
    value: float
    bound: float


class CellProgram(ABC):
    """Maximise linear functions over `{y : rows @ y >= 0, lower <= y <= upper}`, with rows that come and go.

    Args:
        lower: lower bounds.
        upper: upper bounds, finite as well; so every program has a maximum as long as the cell is not empty.
        tolerance: how far apart two maxima have to be to be told apart.
    """

    name: str

    def __init__(
        self, lower: Float[np.ndarray, "dimension"], upper: Float[np.ndarray, "dimension"], tolerance: float
    ) -> None:
        self.lower, self.upper, self.tolerance = lower, upper, tolerance
        self._rows = np.zeros((16, len(lower)))
        self._count = 0
        self._middle, self._half = (lower + upper) / 2, (upper - lower) / 2
        self._centring: CellProgram | None = None

    @property
    def rows(self) -> Float[np.ndarray, "rows dimension"]:
        """The half-spaces at present."""
        return self._rows[: self._count]

    @property
    def num_rows(self) -> int:
        """How many half-spaces there are at present."""
        return self._count

    def push(self, row: Float[np.ndarray, "dimension"]) -> None:
        """Add the half-space `row @ y >= 0`; a unit row."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[self._count] = row
        self._count += 1

    def truncate(self, count: int) -> None:
        """Keep the first `count` half-spaces only."""
        self._count = count

    def forget(self) -> None:
        """Begin the next program from nothing: its result must not depend on programs before."""
        if self._centring is not None:
            self._centring.forget()

    def bounds(self, rows: Float[np.ndarray, "some dimension"]) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest value of linear functions between `lower` and `upper`."""
        middle, half = rows @ self._middle, np.abs(rows) @ self._half
        return middle - half, middle + half

    def maximise(
        self,
        objective: Float[np.ndarray, "dimension"],
        threshold: float,
        interior: Float[np.ndarray, "dimension"] | None = None,
    ) -> Maximum:
        """Maximise `objective @ y` as far as needed to tell on which side of `threshold` the maximum is.

        Neither feasibility nor optimality is taken on trust: the point is moved into the cell where it is outside, and
        the multipliers give an upper bound by weak duality, whatever their accuracy.

        Args:
            objective: the linear function; of length one or less.
            threshold: the result is good if the maximum is proved to be above or below, or is known up to half of
                `tolerance`.
            interior: a point in the interior of the cell, towards which a point outside is moved.

        Raises:
            TransformError: no such result was found, at the second attempt either.
        """
        status = ""
        for careful in (False, True):
            answer = self._solve(objective, careful=careful)
            status = answer.status
            if answer.point is None or answer.multipliers is None:
                continue
            result = self._checked(objective, answer.point, answer.multipliers, interior)
            if (
                result.value > threshold
                or result.bound <= threshold
                or result.bound - result.value <= 0.5 * self.tolerance
            ):
                return result
            status += f" (maximum between {result.value:.3g} and {result.bound:.3g})"
        raise TransformError(
            f"solver: {self.name} could not settle a linear program over a cell with {self._count} half-spaces "
            f"at tolerance {self.tolerance:g}: {status}; use a more accurate solver (solver=None is HiGHS), or a "
            "larger tolerance."
        )

    def _checked(
        self,
        objective: np.ndarray,
        point: np.ndarray,
        multipliers: np.ndarray,
        interior: np.ndarray | None,
    ) -> Maximum:
        rows = self.rows
        point = np.clip(point, self.lower, self.upper)
        total = objective
        if self._count:
            outside = -float((rows @ point).min())
            if interior is not None and outside > 0.1 * self.tolerance:
                depth = float((rows @ interior).min())
                point = point + outside / (outside + depth) * (interior - point)
            total = objective + np.maximum(multipliers, 0.0) @ rows
        bound = float(total @ self._middle + np.abs(total) @ self._half)
        return Maximum(point, float(objective @ point), bound)

    def centre(self) -> tuple[Float[np.ndarray, "dimension"], float]:
        """A point furthest from all half-spaces (not from the bounds), and its distance to the nearest (at most 1)."""
        if self._centring is None:
            self._centring = self._like(np.append(self.lower, 0.0), np.append(self.upper, 1.0))
        self._centring.truncate(0)
        for row in self.rows:
            self._centring.push(np.append(row, -1.0))
        result = self._centring.maximise(np.append(np.zeros(len(self.lower)), 1.0), 0.0)
        point = result.point[:-1]
        return point, float((self.rows @ point).min(initial=1.0))

    @abstractmethod
    def _like(self, lower: np.ndarray, upper: np.ndarray) -> CellProgram:
        """The same solver for other bounds, without rows."""

    @abstractmethod
    def _solve(self, objective: Float[np.ndarray, "dimension"], *, careful: bool) -> Answer:
        """Maximise; `careful` after a first result that was not good enough."""
