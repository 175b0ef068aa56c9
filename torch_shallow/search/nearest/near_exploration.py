"""How the cells of a task are opened when the nearest point is sought: points by projection, leaves exactly."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.search.engines.cell_batch import CellBatch
from torch_shallow.search.engines.exploration import Exploration, Pool, Prepared
from torch_shallow.search.nearest.ball_cells import BallBounder
from torch_shallow.search.nearest.descent import descended
from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import CellTask

LOOKED_AT = 2  # relaxed points of a batch from which the search for points begins


class NearExploration(Exploration):
    """What is done with one task; what is farther than the nearest known point is of no interest.

    Args:
        prepared: what is known of the question, of one alternative.
        task: the task.
    """

    def __init__(self, prepared: Prepared, task: CellTask) -> None:
        super().__init__(prepared, task)
        assert isinstance(self.bounder, BallBounder)
        assert isinstance(prepared.posed, Sought)
        self.bounder = self.bounder.within(max(-task.incumbent, np.finfo(np.float64).tiny))
        self.network = self.bounder.network
        sizes = torch.cat(self.bounder.box.sizes).cpu().numpy()
        self.regions = RegionPoints(prepared.posed, self.network.rounding * sizes)

    def _look_first(self) -> None:
        """Begin with the relaxed nearest point of the whole ball."""
        self._look(self.prepared.whole.x)

    def _look(self, x: Float[Tensor, "points inputs"]) -> None:
        """From some relaxed points, go to the nearest point of the region, and on to the next one."""
        num_goals = self.prepared.posed.num_goals
        least = self.network(x)[1][:, :num_goals].amin(dim=1)
        for u in x[least.argsort(descending=True, stable=True)[:LOOKED_AT]].cpu().numpy():
            _, point = descended(self.regions, u, -self.best.value)
            if point is not None:
                self.best.offer(torch.from_numpy(point[None]))

    def _wait(self, batch: CellBatch, paths: list[tuple[int, ...]]) -> None:
        """Settle cells without undecided neurons by a projection; let the others wait."""
        undecided, kept = batch.undecided.tolist(), []
        for row, bound in enumerate(batch.bound.tolist()):
            if not self._worth(bound):
                continue
            if undecided[row]:
                kept.append(row)
                continue
            self.opened += 1
            active = (batch.cells.lower[row] >= 0.0).cpu().numpy()
            decided = (batch.cells.side[row] != 0.0).cpu().numpy()
            distance, point = self.regions.nearest(active, -self.best.value, decided)
            if point is not None:
                self.best.offer(torch.from_numpy(point[None]))
            self.left_out = max(self.left_out, min(bound, -distance))
        if kept:
            self.waiting.append(Pool(batch[torch.tensor(kept)], [paths[row] for row in kept]))
