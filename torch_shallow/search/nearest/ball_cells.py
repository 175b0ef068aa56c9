"""Cells bounded in a ball: how far all points of a cell are that are sought, as the bound of a batch."""

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
    """Bounds cells by minus the distance of what is sought.

    Multipliers are chosen so that the least goal is negative in all of a cell within the ball. Whatever they are, they
    combine goals, constraints and decisions to one half-space that holds all that is sought in the cell: its distance
    is the bound.

    Attributes:
        network: the network in its ball.
    """

    network: BallNetwork

    def within(self, reach: float) -> BallBounder:
        """The same, where what is further than this is of no interest any more."""
        return replace(self, network=self.network.within(reach))

    def bounded(
        self,
        cells: CellBounds,
        start: Multipliers,
        ceiling: Float[Tensor, "cells"],
        enough: float,
        schedule: Descent | None = None,
    ) -> CellBatch:
        """Bound some cells, until each is known to have nothing in the ball: see `CellBounder.bounded`."""
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
        """What given multipliers say of cells, without rounding."""
        rows = self.goals.rows(chosen.weights)
        found = backward(self.network, Lines.of(cells), rows, chosen.slopes, chosen.splits)
        return -self._distance(found, found.bound)

    def _distance(self, found: Backward, bound: Float[Tensor, "cells rows"]) -> Float[Tensor, "cells"]:
        """How far the half-spaces are in which combinations with such bounds in the ball are not negative."""
        constant = bound - self.network.greatest(found.slope)[0]
        return self.network.distance(found.slope, constant)[:, 0]
