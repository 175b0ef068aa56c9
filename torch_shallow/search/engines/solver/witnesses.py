"""Points of a cell that tell signs without a linear program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.search.engines.solver.programs.cell_program import CellProgram


@dataclass(frozen=True)
class Witnesses:
    """Points of a closed cell, homogeneous.

    Attributes:
        points: the first lies in the interior.
        margin: distance of the first to the half-spaces and bounds of the cell, or less.
    """

    points: Float[np.ndarray, "points dimension"]
    margin: float

    def split(self, row: Float[np.ndarray, "dimension"], limit: int) -> tuple[Witnesses, Witnesses]:
        """Witnesses of both sides of a unit row that is positive at one of them and negative at another.

        The segments that join points of different sides cross the hyperplane at points of both sides.

        Args:
            row: the cut.
            limit: how many points to keep on each side, the newest and the first.

        Returns:
            The witnesses where `row` is not positive, and those where it is not negative.
        """
        values = self.points @ row
        positive, negative = values > 0.0, values < 0.0
        crossing = np.concatenate(
            [
                _crossings(self.points[positive], values[positive], self.points, values, int(values.argmin())),
                _crossings(self.points[negative], values[negative], self.points, values, int(values.argmax())),
            ]
        )
        return (
            self._side(self.points[~positive], crossing, -values, limit),
            self._side(self.points[~negative], crossing, values, limit),
        )

    def _side(self, own: np.ndarray, crossing: np.ndarray, values: np.ndarray, limit: int) -> Witnesses:
        # On the way from the interior point to the furthest one on this side, both margins are equal at `share`.
        inner, furthest = float(values[0]), int(values.argmax())
        share = max(0.0, (self.margin - inner) / (self.margin - inner + float(values[furthest])))
        point = (1.0 - share) * self.points[0] + share * self.points[furthest]
        others = np.concatenate([own, crossing])[-limit:]
        return Witnesses(np.concatenate([point[None], others]), (1.0 - share) * self.margin)


def _crossings(
    points: np.ndarray, values: np.ndarray, others: np.ndarray, other_values: np.ndarray, other: int
) -> np.ndarray:
    """Where the segments from `points` to `others[other]`, on the other side, cross the hyperplane."""
    share = (values / (values - other_values[other]))[:, None]
    return (1.0 - share) * points + share * others[other]


def recentred(
    witnesses: Witnesses,
    cells: CellProgram,
    inner: Float[np.ndarray, "dimension"],
    enough: float,
    rounding: float = 1e-15,
) -> Witnesses:
    """The same witnesses, led by a point further inside: a mean of them if it does, else from a linear program.

    Args:
        witnesses: of the cell.
        cells: linear programs over the cell.
        inner: a point in the interior of the domain.
        enough: a margin to be content with.
        rounding: a margin that says nothing.

    Raises:
        TransformError: the cell is so thin that no point is inside, as far as rounding shows.
    """
    points = witnesses.points
    mean = points.mean(axis=0)
    candidates = np.stack([points[0], mean, (points[0] + mean) / 2])
    margins = _margins(candidates, cells)
    if margins.max() < enough:
        # The centre may lie on the bounds of the domain, so it is drawn towards the domain's interior.
        centre, radius = cells.centre()
        outside = max(0.0, -float((cells.rows @ inner).min(initial=0.0)))
        share = 0.5 * radius / (radius + outside) if radius > 0.0 else 0.0
        candidates = np.concatenate([candidates, [(1.0 - share) * centre + share * inner]])
        margins = _margins(candidates, cells)
    best = int(margins.argmax())
    if margins[best] <= rounding:
        raise TransformError(
            f"tolerance: a cell with {cells.num_rows} half-spaces, the last of which is beyond the tolerance on both "
            "sides of the cell before, has no interior point in float64; use a larger tolerance."
        )
    return Witnesses(np.concatenate([candidates[best : best + 1], points]), float(margins[best]))


def _margins(points: Float[np.ndarray, "points dimension"], cells: CellProgram) -> Float[np.ndarray, "points"]:
    """Distance of points to the half-spaces and to those bounds that belong to the domain."""
    margins = (points @ cells.rows.T).min(axis=1, initial=1.0)
    box = cells.lower[-1] == cells.upper[-1]
    walls = 1.0 - np.abs(points[:, :-1]).max(axis=1, initial=0.0) if box else points[:, -1]
    return np.minimum(margins, walls)
