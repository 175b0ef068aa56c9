"""Opening the cells of a task in batches: bound them, search them for points, branch on ReLUs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from torch_shallow.bounds.backward import CellBounds
from torch_shallow.bounds.multipliers import Descent, Multipliers
from torch_shallow.search.ascent import climb
from torch_shallow.search.engines.cell_batch import CellBatch, CellBounder
from torch_shallow.search.incumbent import Incumbent
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell


@dataclass(frozen=True)
class Effort:
    """Amounts of work for each step; they change how soon an answer is found, never which claims are proven.

    Attributes:
        box: How the slopes of pre-activations are chosen in the whole box.
        root: How the multipliers of the goals are chosen in the whole box.
        cell: How the multipliers of a cell are improved, starting from those of its parent.
        batch: Number of cells opened at once.
        tried: Number of neurons of a cell on which branching is tried.
        climbs: Number of steps that a point climbs; four times as many at the root.
        polished: Greatest size of the linear programs by which points climb from region to region.
        few: Cells with at most this many undecided neurons are also bounded by their linear program.
        tolerance: Cells that exceed the best point by at most this share of the size of the goals' terms are left out.
    """

    box: Descent = field(default_factory=lambda: Descent(20))
    root: Descent = field(default_factory=lambda: Descent(60))
    cell: Descent = field(default_factory=lambda: Descent(24, end=0.3, progress=0.03))
    batch: int = 64
    tried: int = 12
    climbs: int = 10
    polished: int = 50_000
    few: int = 10
    tolerance: float = 1e-10

    def until(self, bounds: float, cells: float) -> Effort:
        """Return the same effort, ended by the monotonic clock.

        Args:
            bounds: Time at which the neurons should be bounded, in seconds.
            cells: Time at which cells should be bounded.
        """
        root, cell = (replace(schedule, until=cells) for schedule in (self.root, self.cell))
        return replace(self, box=replace(self.box, until=bounds), root=root, cell=cell)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is known about a question before any cell is opened.

    Attributes:
        posed: The question in a box: a `Posed`, or an object with goals, floor, limit and values, such as a `Sought`.
        effort: How much work goes into each step.
        bounder: The bounder of its cells.
        whole: The whole box, bounded.
        slack: How far a bound may exceed the best point.
    """

    posed: Any
    effort: Effort
    bounder: CellBounder
    whole: CellBatch
    slack: float


@dataclass(frozen=True, eq=False)
class Pool:
    """Bounded cells that wait, with their paths."""

    batch: CellBatch
    paths: list[tuple[int, ...]]


