"""Engine for few inputs: cells as rays, bounded by relaxation, and cut only where they may hold a better point."""

from __future__ import annotations

from queue import Empty, SimpleQueue

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.vertex_program import best_mixture, inner_mixture
from torch_shallow.domain import Box, Polytope
from torch_shallow.search.engines.bounded_ray_walk import (
    ARRIVED,
    ASCENT,
    BUDGET,
    CANDIDATE,
    CELLS,
    CLOSE,
    GOALS,
    INCUMBENT,
    LEAF,
    LEFT_OUT,
    NUM_COUNTS,
    NUM_NUMBERS,
    REFERENCE,
    TOLERANCE,
    TOP,
    walk_bounded,
)
from torch_shallow.search.engines.multi_start import climb
from torch_shallow.search.engines.ray_workspace import RayWorkspace
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell, Posed
from torch_shallow.search.task_output import DONE, FULL

TASK_CELLS = 512
SHARES = (0.0, 1e-15, 1e-13, 1e-11, 1e-9, 1e-7)  # how far a point is moved inward, step by step, until it counts

WORTH_CLIMBING = 100  # a task that may open this many cells begins with an ascent in each of its cells


class RayBounder:
    """Opens the cells of a question depth first, each given by its vertices.

    Complete, and sound up to a tolerance: a neuron cuts a cell if it exceeds 1e-10 of its size on both sides, and each
    bound is moved outward by 1e-9 of the size of the linear function whose maximum it is.

    Args:
        posed: The question.
        ascent: Number of steps that improve the multipliers of a cell; by default 3 times the square of the number of
            outputs, since the weights of many goals and constraints take long to find.
        tolerance: Share of its size that a neuron must exceed on both sides to cut a cell.

    Raises:
        TransformError: The domain is not bounded.
    """

    def __init__(self, posed: Posed, ascent: int | None = None, tolerance: float = 1e-10) -> None:
        self.posed, self.tolerance = posed, tolerance
        self.ascent = ascent or 3 * posed.program.num_outputs**2
        self.workspace = RayWorkspace(posed, tolerance)
        self._idle: SimpleQueue[RayWorkspace] = SimpleQueue()
        self._idle.put(self.workspace)

    @property
    def task_cells(self) -> int:
        """Number of cells that a task should open: about a tenth of a second of work."""
        return TASK_CELLS

    def root(self) -> OpenCell:
        """Return the whole domain, with a bound from intervals."""
        high, goals = self.workspace.high, self.workspace.goals
        bound = -np.inf if (high[goals.stop :] < 0.0).any() else high[goals].min()
        return OpenCell(np.zeros(0, dtype=np.int32), float(bound))

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, depth first, until the budget is used up or a point is good enough."""
        try:
            workspace = self._idle.get_nowait()
        except Empty:  # other threads are at work
            workspace = RayWorkspace(self.posed, self.tolerance)
        search = _Exploration(self, workspace, task)
        still_open: list[OpenCell] = []
        for cell in task.cells:
            if search.ended:
                still_open.append(cell)
            else:
                still_open += search.open(cell)
        self._idle.put(workspace)
        return CellOutcome(
            tuple(sorted(still_open, key=lambda cell: -cell.bound)),
            search.x,
            search.value,
            int(search.counts[CELLS]),
            float(search.numbers[LEFT_OUT]),
        )


class _Exploration:
    """Work on one task."""

    def __init__(self, engine: RayBounder, workspace: RayWorkspace, task: CellTask) -> None:
        self.workspace, self.posed = workspace, engine.posed
        self.x: Float[np.ndarray, "inputs"] | None = None
        self.value = -np.inf
        self.counts, self.numbers = np.zeros(NUM_COUNTS, dtype=np.int64), np.zeros(NUM_NUMBERS)
        self.counts[[BUDGET, GOALS, ASCENT]] = max(1, task.budget), self.posed.num_goals, engine.ascent
        self.lowest = float(self.workspace.low[self.workspace.goals].min())
        self.numbers[[LEFT_OUT, TOLERANCE]] = -np.inf, engine.tolerance
        self._set_incumbent(task.incumbent)

    def _set_incumbent(self, value: float) -> None:
        self.numbers[INCUMBENT] = value
        self.numbers[REFERENCE] = max(value, self.lowest)
        # As long as nothing is found, what is left out must not be better than the floor.
        self.numbers[CLOSE] = 1e-9 * abs(value) if value > self.posed.floor else 0.0

    @property
    def ended(self) -> bool:
        """Whether the budget is used up, or a point is good enough."""
        return bool(self.counts[CELLS] >= self.counts[BUDGET]) or self.value > self.posed.enough

    def open(self, cell: OpenCell) -> list[OpenCell]:
        """Open a cell and those below it; return the cells left open."""
        workspace, counts = self.workspace, self.counts
        workspace.begin(cell.bound)
        counts[TOP] = 0
        path = np.ascontiguousarray(cell.path, dtype=np.int32)
        while True:
            status = walk_bounded(
                workspace.layers,
                workspace.storage.cones,
                workspace.storage.scratch,
                workspace.stack,
                workspace.room,
                path,
                counts,
                self.numbers,
            )
            if status == DONE:
                return []
            if status == ARRIVED:
                self._climb(len(path) == 0)
            elif status == CANDIDATE:
                self._consider(workspace.room.candidate[:-1].copy())
            elif status == LEAF:
                self._solve_leaf()
            elif status != FULL:
                workspace.grow(status)
            if status == FULL or self.value > self.posed.enough:
                return workspace.left_open(int(counts[TOP]))

    def _climb(self, everywhere: bool) -> None:
        """Seek a good point in the cell on top of the stack, if it is the domain or many cells may be opened."""
        if everywhere or self.counts[BUDGET] >= WORTH_CLIMBING:
            vertices = self.workspace.chart.lift(self.workspace.vertices_of(int(self.counts[TOP])))
            starts, rounds = (48, 12) if everywhere else (24, 8)
            self.consider_input(climb(self.posed, vertices, starts, rounds))

    def _solve_leaf(self) -> None:
        """Find the best point of the top cell, which has a single affine map, and pop the cell."""
        top, goals = int(self.counts[TOP]), self.posed.num_goals
        vertices, rows, allowance = self.workspace.leaf(top)
        weights, bound = best_mixture(rows, goals)
        if weights is not None:
            # Rounding may break a constraint that holds with equality: points further inside follow.
            self._consider(vertices @ weights, vertices @ inner_mixture(rows[goals:]))
        bound = min(float(self.workspace.stack.bound[top]), bound + allowance)
        self.numbers[LEFT_OUT] = max(self.numbers[LEFT_OUT], bound)
        self.counts[TOP] -= 1
        self.counts[CELLS] += 1

    def _consider(
        self, v: Float[np.ndarray, "coordinates"], inner: Float[np.ndarray, "coordinates"] | None = None
    ) -> None:
        """Try a point of the chart and, if it is outside the domain, points nearer to an inner one."""
        inner = self.workspace.chart.inner if inner is None else inner
        for share in SHARES:
            if self.consider_input(self.workspace.chart.lift(v + share * (inner - v))):
                return

    def consider_input(self, x: Float[np.ndarray, "inputs"]) -> bool:
        """Take a point if it is better than the incumbent; return whether it is admissible at all."""
        program, domain = self.posed.program, self.posed.domain
        if isinstance(domain, Box):
            x = np.clip(x, *domain.bounds(program.in_shape))
        elif isinstance(domain, Polytope):
            a, b = domain.inequalities(program.in_shape)
            if (a @ x > b).any():
                return False
        value = float(self.posed.value(x[None])[0])
        if value > self.numbers[INCUMBENT]:
            self.x, self.value = x, value
            self._set_incumbent(value)
        return value > -np.inf
