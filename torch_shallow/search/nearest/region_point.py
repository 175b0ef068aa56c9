"""Nearest point of one activation region whose outputs meet the conditions, with a proven bound of its distance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.geometry.dual_simplex import Simplex
from torch_shallow.geometry.nearest_point import NEAREST, Quadratic, linear_program, nearest, quadratic
from torch_shallow.search.nearest.sought import Sought, Vector

FLAT = 1e-12  # relative: a half-space that depends no more than this on the free inputs is independent of them
MOST_NUMBERS = 300_000  # in the tableau of a linear program that is solved repeatedly


class RegionPoints:
    """Nearest points of regions, by quadratic programs (L2) or linear ones (L1, L-infinity).

    Args:
        sought: The question, restricted to one alternative.
        room: Greatest rounding error of each pre-activation, then of each output; half-spaces are widened by it.
        num_cuts: Number of neurons at the end that are cuts between whole numbers; a region may extend across them.
    """

    def __init__(
        self, sought: Sought, room: Float[np.ndarray, "neurons_and_outputs"] | float = 0.0, num_cuts: int = 0
    ) -> None:
        self.sought, self.room = sought, room
        program = sought.program
        self._own = np.arange(program.num_neurons) < program.num_neurons - num_cuts
        self._capacity = program.num_neurons + program.num_outputs
        self._room: dict[int, tuple[Quadratic, Simplex]] = {}  # by the number of entries

    @property
    def is_cheap(self) -> bool:
        """Whether a program takes milliseconds: always in L2, in the other norms up to a size of the tableau."""
        d = self.sought.program.num_inputs
        return self.sought.norm == 2.0 or 2 * d * (self._capacity + 2 * d) <= MOST_NUMBERS

    def nearest(
        self,
        pattern: Bool[np.ndarray, "neurons"],
        cutoff: float,
        decided: Bool[np.ndarray, "neurons"] | None = None,
        above: Float[np.ndarray, "outputs"] | float = 0.0,
        box: tuple[Vector, Vector] | None = None,
    ) -> tuple[float, Vector | None]:
        """Find the nearest point of a pattern's region where all outputs are non-negative.

        Args:
            pattern: Which neurons are active.
            cutoff: Distance from which on points are not sought; finite.
            decided: Neurons whose signs must hold; by default, all that are not cuts.
            above: Least values of the outputs.
            box: Box to search; by default, that of the question.

        Returns:
            A proven bound of the distance, and the point; the point is None if none is nearer than the cutoff, or if
            rounding decides.
        """
        sought = self.sought
        weights, biases, out_weight, out_bias = sought.program.affine_maps(pattern)
        signs = np.where(pattern, -1.0, 1.0)
        rows = np.concatenate([signs[:, None] * weights, -out_weight])
        limits = np.concatenate([-signs * biases, out_bias - above]) + self.room
        kept = np.flatnonzero(self._own if decided is None else decided)
        kept = np.concatenate([kept, np.arange(len(signs), len(rows))])
        lower, upper = box or (sought.lower, sought.upper)
        fixed = lower == upper
        if not fixed.any():
            return self._solved(rows[kept], limits[kept], lower, upper, cutoff)
        # Substitute the fixed entries, so that no half-space depends on them alone: rounding would decide about it.
        size = float(np.linalg.norm(lower[fixed], sought.norm))
        if size >= cutoff:
            return size, None
        rows, limits, free = rows[kept], limits[kept] - rows[kept][:, fixed] @ lower[fixed], ~fixed
        moving = np.linalg.norm(rows[:, free], axis=1) > FLAT * np.linalg.norm(rows, axis=1)
        left = {1.0: cutoff - size, 2.0: np.sqrt(cutoff**2 - size**2)}.get(sought.norm, cutoff)
        bound, found = self._solved(rows[moving][:, free], limits[moving], lower[free], upper[free], float(left))
        together = {1.0: size + bound, 2.0: float(np.hypot(size, bound))}.get(sought.norm, max(size, bound))
        if found is None:
            return together, None
        point = lower.copy()
        point[free] = found
        return together, point

    def _solved(
        self,
        rows: Float[np.ndarray, "rows inputs"],
        limits: Float[np.ndarray, "rows"],
        lower: Vector,
        upper: Vector,
        cutoff: float,
    ) -> tuple[float, Vector | None]:
        """Find the point nearest to 0 where `rows @ point <= limits`, in a box."""
        if not len(lower):
            return 0.0, lower
        norm, room = self.sought.norm, self._room.get(len(lower))
        if room is None:
            count = self._capacity
            room = quadratic(len(lower), count), linear_program(len(lower), count, norm)
            self._room[len(lower)] = room
        sizes = np.linalg.norm(rows, axis=1)
        flat = sizes == 0.0
        if (limits[flat] < 0.0).any():
            return np.inf, None
        rows, limits = rows[~flat] / sizes[~flat, None], limits[~flat] / sizes[~flat]
        work, simplex = room
        work.rows[: len(rows)], work.rhs[: len(rows)] = rows, limits
        status = nearest(work, simplex, norm, len(rows), lower, upper, cutoff)
        return float(work.bound[0]), np.clip(work.point, lower, upper) if status == NEAREST else None

    def whole(self, pattern: Bool[np.ndarray, "neurons"], cutoff: float) -> Vector | None:
        """Find a near point of a pattern's region; numbers that must be whole are those next to the nearest point's."""
        point = self.nearest(pattern, cutoff)[1]
        return point if point is None or self.sought.whole is None else self.rounded(pattern, cutoff, point)

    def rounded(
        self,
        pattern: Bool[np.ndarray, "neurons"],
        cutoff: float,
        point: Vector,
        decided: Bool[np.ndarray, "neurons"] | None = None,
    ) -> Vector | None:
        """Find the nearest point whose whole numbers are those next to a point's; arguments are those of `nearest`."""
        sought = self.sought
        assert sought.whole is not None
        box = sought.whole.fixed(point, sought.lower, sought.upper)
        # Rounding may violate constraints on fixed numbers.
        is_constraint = np.arange(len(sought.slack)) >= sought.num_goals
        return self.nearest(pattern, cutoff, decided, np.where(is_constraint, -0.5 * sought.slack, 0.0), box)[1]
