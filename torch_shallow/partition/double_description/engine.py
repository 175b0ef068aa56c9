"""Enumeration by double description: cells as rays, no linear programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torch_shallow.partition.cells import Cell
from torch_shallow.partition.chart import Chart
from torch_shallow.partition.double_description.cone import NEED_WORDS
from torch_shallow.partition.double_description.storage import ConeStorage, grown, intersection
from torch_shallow.partition.double_description.walk import (
    CURSOR,
    LINES,
    NUM_COLUMNS,
    PARENT,
    RAYS,
    STAGE,
    START,
    TOO_MANY_RAYS,
    Stack,
    walk,
)
from torch_shallow.partition.found import CUTS, DONE, FULL, NEED_FRAMES, TOP, UNDECIDED, empty_block, new_counts
from torch_shallow.partition.network import Network, pack
from torch_shallow.partition.partition import Growth
from torch_shallow.trace.program import ReLUProgram


def enumerate_by_rays(
    program: ReLUProgram,
    chart: Chart,
    growth: Growth,
    *,
    tolerance: float,
    max_rays: int | None,
    hand_over: Callable[[Cell], None],
) -> None:
    """Walk the whole domain and append its cuts and regions to `growth`.

    Complete, and sound up to `tolerance`: a neuron cuts a cell if its pre-activation, measured against the size of its
    row, is beyond the tolerance on both sides at unit rays of the cell.

    Args:
        program: the network.
        chart: coordinates and domain.
        growth: where to append.
        tolerance: relative size up to which the value of a neuron at a unit ray counts as zero.
        max_rays: a cell with more rays is handed over; None: none is.
        hand_over: called with each such cell; it has to append the cell's cuts and regions to `growth`.
    """
    network = pack(program, chart)
    storage, (lines, rays, pool_top), used = intersection(chart.inequalities, tolerance)
    dimension, widest = chart.num_coordinates + 1, max([1, *(stage.num_neurons for stage in program.stages)])
    stack = Stack(
        np.zeros((256, NUM_COLUMNS), dtype=np.int64),
        np.zeros((256, widest), dtype=np.uint8),
        np.zeros((256, storage.words), dtype=np.uint64),
        np.zeros(max(1, program.num_neurons) * dimension),
        np.zeros(program.num_neurons),
        np.zeros(program.num_neurons, dtype=np.uint8),
        np.full(1, pool_top),
        np.zeros((4, max(widest, dimension))),
    )
    stack.frames[0, [LINES, RAYS, CURSOR, PARENT]] = lines, rays, -1, -1
    stack.used[0] = used
    counts = new_counts(growth.num_cuts)
    found = empty_block(program, dimension)
    limit = np.iinfo(np.int64).max if max_rays is None else max_rays
    while True:
        status = walk(network, storage.cones, storage.scratch, stack, found, counts, tolerance, limit)
        if status in (DONE, FULL, TOO_MANY_RAYS):
            growth.add_block("double-description", found, counts)
        if status == DONE:
            break
        if status == TOO_MANY_RAYS:
            hand_over(_top_cell(network, storage, stack, int(counts[TOP]), growth))
            counts[CUTS] = growth.num_cuts
            counts[TOP] -= 1
        elif status == NEED_FRAMES:
            stack = stack._replace(frames=grown(stack.frames), status=grown(stack.status), used=grown(stack.used))
        elif status == NEED_WORDS:
            storage.grow(status)
            stack = stack._replace(used=grown(stack.used, axis=1))
        elif status != FULL:
            storage.grow(status)


def _top_cell(network: Network, storage: ConeStorage, stack: Stack, top: int, growth: Growth) -> Cell:
    """The cell on top of the stack, as half-spaces."""
    frame, dimension = stack.frames[top], storage.cones.pool.shape[1]
    offsets, stage = network.offsets, frame[STAGE]
    status = np.full(offsets[-1], -1, dtype=np.int8)
    status[: offsets[stage]] = stack.pattern[: offsets[stage]]
    if frame[CURSOR] >= 0:
        current = stack.status[top, : network.sizes[stage]]
        status[offsets[stage] : offsets[stage + 1]] = np.where(current == UNDECIDED, -1, current)
    rows = []
    for neuron, side in growth.path(int(frame[PARENT])):
        at = int(np.searchsorted(offsets, neuron, side="right")) - 1
        maps = stack.maps[offsets[at] * dimension : offsets[at + 1] * dimension].reshape(dimension, -1)
        rows.append((1 if side else -1) * maps[:, neuron - offsets[at]])
    first = frame[START]
    point = storage.cones.pool[storage.cones.ids[first : first + frame[LINES] + frame[RAYS]]].sum(axis=0)
    return Cell(int(frame[PARENT]), status, np.array(rows).reshape(-1, dimension), point / np.linalg.norm(point))
