"""The depth-first walk: cut the domain by one neuron after another, stage by stage."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.cone import NEED_PAIRS, OK, absorb_flat_rays, evaluate, split
from torch_shallow.search.problem import compose, pack_pattern, write_doubts
from torch_shallow.search.task_output import (
    CUT_ROWS,
    CUTS,
    DONE,
    FULL,
    NEED_FRAMES,
    OFF_PATH,
    REGION_ROWS,
    TOP,
    UNDECIDED,
    guided_side,
)

TOO_MANY_RAYS = 12  # the cell on top of the stack has more rays than allowed
DOUBT = 15  # whether the neuron at the cursor of the cell on top takes both signs there needs exact arithmetic


FLATNESS = 1e-4  # a ray is flat if all values are within this share of the tolerance: zero but for rounding

# Columns of the stack of cells.
START, LINES, RAYS, STAGE, CURSOR, PARENT, POOL_TOP, SPENT, DEPTH = range(9)
NUM_COLUMNS = 9


class RayStack(Bundle):
    """Cells still to be walked, and what holds on the path to the top one."""

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    status: np.ndarray  # uint8 (capacity, largest stage): of the neurons of the cell's stage
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell
    maps: np.ndarray  # float64: rows of each stage on the path, laid out as `Network.inputs`
    norms: np.ndarray  # float64 (neurons,): size against which a value of a neuron is measured
    doubts: np.ndarray  # float64 (neurons,): up to which size a value is taken for 0
    pattern: np.ndarray  # uint8 (neurons,): of the completed stages on the path
    pool_top: np.ndarray  # int64 (1,): first free row of the pool of rays
    work: np.ndarray  # float64 (4, at least neurons of a stage and dimension)
    active: np.ndarray  # int64 (neurons,): work space


@compiled("contract", "nsz", "nnan")
def bounds_on_cell(pool, ids, rows, norms, tolerance, most_t, start, lines, rays, value, low, high, flat):
    """Least and greatest value of each neuron of a stage over the lines and rays of a cell.

    `flat` is filled with whether all neurons of the stage are zero at each ray with t up to `most_t`; returns whether
    any ray is flat.
    """
    some_flat = False
    dimension, n = rows.shape
    for i in range(n):
        low[i] = 0.0
        high[i] = 0.0
    for r in range(lines + rays):
        ray = ids[start + r]
        factor = pool[ray, 0]
        for i in range(n):
            value[i] = factor * rows[0, i]
        for k in range(1, dimension):
            factor = pool[ray, k]
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
                largest = max(largest, abs(value[i]) - FLATNESS * tolerance * norms[i])
            flat[r - lines] = largest <= 0.0 and pool[ray, dimension - 1] <= most_t
            some_flat |= flat[r - lines] > 0
    return some_flat


@compiled()
def enter_stage(network, cones, scratch, stack, frame, stage, tolerance, value, low, high, top):
    """Compose the stage and settle every neuron of one sign on the cell; the others stay undecided."""
    compose(network, stack.maps, stack.norms, stack.pattern, stack.active, stage)
    write_doubts(network, stack.norms, stack.pattern, stage, tolerance, stack.doubts)
    n, offset = network.sizes[stage], network.offsets[stage]
    dimension = cones.pool.shape[1]
    rows = stack.maps[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    norms = stack.norms[offset : offset + n]
    # A vertex is no direction: there, later stages still have their biases.
    most_t = np.inf if stage == network.sizes.shape[0] - 1 else 0.0
    some_flat = bounds_on_cell(
        cones.pool,
        cones.ids,
        rows,
        norms,
        tolerance,
        most_t,
        frame[START],
        frame[LINES],
        frame[RAYS],
        value,
        low,
        high,
        scratch.flat,
    )
    if some_flat and network.closed[stage]:
        absorb_flat_rays(cones, scratch, frame[START : RAYS + 1], stack.used[top])
    for i in range(n):
        rises, falls = high[i] > stack.doubts[offset + i], low[i] < -stack.doubts[offset + i]
        if rises and falls:
            stack.status[top, i] = UNDECIDED
        else:
            stack.status[top, i] = 1 if rises else 0


@compiled()
def write_region(network, cones, stack, frame, found, row):
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


@compiled(vectorise=True)
def walk(network, cones, scratch, stack, found, counts, tolerance, max_rays, path):
    """Walk until nothing is left, the output is full, or something has to grow; the walk goes on where it was.

    The first cuts follow `path`, as `guided_side` says: only the cell on that side is walked, and the cut is not noted.

    Returns:
        DONE, FULL, TOO_MANY_RAYS, DOUBT, OFF_PATH, or one of the NEED statuses.
    """
    frames, status, used, maps, norms = stack.frames, stack.status, stack.used, stack.maps, stack.norms
    pool, ids, values = cones.pool, cones.ids, scratch.values
    sizes, offsets = network.sizes, network.offsets
    num_stages, dimension = sizes.shape[0], pool.shape[1]
    max_cuts, max_regions = found.cut_neurons.shape[0], found.points.shape[0]
    value, low, high, row = stack.work[0], stack.work[1], stack.work[2], stack.work[3]
    children, child_used = scratch.children, scratch.child_used
    while counts[TOP] >= 0:
        top = counts[TOP]
        frame = frames[top]
        if frame[SPENT]:
            stack.pool_top[0] = frame[POOL_TOP]
            counts[TOP] -= 1
            continue
        if counts[REGION_ROWS] == max_regions or counts[CUT_ROWS] == max_cuts:
            return FULL
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        if frame[LINES] + frame[RAYS] > values.shape[0]:
            return NEED_PAIRS
        if frame[RAYS] > max_rays:
            return TOO_MANY_RAYS
        stage = frame[STAGE]
        if stage == num_stages:
            write_region(network, cones, stack, frame, found, counts[REGION_ROWS])
            counts[REGION_ROWS] += 1
            counts[TOP] -= 1
            continue
        if frame[CURSOR] < 0:
            enter_stage(network, cones, scratch, stack, frame, stage, tolerance, value, low, high, top)
            frame[CURSOR] = 0
        n, offset, base = sizes[stage], offsets[stage], offsets[stage] * dimension
        lines, rays = frame[LINES], frame[RAYS]
        cut = False
        while frame[CURSOR] < n:
            i = frame[CURSOR]
            if status[top, i] == UNDECIDED:
                for k in range(dimension):
                    row[k] = maps[base + k * n + i]
                threshold, doubt = tolerance * norms[offset + i], stack.doubts[offset + i]
                least, greatest = evaluate(pool, ids, frame[START], lines + rays, row[:dimension], values)
                for r in range(lines):
                    greatest = max(greatest, abs(values[r]))
                    least = min(least, -abs(values[r]))
                if greatest > threshold and least < -threshold:
                    cut = True
                    break
                if greatest > doubt and least < -doubt:
                    return DOUBT
                status[top, i] = 1 if greatest > doubt else 0
            frame[CURSOR] += 1
        if not cut:
            for i in range(n):
                stack.pattern[offset + i] = status[top, i]
            frame[STAGE] += 1
            frame[CURSOR] = -1
            continue
        i = frame[CURSOR]
        only_side = guided_side(path, frame[DEPTH], offset + i)
        if only_side == OFF_PATH:
            return OFF_PATH
        code, pool_top = split(cones, scratch, frame[START : RAYS + 1], used[top], doubt, stack.pool_top[0])
        if code != OK:
            return code
        if only_side < 0:
            found.cut_parents[counts[CUT_ROWS]] = frame[PARENT]
            found.cut_neurons[counts[CUT_ROWS]] = offset + i
            counts[CUT_ROWS] += 1
        frame[SPENT], frame[POOL_TOP] = 1, stack.pool_top[0]
        stack.pool_top[0] = pool_top
        for side in range(2):  # the negative child is walked first: it goes on top
            if only_side == 1 - side:
                continue
            child = top + 1 if only_side >= 0 else top + 2 - side
            for column in range(RAYS + 1):
                frames[child, column] = children[side, column]
            frames[child, STAGE] = stage
            frames[child, CURSOR] = i + 1
            frames[child, SPENT] = 0
            frames[child, PARENT] = 2 * counts[CUTS] + side if only_side < 0 else frame[PARENT] - 1
            frames[child, DEPTH] = frame[DEPTH] + 1
            for j in range(n):
                status[child, j] = status[top, j]
            status[child, i] = side
            for w in range(used.shape[1]):
                used[child, w] = child_used[side, w]
        counts[CUTS] += only_side < 0
        counts[TOP] = top + 1 + (only_side < 0)
    return DONE
