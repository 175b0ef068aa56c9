"""The depth-first walk: cut the domain by one neuron after another, stage by stage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from torch_shallow.partition.cone import (
    NEED_PAIRS,
    OK,
    absorb_flat_rays,
    evaluate,
    split,
)
from torch_shallow.partition.found import (
    DONE,
    FULL,
    NEED_FRAMES,
    UNDECIDED,
    pack_pattern,
)
from torch_shallow.partition.network import compose

TOO_MANY_RAYS = 12  # the cell on top of the stack has more rays than allowed


# Columns of the stack of cells.
START, LINES, RAYS, STAGE, CURSOR, PARENT, POOL_TOP, SPENT = range(8)
NUM_COLUMNS = 8


class Stack(NamedTuple):
    """Cells still to be walked, and what holds on the path to the top one."""

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    status: np.ndarray  # uint8 (capacity, largest stage): of the neurons of the cell's stage
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell
    maps: np.ndarray  # float64: rows of each stage on the path, laid out as `Network.inputs`
    norms: np.ndarray  # float64 (neurons,): size against which a value of a neuron is measured
    pattern: np.ndarray  # uint8 (neurons,): of the completed stages on the path


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "nnan"})
def bounds_on_cell(cones, rows, norms, tolerance, start, lines, rays, value, low, high, flat):  # type: ignore[no-untyped-def]
    """Least and greatest value of each neuron of a stage over the lines and rays of a cell.

    `flat` is filled with whether all neurons of the stage are zero at each ray; returns whether any ray is flat.
    """
    some_flat = False
    dimension, n = rows.shape
    for i in range(n):
        low[i] = 0.0
        high[i] = 0.0
    for r in range(lines + rays):
        ray = cones.pool[cones.ids[start + r]]
        factor = ray[0]
        for i in range(n):
            value[i] = factor * rows[0, i]
        for k in range(1, dimension):
            factor = ray[k]
            for i in range(n):
                value[i] += factor * rows[k, i]
        if r < lines:
            for i in range(n):
                high[i] = max(high[i], abs(value[i]))
                low[i] = min(low[i], -abs(value[i]))
        else:
            for i in range(n):
                high[i] = max(high[i], value[i])
                low[i] = min(low[i], value[i])
            largest = 0.0
            for i in range(n):
                largest = max(largest, abs(value[i]) - tolerance * norms[i])
            flat[r - lines] = largest <= 0.0
            some_flat |= largest <= 0.0
    return some_flat


@njit(cache=True, nogil=True)
def enter_stage(network, cones, scratch, stack, frame, stage, tolerance, value, low, high, counters):  # type: ignore[no-untyped-def]
    """Compose the stage and settle every neuron of one sign on the cell; the others stay undecided."""
    compose(network, stack.maps, stack.norms, stack.pattern, stage)
    n, offset = network.sizes[stage], network.offsets[stage]
    top = counters.top[0]
    dimension = cones.pool.shape[1]
    rows = stack.maps[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    norms = stack.norms[offset : offset + n]
    some_flat = bounds_on_cell(
        cones, rows, norms, tolerance, frame[START], frame[LINES], frame[RAYS], value, low, high, scratch.flat
    )
    if some_flat and network.closed[stage]:
        absorb_flat_rays(cones, scratch, frame[START : RAYS + 1], stack.used[top])
    for i in range(n):
        threshold = tolerance * stack.norms[offset + i]
        rises, falls = high[i] > threshold, low[i] < -threshold
        if rises and falls:
            stack.status[top, i] = UNDECIDED
        else:
            stack.status[top, i] = 1 if rises else 0
            record_gap(counters, low[i], high[i], threshold, tolerance)


@njit(cache=True, nogil=True)
def record_gap(counters, low, high, threshold, tolerance):  # type: ignore[no-untyped-def]
    """Note how far the two extreme values of a neuron on a cell are from the threshold."""
    if threshold > 0.0:
        for size in (-low, high):
            if size > threshold:
                counters.least_nonzero[0] = min(counters.least_nonzero[0], size / threshold * tolerance)
            elif size > 0.0:
                counters.largest_zero[0] = max(counters.largest_zero[0], size / threshold * tolerance)


@njit(cache=True, nogil=True)
def write_region(network, cones, stack, frame, found, row):  # type: ignore[no-untyped-def]
    """Note a region: its pattern, packed, and an interior point: the sum of its lines and rays."""
    pack_pattern(network, stack.pattern, found.patterns, row)
    found.region_parents[row] = frame[PARENT]
    last = cones.pool.shape[1] - 1
    start, lines, rays = frame[START], frame[LINES], frame[RAYS]
    weight = 0.0
    for k in range(last):
        found.points[row, k] = 0.0
    for r in range(start, start + lines + rays):
        ray = cones.ids[r]
        weight += cones.pool[ray, last]
        for k in range(last):
            found.points[row, k] += cones.pool[ray, k]
    for k in range(last):
        found.points[row, k] /= weight


@njit(cache=True, nogil=True)
def walk(network, cones, scratch, stack, found, counters, tolerance, max_rays):  # type: ignore[no-untyped-def]
    """Walk until nothing is left, the output is full, or something has to grow; the walk goes on where it was.

    Returns:
        DONE, FULL, TOO_MANY_RAYS, or one of the NEED statuses.
    """
    frames, status, used = stack.frames, stack.status, stack.used
    num_stages, dimension = network.sizes.shape[0], cones.pool.shape[1]
    widest = max(status.shape[1], 1)
    value, low, high, row = np.empty(widest), np.empty(widest), np.empty(widest), np.empty(dimension)
    children = np.zeros((2, 3), dtype=np.int64)
    child_used = np.zeros((2, used.shape[1]), dtype=np.uint64)
    while counters.top[0] >= 0:
        top = counters.top[0]
        frame = frames[top]
        if frame[SPENT]:
            counters.pool_top[0] = frame[POOL_TOP]
            counters.top[0] -= 1
            continue
        if counters.region_rows[0] == found.points.shape[0] or counters.cut_rows[0] == found.cut_neurons.shape[0]:
            return FULL
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        if frame[LINES] + frame[RAYS] > scratch.values.shape[0]:
            return NEED_PAIRS
        if frame[RAYS] > max_rays:
            return TOO_MANY_RAYS
        stage = frame[STAGE]
        if stage == num_stages:
            write_region(network, cones, stack, frame, found, counters.region_rows[0])
            counters.region_rows[0] += 1
            counters.top[0] -= 1
            continue
        if frame[CURSOR] < 0:
            enter_stage(network, cones, scratch, stack, frame, stage, tolerance, value, low, high, counters)
            frame[CURSOR] = 0
        n, offset, base = network.sizes[stage], network.offsets[stage], network.offsets[stage] * dimension
        lines, rays = frame[LINES], frame[RAYS]
        cut = False
        while frame[CURSOR] < n:
            i = frame[CURSOR]
            if status[top, i] == UNDECIDED:
                for k in range(dimension):
                    row[k] = stack.maps[base + k * n + i]
                threshold = tolerance * stack.norms[offset + i]
                least, greatest = evaluate(cones, frame[START], lines + rays, row, scratch.values)
                for r in range(lines):
                    greatest = max(greatest, abs(scratch.values[r]))
                    least = min(least, -abs(scratch.values[r]))
                if greatest > threshold and least < -threshold:
                    cut = True
                    break
                status[top, i] = 1 if greatest > threshold else 0
                record_gap(counters, least, greatest, threshold, tolerance)
            frame[CURSOR] += 1
        if not cut:
            for i in range(n):
                stack.pattern[offset + i] = status[top, i]
            frame[STAGE] += 1
            frame[CURSOR] = -1
            continue
        i = frame[CURSOR]
        code, pool_top = split(
            cones, scratch, frame[START : RAYS + 1], used[top], threshold, counters.pool_top[0], children, child_used
        )
        if code != OK:
            return code
        found.cut_parents[counters.cut_rows[0]] = frame[PARENT]
        found.cut_neurons[counters.cut_rows[0]] = offset + i
        counters.cut_rows[0] += 1
        frame[SPENT], frame[POOL_TOP] = 1, counters.pool_top[0]
        counters.pool_top[0] = pool_top
        for side in range(2):  # the negative child is walked first: it goes on top
            child = top + 2 - side
            for column in range(RAYS + 1):
                frames[child, column] = children[side, column]
            frames[child, STAGE] = stage
            frames[child, CURSOR] = i + 1
            frames[child, SPENT] = 0
            frames[child, PARENT] = 2 * counters.cuts[0] + side
            for j in range(n):
                status[child, j] = status[top, j]
            status[child, i] = side
            for w in range(used.shape[1]):
                used[child, w] = child_used[side, w]
        counters.cuts[0] += 1
        counters.top[0] = top + 2
    return DONE
