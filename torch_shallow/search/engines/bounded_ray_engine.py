"""The engine for few inputs: cells as rays, bounded by relaxation, cut only where they may hold a better point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.dual_ascent import BoundRoom
from torch_shallow.bounds.packed_layers import PackedLayers, intervals, transposed
from torch_shallow.bounds.vertex_program import best_mixture, inner_mixture
from torch_shallow.domain import Box, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.geometry.rays.cone import NEED_WORDS
from torch_shallow.geometry.rays.storage import grown, intersection
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.engines.bounded_cells import (
    DEPTH,
    NUM_COLUMNS,
    POOL_TOP,
    RAYS,
    SPENT,
    STEP,
    BoundedStack,
)
from torch_shallow.search.engines.bounded_ray_walk import (
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
from torch_shallow.search.problem import pack
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell, Posed
from torch_shallow.search.task_output import DONE, FULL, NEED_FRAMES

SHARES = (0.0, 1e-15, 1e-13, 1e-11, 1e-9, 1e-7)  # how far a point is moved inward until it counts


class RayBounder:
    """Opens cells of a question depth first, each cell as its vertices.

    Complete, and sound up to a tolerance: a neuron cuts a cell if it is beyond 1e-10 of its size on both sides, and all
    bounds are moved outward by 1e-9 of the size of the linear function that they are the greatest value of.

    Args:
        posed: the question.
        ascent: how many steps the multipliers of a cell are improved by; by default 4 for a single goal, and 24 for
            several goals or constraints, whose weights take longer to find.
        tolerance: see above.

    Raises:
        TransformError: the domain is not bounded.
    """

    def __init__(self, posed: Posed, ascent: int | None = None, tolerance: float = 1e-10) -> None:
        self.posed, self.tolerance = posed, tolerance
        self.ascent = ascent or (4 if posed.program.num_outputs == 1 else 24)
        self.chart = make_chart(_with_outputs(posed.program), posed.domain)  # outputs may read the input themselves
        self.network = pack(_with_outputs(posed.program.balanced), self.chart)
        self.storage, (lines, rays, self.pool_top), used = intersection(self.chart.inequalities, tolerance)
        cones = self.storage.cones
        vertices = cones.pool[cones.ids[:rays]]
        if lines or (vertices[:, -1] <= 0.0).any():
            raise TransformError(
                "domain: expected a bounded box or polytope, found one that reaches to infinity; bound all inputs."
            )
        self.domain = rays, cones.ids[:rays].copy(), cones.sets[:rays].copy(), used
        self.vertices = vertices[:, :-1] / vertices[:, -1:]
        self.low, self.high = intervals(self.network, np.column_stack([self.vertices, np.ones(rays)]))
        self._make_room()

    def _make_room(self) -> None:
        """All work space, for few cells at first."""
        network, dimension = self.network, self.chart.num_coordinates + 1
        size, neurons = int(network.offsets[-1]), int(network.offsets[-2])
        self.layers = PackedLayers(network, transposed(network), np.zeros((len(network.sizes), size * dimension)))
        self.stack = BoundedStack(
            np.zeros((256, NUM_COLUMNS), dtype=np.int64),
            np.zeros(256),
            np.zeros((256, neurons)),
            np.zeros((256, neurons)),
            np.zeros((256, neurons)),
            np.zeros((256, size - neurons)),
            np.zeros((256, self.storage.words), dtype=np.uint64),
            np.zeros(size * dimension),
            np.zeros(size),
            np.zeros(size, dtype=np.uint8),
            np.zeros(1, dtype=np.int64),
        )
        self.room = self._bound_room(len(self.storage.scratch.values))

    def _bound_room(self, rays: int) -> BoundRoom:
        dimension, size = self.chart.num_coordinates + 1, int(self.network.offsets[-1])
        row, before, state, gradient, default = np.zeros((5, size))
        linear, point, centre, mixture, candidate = np.zeros((5, dimension))
        points, values = np.zeros((dimension, rays)), np.zeros(max(rays, size))
        active = np.zeros(size, dtype=np.int64)
        return BoundRoom(
            points, values, row, before, state, gradient, linear, point, active, centre, mixture, candidate, default
        )

    def root(self) -> OpenCell:
        """The whole domain, with a bound by intervals."""
        neurons = int(self.network.offsets[-2])
        bound = self.high[neurons : neurons + self.posed.num_goals].min()
        if (self.high[neurons + self.posed.num_goals :] < 0.0).any():
            bound = -np.inf
        return OpenCell(np.zeros(0, dtype=np.int32), float(bound))

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, depth first, until the budget is used up or a point is good enough."""
        search = _Exploration(self, task)
        if any(len(cell.path) == 0 for cell in task.cells):
            start = climb(self.posed, self.chart.lift(self.vertices))
            search.consider_input(start)
        still_open: list[OpenCell] = []
        for cell in task.cells:
            if search.ended:
                still_open.append(cell)
            else:
                still_open += search.open(cell)
        return CellOutcome(
            tuple(sorted(still_open, key=lambda cell: -cell.bound)),
            search.x,
            search.value,
            int(search.counts[CELLS]),
            float(search.numbers[LEFT_OUT]),
        )


