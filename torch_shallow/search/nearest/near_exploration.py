"""Opening the cells of a task in the search for a nearest point: points by projection, leaves exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_shallow.bounds.norm_ball import BallNetwork
from torch_shallow.search.ascent import slopes_of
from torch_shallow.search.engines.cell_batch import CellBatch
from torch_shallow.search.engines.exploration import Exploration, Pool, Prepared
from torch_shallow.search.nearest.ball_cells import BallBounder
from torch_shallow.search.nearest.descent import descended
from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.nearest.whole_numbers import NumberCuts
from torch_shallow.search.question import CellTask

STEPS = 6  # towards the point where goals are reached, according to local models
BEYOND = 1.0 + 1e-7
LOOKED_AT = 2  # relaxed points of a batch from which the search for points starts


class NearExploration(Exploration):
    """Processing of one task; points farther than the nearest known one are of no interest.

    Args:
        prepared: What is known about the question, restricted to one alternative.
        task: The task.
        cuts: Cuts between whole numbers, if there are any.
    """

    def __init__(self, prepared: Prepared, task: CellTask, cuts: NumberCuts | None) -> None:
        super().__init__(prepared, task)
        self.cuts, self.num_cuts = cuts, 0 if cuts is None else 2 * len(cuts.owner)
        bounder, sought = prepared.bounder, prepared.posed
        assert isinstance(bounder, BallBounder)
        assert isinstance(sought, Sought)
        self.sought: Sought = sought
        self.bounder = bounder.within(max(-task.incumbent, np.finfo(np.float64).tiny))
        self.ball: BallNetwork = self.bounder.network
        self.network = self.ball
        sizes = torch.cat(self.bounder.box.sizes).cpu().numpy()
        # Bounds use half-spaces widened for rounding; points are sought in the half-spaces as given.
        self.regions: RegionPoints = RegionPoints(self.sought, self.network.rounding * sizes, self.num_cuts)
        self.exactly: RegionPoints = RegionPoints(self.sought, num_cuts=self.num_cuts)

    def _look_first(self) -> None:
        """Start from the relaxed nearest point of the whole ball."""
        self._look(self.prepared.whole.x)

    def _look(self, x: Float[Tensor, "points inputs"]) -> None:
        """From some relaxed points, step to where goals are reached, and move from there from region to region."""
        num_goals = self.sought.num_goals
        least = self.network(x)[1][:, :num_goals].amin(dim=1)
        u = x[least.argsort(descending=True, stable=True)[:LOOKED_AT]]
        for _ in range(STEPS):
            self.best.offer(u)
            if self.regions.is_cheap:
                for start in u.cpu().numpy():
                    _, point = descended(self.exactly, start, -self.best.value)
                    if point is not None:
                        self.best.offer(torch.from_numpy(point[None]))
                return
            u = self._stepped(u)

    def _stepped(self, u: Float[Tensor, "points inputs"]) -> Float[Tensor, "points inputs"]:
        """Step to, and slightly beyond, the nearest point where the local model of the least goal is non-negative."""
        entering, outputs = self.network(u)
        goals = outputs[:, : self.sought.num_goals]
        least, row = goals.min(dim=1)
        slopes = slopes_of(self.network, entering, row)
        distance = self.ball.distance(slopes, least - (slopes * u).sum(dim=1))
        return self.ball.support(slopes, (distance * BEYOND).clamp(max=self.ball.reach)).at

    def _wait(self, batch: CellBatch, paths: list[tuple[int, ...]]) -> None:
        """Settle cells without undecided neurons by a projection; queue the others."""
        own = batch.cells.unstable.shape[1] - self.num_cuts
        undecided, kept, parts = batch.cells.unstable[:, :own].sum(dim=1).tolist(), [], []
        for row, bound in enumerate(batch.bound.tolist()):
            if not self._worth(bound):
                continue
            part: CellBatch | None = batch[row : row + 1]
            if not undecided[row]:
                part = self._settled(batch[row : row + 1])
            if part is not None:
                kept.append(paths[row])
                parts.append(part)
        if parts:
            self.waiting.append(Pool(CellBatch.joined(parts), kept))

    def _settled(self, leaf: CellBatch) -> CellBatch | None:
        """Settle a cell with a single affine map: find its nearest point; numbers may still have to be made whole."""
        active = (leaf.cells.lower[0] >= 0.0).cpu().numpy()
        decided = (leaf.cells.side[0] != 0.0).cpu().numpy()
        distance, point = self.regions.nearest(active, -self.best.value, decided)
        bound = min(float(leaf.bound[0]), -distance)
        numbers = self.sought.whole
        if point is not None and numbers is not None:
            is_whole = not numbers.off(point).any()
            rounded = self.exactly.rounded(active, -self.best.value, point, decided if is_whole else None)
            if rounded is not None:
                self.best.offer(torch.from_numpy(rounded[None]))
            if not is_whole:
                x = leaf.x.new_tensor(point[None])
                return replace(leaf, bound=leaf.bound.new_tensor([bound]), x=x) if self._worth(bound) else None
        elif point is not None and not self.best.offer(torch.from_numpy(point[None])):
            point = self.exactly.nearest(active, -self.best.value, decided)[1]
            if point is not None:
                self.best.offer(torch.from_numpy(point[None]))
        self.opened += 1
        self.left_out = max(self.left_out, bound)
        return None

    def _chosen(self, batch: CellBatch) -> tuple[Int[Tensor, "cells"], Int[Tensor, "cells"]]:
        """Return the neuron to branch on; if all are decided, those of a cut between two whole numbers."""
        if self.cuts is None:
            return super()._chosen(batch)
        own = batch.cells.unstable.shape[1] - self.num_cuts
        active, inactive = (part.clone() for part in super()._chosen(self._without_cuts(batch, own)))
        for row in torch.nonzero(~batch.cells.unstable[:, :own].any(dim=1))[:, 0].tolist():
            active[row], inactive[row] = self.cuts.between(batch.x[row].cpu().numpy())
        return active, inactive

    @staticmethod
    def _without_cuts(batch: CellBatch, own: int) -> CellBatch:
        """Return the batch with its cuts marked as not worth branching on."""
        looseness = batch.looseness.clone()
        looseness[:, own:] = -1.0
        return replace(batch, looseness=looseness)
