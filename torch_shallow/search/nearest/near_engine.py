"""Engine that seeks a nearest point: cells in the ball that is still of interest, branching on ReLUs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.multipliers import Descent
from torch_shallow.bounds.norm_ball import BallNetwork
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.search.engines.exploration import Effort, Prepared
from torch_shallow.search.nearest.ball_cells import BallBounder
from torch_shallow.search.nearest.near_exploration import NearExploration
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell

TASK_CELLS = 256
TASK_NUMBERS = 2_000_000  # approximate number of weights in all cells of a task together
ROUNDING = 1e-15  # relative rounding error of a distance
EFFORT = Effort(cell=Descent(16, end=0.3, progress=0.03))


class NearestEngine:
    """Opens cells by the distance of their sought points, branching on alternatives first.

    The bounds of all neurons hold in the ball of interest; in L1 and L2 they are far tighter than those of a box around
    it. Complete: where no neuron is undecided, the nearest point is that of a polyhedron. Sound: every bound is proven
    by weak duality and widened for rounding.

    Args:
        sought: The question.
        effort: How much work goes into each step.
        device: Where the tensors live.
    """

    def __init__(self, sought: Sought, effort: Effort | None = None, device: torch.device | str = "cpu") -> None:
        # Each neuron gets its own unit, a power of two, so that only exponents change.
        program, self.cuts = sought.program.balanced, sought.cuts
        self.sought = replace(sought, program=program if self.cuts is None else self.cuts.behind(program))
        self.device = device
        self.effort = effort or EFFORT

    @cached_property
    def prepared(self) -> tuple[Prepared, ...]:
        """What is known about the whole ball; the neurons are bounded once for all alternatives."""
        sought, prepared, box = self.sought, [], None
        lower, upper = np.maximum(sought.lower, -sought.reach), np.minimum(sought.upper, sought.reach)
        for single in sought.single:
            staged = StagedNetwork.of(single.program, lower, upper, self.device)
            network = BallNetwork.around(staged, sought.norm, sought.reach)
            box = BoxBounds.of(network, self.effort.box) if box is None else box.with_outputs(network)
            goals = Goals(network, single.num_goals, box.sizes[-1])
            bounder = BallBounder(network, box, goals, self.effort.cell)
            cell, start = bounder.whole
            if self.effort.root.is_late:  # no step will find better weights
                start = start._replace(weights=goals.weights_of_one(int(goals.values(network.middle).argmin())))
            ceiling = torch.full((1,), torch.inf, dtype=torch.float64, device=cell.lower.device)
            whole = bounder.bounded(cell, start, ceiling, single.floor, self.effort.root)
            prepared.append(Prepared(single, self.effort, bounder, whole, ROUNDING * sought.reach))
        return tuple(prepared)

    @property
    def task_cells(self) -> int:
        """Number of cells that a task should open: a few batches, or fewer for a large network."""
        program = self.sought.program
        return int(np.clip(TASK_NUMBERS // (1 + program.num_inputs * program.num_neurons), 8, TASK_CELLS))

    def root(self) -> OpenCell:
        """Return the whole ball, with all alternatives."""
        bounds = [float(one.whole.bound[0]) for one in self.prepared]
        return OpenCell(np.zeros(0, dtype=np.int32), max(bounds, default=-np.inf))

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, one alternative after another."""
        first = 2 * self.sought.program.num_neurons  # code of the first alternative
        cells = list[OpenCell]()
        for cell in task.cells:
            if len(cell.path):
                cells.append(cell)
                continue
            for k, one in enumerate(self.prepared):
                path = np.array([first + k], dtype=np.int32)
                cells.append(OpenCell(path, min(cell.bound, float(one.whole.bound[0]))))
        cells.sort(key=lambda cell: -cell.bound)
        found = CellOutcome((), None, -np.inf, 0)
        left, best = list[OpenCell](), task.incumbent
        for k in dict.fromkeys(int(cell.path[0]) - first for cell in cells):
            own = tuple(OpenCell(cell.path[1:], cell.bound) for cell in cells if cell.path[0] == first + k)
            if found.cells >= task.budget or best > self.sought.enough:
                left += [cell for cell in cells if cell.path[0] == first + k]
                continue
            part = replace(task, cells=own, incumbent=best, budget=task.budget - found.cells)
            with torch.no_grad():
                outcome = NearExploration(self.prepared[k], part, self.cuts).run()
            prefix = np.array([first + k], dtype=np.int32)
            left += [OpenCell(np.concatenate([prefix, cell.path]), cell.bound) for cell in outcome.open]
            found = replace(
                found, cells=found.cells + max(1, outcome.cells), left_out=max(found.left_out, outcome.left_out)
            )
            if outcome.x is not None and outcome.value > best:
                best = outcome.value
                found = replace(found, x=outcome.x, value=best)
        left.sort(key=lambda cell: -cell.bound)
        return replace(found, open=tuple(left))
