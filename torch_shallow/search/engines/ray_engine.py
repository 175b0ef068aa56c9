"""Enumeration by double description: cells as rays, no linear programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Int

from torch_shallow.geometry.rays.cone import NEED_WORDS
from torch_shallow.geometry.rays.storage import grown, intersection
from torch_shallow.search.engines.exact_walk import ExactWalk
from torch_shallow.search.engines.ray_walk import (
    CURSOR,
    DEPTH,
    DOUBT,
    LINES,
    NUM_COLUMNS,
    PARENT,
    POOL_TOP,
    RAYS,
    SPENT,
    STAGE,
    START,
    TOO_MANY_RAYS,
    RayStack,
    walk,
)
from torch_shallow.search.problem import Cell, Problem
from torch_shallow.search.task_output import CUTS, NEED_FRAMES, TOP, UNDECIDED, CompiledWalk, Found, Harvest


class RayWalk(CompiledWalk):
    """Walks the domain, or what is below a path, and gives its cuts and regions to a harvest.

    Complete, and sound up to the tolerance: a neuron cuts a cell if its pre-activation, measured against the size of
    its row, is beyond the tolerance on both sides at unit rays of the cell, or if exact arithmetic says that it does.

    Args:
        problem: what is enumerated.
        harvest: where to append.
        hand_over: called with each cell that has more rays than it may have; it has to append what is below the cell to
            the harvest.
    """

    engine = "double-description"
    parent_and_spent = (PARENT, SPENT)

    def __init__(self, problem: Problem, harvest: Harvest, hand_over: Callable[[Cell], None]) -> None:
        super().__init__(problem, harvest)
        self.hand_over = hand_over
        program, network = problem.program, problem.network
        self.storage, (lines, rays, self.pool_top), used = intersection(
            problem.chart.inequalities, problem.search.tolerance
        )
        dimension, widest = problem.chart.num_coordinates + 1, max([1, *network.sizes])
        self.stack = RayStack(
            np.zeros((256, NUM_COLUMNS), dtype=np.int64),
            np.zeros((256, widest), dtype=np.uint8),
            np.zeros((256, self.storage.words), dtype=np.uint64),
            np.zeros(max(1, program.num_neurons) * dimension),
            np.zeros(program.num_neurons),
            np.zeros(program.num_neurons),
            np.zeros(program.num_neurons, dtype=np.uint8),
            np.zeros(1, dtype=np.int64),
            np.zeros((4, max(widest, dimension))),
            np.zeros(program.num_neurons, dtype=np.int64),
        )
        cones = self.storage.cones
        # A walk may change the domain's cone where it lies.
        self.domain = lines, rays, cones.ids[: lines + rays].copy(), cones.sets[: lines + rays].copy(), used

    @cached_property
    def exact(self) -> ExactWalk:
        """What decides where float64 cannot."""
        return ExactWalk(self.problem, self.harvest)

    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        search, storage = self.problem.search, self.storage
        limit = np.iinfo(np.int64).max if search.max_rays is None else search.max_rays
        path = self.harvest.given
        return int(
            walk(
                self.problem.network,
                storage.cones,
                storage.scratch,
                self.stack,
                found,
                counts,
                search.tolerance,
                limit,
                path,
            )
        )

    def _serve(self, status: int, counts: Int[np.ndarray, "counts"]) -> None:
        stack = self.stack
        if status == TOO_MANY_RAYS:
            cell = self._top_cell(int(counts[TOP]))
            counts[TOP] -= 1
            self.hand_over(cell)
            counts[CUTS] = self.harvest.num_cuts
            return
        if status == DOUBT:
            self._decide(int(counts[TOP]), counts)
            return
        if status == NEED_FRAMES:
            self.stack = stack.replaced(frames=grown(stack.frames), status=grown(stack.status), used=grown(stack.used))
            return
        self.storage.grow(status)
        if status == NEED_WORDS:
            self.stack = stack.replaced(used=grown(stack.used, axis=1))

    def run(self) -> None:
        """Walk everything below the path that the harvest has been given."""
        lines, rays, ids, sets, used = self.domain
        cones, stack = self.storage.cones, self.stack
        cones.ids[: len(ids)] = ids
        cones.sets[: len(ids)] = 0
        cones.sets[: len(ids), : sets.shape[1]] = sets
        stack.frames[0] = 0
        stack.frames[0, [LINES, RAYS, CURSOR, PARENT, POOL_TOP]] = lines, rays, -1, -1, self.pool_top
        stack.used[0] = 0
        stack.used[0, : len(used)] = used
        stack.pool_top[0] = self.pool_top
        self._walk_all()

    def _decide(self, top: int, counts: Int[np.ndarray, "counts"]) -> None:
        """Settle the neuron at the cursor of the top cell; if it cuts the cell, walk below the cell exactly."""
        frame, cell = self.stack.frames[top], self._top_cell(top)
        side = self.exact.side_of(cell, int(frame[STAGE]), int(frame[CURSOR]))
        if side is None:
            counts[TOP] -= 1
            self.exact.run(cell)
            counts[CUTS] = self.harvest.num_cuts
        else:
            self.stack.status[top, frame[CURSOR]] = side

    def _top_cell(self, top: int) -> Cell:
        """The cell on top of the stack, as half-spaces."""
        network, stack, cones = self.problem.network, self.stack, self.storage.cones
        frame, dimension = stack.frames[top], cones.pool.shape[1]
        offsets, stage = network.offsets, frame[STAGE]
        status = np.full(offsets[-1], -1, dtype=np.int8)
        status[: offsets[stage]] = stack.pattern[: offsets[stage]]
        if frame[CURSOR] >= 0:
            current = stack.status[top, : network.sizes[stage]]
            status[offsets[stage] : offsets[stage + 1]] = np.where(current == UNDECIDED, -1, current)
        rows = []
        for neuron, side in self.harvest.path(int(frame[PARENT]), int(frame[DEPTH])):
            at = int(np.searchsorted(offsets, neuron, side="right")) - 1
            maps = stack.maps[offsets[at] * dimension : offsets[at + 1] * dimension].reshape(dimension, -1)
            rows.append((1 if side else -1) * maps[:, neuron - offsets[at]])
        first = frame[START]
        point = cones.pool[cones.ids[first : first + frame[LINES] + frame[RAYS]]].sum(axis=0)
        rows_of_path = np.array(rows).reshape(-1, dimension)
        point = point / np.linalg.norm(point)
        return Cell(int(frame[PARENT]), int(frame[DEPTH]), status, rows_of_path, point)
