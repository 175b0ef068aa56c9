"""Bounds of cells in a ball: the proven distance of all sought points of a cell, negated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.backward import Backward, CellBounds, Lines, backward, proven, relaxed_point
from torch_shallow.bounds.multipliers import Descent, Multipliers, descend
from torch_shallow.bounds.norm_ball import BallNetwork
from torch_shallow.bounds.preactivations import tightened
from torch_shallow.search.engines.cell_batch import CellBatch, CellBounder


@dataclass(frozen=True, eq=False)
class BallBounder(CellBounder):
    """Bounds cells by the negated distance of their sought points.

    Multipliers are chosen to make the least goal negative everywhere in the cell within the ball. Whatever they are,
    they combine goals, constraints and decisions into one half-space that contains all sought points of the cell; its
    distance gives the bound.

    Attributes:
        network: The network in its ball.
    """

    network: BallNetwork

    def within(self, reach: float) -> BallBounder:
        """Return the bounder for a smaller ball, when points beyond it are no longer of interest."""
        return replace(self, network=self.network.within(reach))

    def bounded(
        self,
        cells: CellBounds,
        start: Multipliers,
        ceiling: Float[Tensor, "cells"],
        enough: float,
        schedule: Descent | None = None,
    ) -> CellBatch:
        """Bound cells as `CellBounder.bounded` does, until each is known to contain no sought point in the ball."""
        cells = tightened(self.network, cells, self.box.sizes, self.box.stages)
        lines = Lines.of(cells)
        best = descend(self.network, lines, self.goals, start, schedule or self.schedule, 0.0)
        rows = self.goals.rows(best.weights)
        found = backward(self.network, lines, rows, best.slopes, best.splits, self.box.sizes)
        point = relaxed_point(self.network, lines, found, best.slopes)
        bound = torch.minimum(-self._distance(found, proven(self.network, found)), ceiling)
        bound = torch.where(cells.empty, -torch.inf, bound)
        through = torch.cat([point.entering[..., :0], *found.through], dim=-1)
        gap = (through * (point.leaving - point.entering.clamp(min=0.0))).clamp(min=0.0)
        looseness = torch.where(cells.unstable, (gap + 0.1 * through.abs() * lines.offset)[:, 0], 0.0)
        return CellBatch(cells, best, bound, found.at[:, 0], looseness)

    def quick_bounds(self, cells: CellBounds, chosen: Multipliers) -> Float[Tensor, "cells"]:
        """Bound cells with given multipliers, ignoring rounding."""
        rows = self.goals.rows(chosen.weights)
        found = backward(self.network, Lines.of(cells), rows, chosen.slopes, chosen.splits)
        return -self._distance(found, found.bound)

    def _distance(self, found: Backward, bound: Float[Tensor, "cells rows"]) -> Float[Tensor, "cells"]:
        """Return the distances of the half-spaces where combinations with these bounds in the ball are non-negative."""
        constant = bound - self.network.greatest(found.slope)[0]
        return self.network.distance(found.slope, constant)[:, 0]
