"""Enumeration by double description: cells as rays, without linear programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Int

from torch_shallow.geometry.rays.cone import NEED_WORDS
from torch_shallow.geometry.rays.storage import grown, intersection
from torch_shallow.search.engines.exact_walk import ExactWalk
from torch_shallow.search.engines.ray_walk import (
    DECIDED,
    DEPTH,
    DOUBT,
    LINES,
    NEURON,
    NUM_COLUMNS,
    OPEN,
    PARENT,
    RAYS,
    SPENT,
    START,
    TOO_MANY_RAYS,
    RayStack,
    walk,
)
from torch_shallow.search.problem import Cell, Problem
from torch_shallow.search.task_output import CUTS, NEED_FRAMES, TOP, UNDECIDED, CompiledWalk, Found, Harvest

# Linear programs find the regions of a cell sooner if these have more rays than this. On average, a cell between many
# hyperplanes in R^n has 2^n vertices, so only for n > 7 a cell with more rays will not soon have fewer.
MANY_RAYS = 128


class RayWalk(CompiledWalk):
    """Walks the domain, or what is below a path, and gives the cuts and regions to a harvest.

    Complete, and sound up to the tolerance: a neuron cuts a cell if its pre-activation, relative to the size of its
    row, exceeds the tolerance on both sides at unit rays of the cell, or if exact arithmetic says that it does.

    Args:
        problem: The enumeration problem.
        harvest: Where to append the results.
        hand_over: Called with each cell that shall change to half-spaces; it must append everything below the cell to
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
        dimension, widest, neurons = problem.chart.num_coordinates + 1, max([1, *network.sizes]), program.num_neurons
        status = np.zeros(-(-neurons // 8), dtype=np.uint64)
        self.stack = RayStack(
            np.zeros((256, NUM_COLUMNS), dtype=np.int64),
            np.zeros((256, neurons), dtype=np.int32),
            np.zeros((256, self.storage.words), dtype=np.uint64),
            status.view(np.uint8),
            status,
            np.zeros(neurons, dtype=np.int64),
            np.zeros(neurons, dtype=np.int64),
            np.zeros(max(1, neurons) * dimension),
            np.zeros((neurons, dimension)),
            np.zeros(neurons),
            np.zeros(neurons),
            np.zeros(4, dtype=np.int64),
            np.zeros((3, widest)),
            np.zeros(neurons, dtype=np.int64),
        )
        cones = self.storage.cones
        # A walk may overwrite the domain's cone in place.
        self.domain = lines, rays, cones.ids[: lines + rays].copy(), cones.sets[: lines + rays].copy(), used

    @cached_property
    def exact(self) -> ExactWalk:
        """The exact walk, which decides where float64 cannot."""
        return ExactWalk(self.problem, self.harvest)

    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        search, storage = self.problem.search, self.storage
        most = np.iinfo(np.int64).max if search.max_rays is None else search.max_rays
        many = most
        if search.max_rays is not None and 2**self.problem.chart.num_coordinates > MANY_RAYS:
            many = min(most, MANY_RAYS)
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
                most,
                many,
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
            self.stack = stack.replaced(frames=grown(stack.frames), open=grown(stack.open), used=grown(stack.used))
            return
        self.storage.grow(status)
        if status == NEED_WORDS:
            self.stack = stack.replaced(used=grown(stack.used, axis=1))

    def run(self) -> None:
        """Walk everything below the path given to the harvest."""
        lines, rays, ids, sets, used = self.domain
        cones, stack = self.storage.cones, self.stack
        cones.ids[: len(ids)] = ids
        cones.sets[: len(ids)] = 0
        cones.sets[: len(ids), : sets.shape[1]] = sets
        frame = stack.frames[0]
        frame[:] = 0
        frame[LINES], frame[RAYS], frame[NEURON], frame[PARENT] = lines, rays, -1, -1
        stack.used[0] = 0
        stack.used[0, : len(used)] = used
        stack.status[:] = 0
        stack.status[: len(stack.norms)] = UNDECIDED
        starts = self.problem.network.source_starts
        stack.waiting[:] = starts[1:] - starts[:-1]
        stack.state[:] = self.pool_top, 0, 0, -1
        self._walk_all()

    def _decide(self, top: int, counts: Int[np.ndarray, "counts"]) -> None:
        """Settle the first open neuron of the top cell; if it cuts the cell, walk everything below it exactly."""
        stack, cell = self.stack, self._top_cell(top)
        neuron = int(stack.open[top, : stack.frames[top, OPEN]].min())
        stage = int(self.problem.network.stage_of[neuron])
        side = self.exact.side_of(cell, stage, neuron - int(self.problem.network.offsets[stage]))
        if side is None:
            counts[TOP] -= 1
            self.exact.run(cell)
            counts[CUTS] = self.harvest.num_cuts
        else:
            stack.state[DECIDED] = 2 * neuron + side

    def _top_cell(self, top: int) -> Cell:
        """Return the cell on top of the stack as half-spaces; its status ends with the first unsettled stage."""
        network, stack, cones = self.problem.network, self.stack, self.storage.cones
        frame, offsets = stack.frames[top], network.offsets
        known = stack.status[: len(stack.norms)]
        status = np.where(known == UNDECIDED, -1, known.astype(np.int8)).astype(np.int8)
        for first in np.flatnonzero(status < 0)[:1]:  # a cell knows no stage after the first unsettled one
            status[offsets[network.stage_of[first] + 1] :] = -1
        path = self.harvest.path(int(frame[PARENT]), int(frame[DEPTH]))
        rows = [(1 if side else -1) * stack.rows[neuron] for neuron, side in path]
        first = frame[START]
        point = cones.pool[cones.ids[first : first + frame[LINES] + frame[RAYS]]].sum(axis=0)
        rows_of_path = np.array(rows).reshape(-1, cones.pool.shape[1])
        point = point / np.linalg.norm(point)
        return Cell(int(frame[PARENT]), int(frame[DEPTH]), status, rows_of_path, point)
