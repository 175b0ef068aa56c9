"""The nearest point of one activation region where outputs are as asked for, with a proven bound of its distance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.geometry.nearest_point import NEAREST, linear_program, nearest, quadratic
from torch_shallow.search.nearest.sought import Sought, Vector

MOST_NUMBERS = 300_000  # in the tableau of a linear program that is solved again and again


class RegionPoints:
    """Nearest points of regions, by quadratic programs (L2) or linear ones (L1, L-infinity).

    Args:
        sought: the question, of one alternative.
        room: how much rounding there may be in each pre-activation, and then in each output: half-spaces are wider by
            so much.
    """

    def __init__(self, sought: Sought, room: Float[np.ndarray, "neurons_and_outputs"] | float = 0.0) -> None:
        self.sought, self.room = sought, room
        program = sought.program
        count = program.num_neurons + program.num_outputs
        self._work = quadratic(program.num_inputs, count)
        self._simplex = linear_program(program.num_inputs, count, sought.norm)

    @property
    def is_cheap(self) -> bool:
        """Whether a program takes milliseconds: in L2 always, in the other norms up to a size of its tableau."""
        return self.sought.norm == 2.0 or self._simplex.rows.size <= MOST_NUMBERS

    def nearest(
        self,
        pattern: Bool[np.ndarray, "neurons"],
        cutoff: float,
        decided: Bool[np.ndarray, "neurons"] | None = None,
        above: Float[np.ndarray, "outputs"] | float = 0.0,
    ) -> tuple[float, Vector | None]:
        """The nearest point of the region of a pattern where all outputs are not negative.

        Args:
            pattern: which neurons are active.
            cutoff: what is not nearer than this is not looked for; finite.
            decided: the neurons whose signs have to be kept; all of them if None.
            above: what outputs have to be at least.

        Returns:
            A proven bound of the distance, and the point; None if there is none nearer than the cutoff, or if rounding
            decides.
        """
        sought, work = self.sought, self._work
        weights, biases, out_weight, out_bias = sought.program.affine_maps(pattern)
        signs = np.where(pattern, -1.0, 1.0)
        rows = np.concatenate([signs[:, None] * weights, -out_weight])
        limits = np.concatenate([-signs * biases, out_bias - above]) + self.room
        if decided is not None:
            kept = np.concatenate([np.flatnonzero(decided), np.arange(len(signs), len(rows))])
            rows, limits = rows[kept], limits[kept]
        sizes = np.linalg.norm(rows, axis=1)
        flat = sizes == 0.0
        if (limits[flat] < 0.0).any():
            return np.inf, None
        rows, limits = rows[~flat] / sizes[~flat, None], limits[~flat] / sizes[~flat]
        work.rows[: len(rows)], work.rhs[: len(rows)] = rows, limits
        status = nearest(work, self._simplex, sought.norm, len(rows), sought.lower, sought.upper, cutoff)
        point = np.clip(work.point, sought.lower, sought.upper) if status == NEAREST else None
        return float(work.bound[0]), point
