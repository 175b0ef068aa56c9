"""Engine for wide networks and many inputs: backward linear bounds of many cells at once, branching on ReLUs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from torch_shallow.bounds.coupling import with_distances
from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.search.boxed import boxed, in_own_lengths
from torch_shallow.search.engines.cell_batch import CellBounder
from torch_shallow.search.engines.exploration import Effort, Exploration, Prepared
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell, Posed

TASK_CELLS = 256


class BackwardEngine:
    """Opens cells by backward linear bounds, whose multipliers are optimised in batches of cells.

    Complete: branching ends where no neuron is undecided; there a linear program finds the maximum of the single affine
    map. Sound: every bound is proven by weak duality and widened for rounding. Pairs of neurons that nearly agree are
    bounded together through units for their differences (`bounds/coupling.py`), which paths count as neurons.

    Args:
        posed: The question.
        effort: How much work goes into each step.
        device: Where the tensors live.
        known: Known bounds of its neurons in the box; computed by default.

    Raises:
        TransformError: The domain is not bounded.
    """

    def __init__(
        self,
        posed: Posed,
        effort: Effort | None = None,
        device: torch.device | str = "cpu",
        known: BoxBounds | None = None,
    ) -> None:
        self.posed, self.lengths = in_own_lengths(boxed(posed))
        self.known = known
        self.effort = effort or Effort()
        program = self.posed.program
        lower, upper = self.posed.domain.bounds(program.in_shape)  # type: ignore[attr-defined]
        wider, self.coupling = with_distances(program.balanced, device)
        self.network = StagedNetwork.of(wider, lower, upper, device)

    @cached_property
    def bounded(self) -> BoxBounds:
        """Bounds of all neurons in the box; they do not depend on the outputs."""
        if self.known is not None:
            return self.known.with_outputs(self.network)
        return BoxBounds.of(self.network, self.effort.box, coupling=self.coupling)

    @cached_property
    def prepared(self) -> Prepared:
        """What is known about the whole box."""
        box = self.bounded
        goals = Goals(self.network, self.posed.num_goals, box.sizes[-1])
        bounder = CellBounder(self.network, box, goals, self.effort.cell)
        cell, start = bounder.whole
        ceiling = torch.full((1,), torch.inf, dtype=torch.float64, device=cell.lower.device)
        whole = bounder.bounded(cell, start, ceiling, self.posed.floor, self.effort.root)
        size = float(goals.sizes[: self.posed.num_goals].max())
        return Prepared(self.posed, self.effort, bounder, whole, self.effort.tolerance * size)

    @property
    def task_cells(self) -> int:
        """Number of cells that a task should open: a few batches."""
        return TASK_CELLS

    @property
    def at_once(self) -> int:
        """Number of cells to give a task: one with coupled pairs, whose bounds fall slowly: the highest one counts."""
        return 1 if self.coupling is None else self.effort.batch

    def root(self) -> OpenCell:
        """Return the whole domain, with a bound."""
        return OpenCell(np.zeros(0, dtype=np.int32), float(self.prepared.whole.bound[0]))

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, highest bounds first, until the budget is used up."""
        with torch.no_grad():
            found = Exploration(self.prepared, task).run()
        return found if found.x is None else replace(found, x=found.x * self.lengths)