class _Exploration:
    """One task."""

    def __init__(self, engine: RayBounder, task: CellTask) -> None:
        self.engine, self.posed = engine, engine.posed
        self.x: Float[np.ndarray, "inputs"] | None = None
        self.value = -np.inf
        self.counts, self.numbers = np.zeros(NUM_COUNTS, dtype=np.int64), np.zeros(NUM_NUMBERS)
        self.counts[[BUDGET, GOALS, ASCENT]] = max(1, task.budget), self.posed.num_goals, engine.ascent
        neurons = int(engine.network.offsets[-2])
        self.lowest = float(engine.low[neurons : neurons + self.posed.num_goals].min())
        self.numbers[[LEFT_OUT, TOLERANCE]] = -np.inf, engine.tolerance
        self._set_incumbent(task.incumbent)

    def _set_incumbent(self, value: float) -> None:
        self.numbers[INCUMBENT] = value
        self.numbers[REFERENCE] = max(value, self.lowest)
        # While nothing is found, what is left out must be no better than the floor.
        self.numbers[CLOSE] = 1e-9 * abs(value) if value > self.posed.floor else 0.0

    @property
    def ended(self) -> bool:
        """Whether the budget is used up, or a point is good enough."""
        return bool(self.counts[CELLS] >= self.counts[BUDGET]) or self.value > self.posed.enough

    def open(self, cell: OpenCell) -> list[OpenCell]:
        """Open a cell and those below it; returns those that are left open."""
        engine, counts = self.engine, self.counts
        self._begin(cell.bound)
        path = np.ascontiguousarray(cell.path, dtype=np.int32)
        while True:
            status = walk_bounded(
                engine.layers,
                engine.storage.cones,
                engine.storage.scratch,
                engine.stack,
                engine.room,
                path,
                counts,
                self.numbers,
            )
            if status == DONE:
                return []
            if status == CANDIDATE:
                self._consider(engine.room.candidate[:-1].copy())
            elif status == LEAF:
                self._solve_leaf()
            elif status != FULL:
                self._grow(status)
            if status == FULL or self.value > self.posed.enough:
                return self._left_open()

    def _begin(self, bound: float) -> None:
        """Put the whole domain on the stack."""
        engine, stack = self.engine, self.engine.stack
        rays, ids, sets, used = engine.domain
        cones, neurons = engine.storage.cones, int(engine.network.offsets[-2])
        cones.ids[:rays] = ids
        cones.sets[:rays] = 0
        cones.sets[:rays, : sets.shape[1]] = sets
        stack.frames[0] = 0
        stack.frames[0, [RAYS, STEP, POOL_TOP]] = rays, -1, engine.pool_top
        stack.used[0] = 0
        stack.used[0, : len(used)] = used
        stack.pool_top[0] = engine.pool_top
        stack.bound[0] = bound
        stack.low[0], stack.high[0] = engine.low[:neurons], engine.high[:neurons]
        stack.slopes[0] = engine.high[:neurons] > -engine.low[:neurons]
        stack.weights[0] = 1.0 / len(stack.weights[0])
        self.counts[TOP] = 0

    def _grow(self, status: int) -> None:
        """Make room for what the walk has asked for."""
        engine, stack = self.engine, self.engine.stack
        if status == NEED_FRAMES:
            engine.stack = stack.replaced(
                frames=grown(stack.frames),
                bound=grown(stack.bound),
                low=grown(stack.low),
                high=grown(stack.high),
                slopes=grown(stack.slopes),
                weights=grown(stack.weights),
                used=grown(stack.used),
            )
            return
        engine.storage.grow(status)
        if status == NEED_WORDS:
            engine.stack = stack.replaced(used=grown(stack.used, axis=1))
        engine.room = engine._bound_room(len(engine.storage.scratch.values))

    def _left_open(self) -> list[OpenCell]:
        """The cells on the stack, each with its path: the steps of the cells below it that have been cut."""
        stack = self.engine.stack
        path: list[int] = []
        cells: list[OpenCell] = []
        for index in range(int(self.counts[TOP]) + 1):
            frame = stack.frames[index]
            del path[max(0, int(frame[DEPTH]) - 1) :]
            steps = [*path, int(frame[STEP])] if frame[DEPTH] else []
            if frame[SPENT]:
                path = steps
            else:
                cells.append(OpenCell(np.array(steps, dtype=np.int32), float(stack.bound[index])))
        return cells

    def _solve_leaf(self) -> None:
        """Find the best point of the cell on top of the stack, which has one affine map, and take it off."""
        engine = self.engine
        stack, top, network = engine.stack, int(self.counts[TOP]), engine.network
        outputs, dimension = int(network.offsets[-2]), engine.chart.num_coordinates + 1
        maps = stack.maps[outputs * dimension :].reshape(dimension, -1)
        count = int(stack.frames[top, RAYS])
        points = engine.room.points[:, :count]
        rows, goals = maps.T @ points, self.posed.num_goals
        weights, bound = best_mixture(rows, goals)
        if weights is not None:
            # A constraint that is just kept may be broken by rounding: points further inside follow.
            self._consider(points[:-1] @ weights, points[:-1] @ inner_mixture(rows[goals:]))
        allowance = 1e-9 * np.abs(maps).sum(axis=0).max()
        self.numbers[LEFT_OUT] = max(self.numbers[LEFT_OUT], min(float(stack.bound[top]), bound + allowance))
        self.counts[TOP] -= 1
        self.counts[CELLS] += 1

    def _consider(
        self, v: Float[np.ndarray, "coordinates"], inner: Float[np.ndarray, "coordinates"] | None = None
    ) -> None:
        """Look at a point of the chart, and if it is not of the domain, at points nearer to an inner one."""
        inner = self.engine.chart.inner if inner is None else inner
        for share in SHARES:
            if self.consider_input(self.engine.chart.lift(v + share * (inner - v))):
                return

    def consider_input(self, x: Float[np.ndarray, "inputs"]) -> bool:
        """Take a point if it is better than the incumbent; returns whether it counts at all."""
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


def _with_outputs(program: ReLUProgram) -> ReLUProgram:
    """The program with its outputs as one more stage."""
    return replace(program, stages=(*program.stages, Stage("", program.out_weight, program.out_bias)))
