"""Enumeration by double description: cells as rays, no linear programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torch_shallow.partition.chart import Chart
from torch_shallow.partition.cone import NEED_WORDS
from torch_shallow.partition.linear_program import Cell
from torch_shallow.partition.partition import Growth
from torch_shallow.partition.rays import ConeStorage, grown, intersection
from torch_shallow.partition.walk import (
    CURSOR,
    DONE,
    FULL,
    LINES,
    NEED_FRAMES,
    NUM_COLUMNS,
    PARENT,
    RAYS,
    STAGE,
    START,
    TOO_MANY_RAYS,
    UNDECIDED,
    Counters,
    Found,
    Network,
    Stack,
    walk,
)
from torch_shallow.trace.program import ReLUProgram

BLOCK = 1 << 15


def pack(program: ReLUProgram, chart: Chart) -> Network:
    """Lay a program out for the compiled walk, in chart coordinates."""
    d = program.num_inputs
    inputs, hidden, starts, sources, offsets = [], [], [0], [], []
    input_sizes, hidden_norms = [], []
    size = 0
    for stage in program.stages:
        weight, bias = stage.weight[:, :d], stage.bias
        inputs.append(chart.pull_back(weight, bias).T.reshape(-1))
        input_sizes.append(
            np.abs(weight) @ np.abs(chart.origin) + np.abs(bias) + np.linalg.norm(weight @ chart.directions.T, axis=1)
        )
        hidden_norms.append(np.linalg.norm(stage.weight[:, d:], axis=1))
        for source in range(len(inputs) - 1):
            block = stage.weight[:, d + program.offsets[source] : d + program.offsets[source + 1]]
            if block.any():
                sources.append(source)
                offsets.append(size)
                hidden.append(block.T.reshape(-1))
                size += block.size
        starts.append(len(sources))

    def join(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros(0), *parts])

    def integers(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    return Network(
        integers([stage.num_neurons for stage in program.stages]),
        integers(list(program.offsets)),
        join(inputs),
        _closed(program),
        integers(starts),
        integers(sources),
        integers(offsets),
        join(hidden),
        join(input_sizes),
        join(hidden_norms),
    )


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
    )
    stack.frames[0, [LINES, RAYS, CURSOR, PARENT]] = lines, rays, -1, -1
    stack.used[0] = used
    counters = Counters(*(np.zeros(1, dtype=np.int64) for _ in range(5)), np.zeros(1), np.full(1, np.inf))
    counters.pool_top[0] = pool_top
    found = _empty_block(program, dimension)
    limit = np.iinfo(np.int64).max if max_rays is None else max_rays
    while True:
        status = walk(network, storage.cones, storage.scratch, stack, found, counters, tolerance, limit)
        if status in (DONE, FULL, TOO_MANY_RAYS):
            cuts, regions = int(counters.cut_rows[0]), int(counters.region_rows[0])
            full = (found.cut_parents[:cuts], found.cut_neurons[:cuts], *(array[:regions] for array in found[2:]))
            growth.add("double-description", *full)
            found = _empty_block(program, dimension)
            counters.cut_rows[0] = counters.region_rows[0] = 0
        if status == DONE:
            break
        if status == TOO_MANY_RAYS:
            hand_over(_top_cell(network, storage, stack, int(counters.top[0]), growth))
            counters.cuts[0] = growth.num_cuts
            counters.top[0] -= 1
        elif status == NEED_FRAMES:
            stack = stack._replace(frames=grown(stack.frames), status=grown(stack.status), used=grown(stack.used))
        elif status == NEED_WORDS:
            storage.grow(status)
            stack = stack._replace(used=grown(stack.used, axis=1))
        elif status != FULL:
            storage.grow(status)


def _empty_block(program: ReLUProgram, dimension: int) -> Found:
    size = max(1024, min(BLOCK, (1 << 24) // (8 * dimension + program.num_neurons // 8)))
    return Found(
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros((size, (program.num_neurons + 7) // 8), dtype=np.uint8),
        np.zeros((size, dimension - 1)),
    )


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


def _closed(program: ReLUProgram) -> np.ndarray:
    """Whether all stages after each stage read nothing before that stage, nor the input."""
    d, offsets = program.num_inputs, program.offsets
    first_read = [
        np.flatnonzero(stage.weight.any(axis=0)).min(initial=stage.weight.shape[1]) for stage in program.stages
    ]
    return np.array(
        [
            all(first_read[later] >= d + offsets[s] for later in range(s + 1, len(offsets) - 1))
            for s in range(len(first_read))
        ],
        dtype=np.uint8,
    )