class Exploration:
    """Processing of one task.

    Args:
        prepared: What is known about the question.
        task: The task.
    """

    def __init__(self, prepared: Prepared, task: CellTask) -> None:
        self.prepared, self.task, self.effort = prepared, task, prepared.effort
        self.bounder, self.network = prepared.bounder, prepared.bounder.network
        self.best = Incumbent(prepared.posed, task.incumbent)
        self.left_out, self.opened = -np.inf, 0
        self.begun = time.monotonic()
        self.waiting: list[Pool] = []

    def run(self) -> CellOutcome:
        """Open cells, highest bounds first, until the budget or the time is used up."""
        self._begin()
        if self.is_late:
            self.opened = max(self.opened, 1)  # its cells are bounded, which has to do
        while self.waiting and self.best.value <= self.prepared.posed.enough and (count := self._affordable()):
            pool = self._next(count)
            if pool is None:
                break
            self.opened += len(pool.paths)
            self._branch(pool)
        return self._outcome()

    def _affordable(self) -> int:
        """Return how many cells to open next: a batch, or what the rest of the budget and of the time allows."""
        count = min(self.effort.batch, max(self.task.budget, 1) - self.opened)
        if self.task.seconds == np.inf or not self.opened:
            return count if self.task.seconds == np.inf else min(count, 1)
        taken = time.monotonic() - self.begun
        return max(0, min(count, int((self.task.seconds - taken) / taken * self.opened)))

    @property
    def is_late(self) -> bool:
        """Whether the time of the task is used up."""
        return time.monotonic() - self.begun >= self.task.seconds

    @property
    def limit(self) -> float:
        """Bound up to which cells are left out."""
        found = self.best.value > self.prepared.posed.floor
        return self.best.value + (self.prepared.slack if found else 0.0)

    def _begin(self) -> None:
        """Bound the task's cells anew; if one is the whole box, climb from its centre and its relaxed maximum."""
        whole = self.prepared.whole
        cells = [cell for cell in self.task.cells if self._worth(cell.bound)]
        for first in range(0, len(cells), self.effort.batch):
            some = cells[first : first + self.effort.batch]
            paths = [tuple(int(code) for code in cell.path) for cell in some]
            ceiling = whole.bound.new_tensor([cell.bound for cell in some])
            if () in paths:
                self._look_first()
            if paths == [()]:
                self._wait(replace(whole, bound=torch.minimum(whole.bound, ceiling)), paths)
                continue
            batch = CellBatch.joined([whole] * len(some))
            self._bound(self._decided(batch.cells, paths), batch.multipliers, ceiling, paths)

    def _look_first(self) -> None:
        """Climb from the centre of the box and from its relaxed maximum."""
        starts = torch.cat([self.network.middle[None], self.prepared.whole.x])
        steps = 0 if self.is_late else 4 * self.effort.climbs
        self._polish(climb(self.network, self.prepared.posed.num_goals, starts, steps))

    def _decided(self, cells: CellBounds, paths: list[tuple[int, ...]]) -> CellBounds:
        lower, upper, side = cells.lower.clone(), cells.upper.clone(), cells.side.clone()
        for row, path in enumerate(paths):
            codes = torch.tensor(path, dtype=torch.int64, device=lower.device)
            active, inactive = codes[codes % 2 == 1] // 2, codes[codes % 2 == 0] // 2
            lower[row, active] = lower[row, active].clamp(min=0.0)
            upper[row, inactive] = upper[row, inactive].clamp(max=0.0)
            side[row, active], side[row, inactive] = 1.0, -1.0
        return replace(cells, lower=lower, upper=upper, side=side)

    def _worth(self, bound: float) -> bool:
        """Return whether a cell may hold a better point; if not, record it as left out."""
        if bound > self.limit:
            return True
        self.left_out = max(self.left_out, bound)
        return False

    def _bound(
        self, cells: CellBounds, start: Multipliers, ceiling: Float[Tensor, "cells"], paths: list[tuple[int, ...]]
    ) -> None:
        """Bound cells, search them for points, and keep those that are worth opening."""
        # A task starts with the multipliers of the whole box; with pairs, these need steps to be as good as before.
        anew = self.bounder.box.cell.coupling is not None and self.opened == 0
        batch = self.bounder.bounded(cells, start, ceiling, self.limit, self.effort.root if anew else None)
        open_cells = torch.nonzero(batch.bound > self.limit)[:, 0]
        if len(open_cells):
            self._look(batch.x[open_cells])
        self._wait(batch, paths)

    def _look(self, x: Float[Tensor, "points inputs"]) -> None:
        """Climb from the best of the given points."""
        network, num_goals = self.network, self.prepared.posed.num_goals
        if self.is_late:
            self.best.offer(x)
            return
        values = network(x)[1][:, :num_goals].amin(dim=1)
        top = values.argsort(descending=True, stable=True)[:4]
        self._polish(climb(network, num_goals, x[top], self.effort.climbs))

    def _polish(self, x: Float[Tensor, "points inputs"]) -> None:
        """From the best given point, move to the best of its region, and on from there as long as the value rises."""
        before = self.best.value
        self.best.offer(x)
        network, num_goals = self.network, self.prepared.posed.num_goals
        if self.bounder.box.cell.coupling is not None and self.opened > 0 and self.best.value <= before:
            return  # with pairs, bounds take the time
        if network.num_neurons * len(network.lower) > self.effort.polished:
            return
        x = x[network(x)[1][:, :num_goals].amin(dim=1).argmax()]
        for _ in range(0 if self.is_late else 10):
            solution = self.bounder.in_region(x)
            if solution is None:
                return
            self.best.offer(solution[None])
            before, after = self.prepared.posed.value(torch.stack([x, solution]).cpu().numpy())
            if not after > before:
                return
            x = solution

    def _wait(self, batch: CellBatch, paths: list[tuple[int, ...]]) -> None:
        """Settle cells with few undecided neurons by linear programs; queue the others."""
        undecided, kept, parts = batch.undecided.tolist(), [], []
        for row, bound in enumerate(batch.bound.tolist()):
            if not self._worth(bound):
                continue
            part = batch[row : row + 1]
            if undecided[row] <= self.effort.few:
                part = self.bounder.by_program(part, self.limit)
                self.best.offer(part.x)
                bound = float(part.bound[0])
                if undecided[row] == 0:
                    self.opened += 1
                    self.left_out = max(self.left_out, bound)
                    continue
                if not self._worth(bound):
                    continue
            kept.append(paths[row])
            parts.append(part)
        if parts:
            self.waiting.append(Pool(CellBatch.joined(parts), kept))

    def _next(self, count: int) -> Pool | None:
        """Remove the cells of the highest bounds from the queue; return None if none is worth opening."""
        batch = CellBatch.joined([pool.batch for pool in self.waiting])
        paths = [path for pool in self.waiting for path in pool.paths]
        order = batch.bound.argsort(descending=True, stable=True)
        worth = [i for i in order.tolist() if self._worth(float(batch.bound[i]))]
        taken, left = worth[:count], worth[count:]
        self.waiting = [Pool(batch[torch.tensor(left)], [paths[i] for i in left])] if left else []
        return Pool(batch[torch.tensor(taken)], [paths[i] for i in taken]) if taken else None

    def _branch(self, pool: Pool) -> None:
        """Cut each cell by its most promising neuron, and bound both parts."""
        batch = pool.batch
        neurons = self._chosen(batch)
        sides = [batch.cells.decided(of_side, side) for of_side, side in zip(neurons, (1.0, -1.0), strict=True)]
        lower, upper, side = (torch.cat([getattr(part, name) for part in sides]) for name in ("lower", "upper", "side"))
        cells = replace(batch.cells, lower=lower, upper=upper, side=side)
        twice = torch.arange(len(batch)).repeat(2)
        paths = [
            (*path, 2 * n + side)
            for side, of_side in zip((1, 0), neurons, strict=True)
            for path, n in zip(pool.paths, of_side.tolist(), strict=True)
        ]
        self._bound(cells, batch.multipliers.of(twice), batch.bound[twice], paths)

    def _chosen(self, batch: CellBatch) -> tuple[Int[Tensor, "cells"], Int[Tensor, "cells"]]:
        """Return the neuron to branch on, on each side: among the loosest, the one whose two parts are bounded best."""
        count = min(self.effort.tried, batch.looseness.shape[1])
        scores = torch.where(batch.cells.unstable, batch.looseness, -1.0)
        top, neurons = scores.topk(count, dim=1)
        if count == 1:
            return neurons[:, 0], neurons[:, 0]
        repeated = torch.arange(len(batch)).repeat_interleave(count)
        cells, multipliers = batch.cells[repeated], batch.multipliers.of(repeated)
        gains = []
        for side in (1.0, -1.0):
            bounds = self.bounder.quick_bounds(cells.decided(neurons.reshape(-1), side), multipliers)
            gain = (batch.bound[repeated] - bounds).clamp(min=0.0).reshape(len(batch), count)
            gains.append(torch.minimum(gain, (batch.bound - self.limit)[:, None]))
        gain = torch.where(top < 0.0, -1.0, gains[0] + gains[1])
        chosen = neurons.gather(1, gain.argmax(dim=1, keepdim=True))[:, 0]
        return chosen, chosen

    def _outcome(self) -> CellOutcome:
        cells = [
            OpenCell(_path(path), bound)
            for pool in self.waiting
            for path, bound in zip(pool.paths, pool.batch.bound.tolist(), strict=True)
            if self._worth(bound)
        ]
        cells.sort(key=lambda cell: -cell.bound)
        return CellOutcome(
            tuple(cells),
            self.best.x,
            self.best.value if self.best.x is not None else -np.inf,
            self.opened,
            self.left_out,
        )


def _path(codes: tuple[int, ...]) -> Int32[np.ndarray, "depth"]:
    return np.array(codes, dtype=np.int32)
