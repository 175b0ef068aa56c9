"""Depth-first walk: cut the domain by one neuron after another."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.cone import NEED_PAIRS, OK, absorb_flat_rays, evaluate, split
from torch_shallow.search.problem import compose, compose_neuron, pack_status, write_doubts
from torch_shallow.search.task_output import (
    CUT_ROWS,
    CUTS,
    DONE,
    FULL,
    MOST_CUT_ROWS,
    MOST_REGION_ROWS,
    NEED_FRAMES,
    OFF_PATH,
    REGION_ROWS,
    TOP,
    UNDECIDED,
    guided_side,
)

TOO_MANY_RAYS = 12  # the top cell of the stack has more rays than allowed
DOUBT = 15  # only exact arithmetic can tell whether the top cell's first open neuron takes both signs there


FLATNESS = 1e-4  # a ray is flat if all its values are within this share of the tolerance: zero up to rounding
FEW = 8  # a cell with more open neurons has them all examined at once
WORTHWHILE = 12  # half-spaces are worth the change to them, a quarter of a millisecond, with so many neurons left

# Columns of the stack of cells.
START, LINES, RAYS, STAGE, LEFT, OPEN, STATE, NEURON, SIDE, UP, MARK, PARENT, POOL_TOP, SPENT, DEPTH = range(15)
NUM_COLUMNS = 15

# States of a cell.
FRESH, ON_TRAIL, KNOWN = range(3)

# Values that change with the top cell: first free row of the pool, length of the trail, how much of it has been
# followed, and the neuron decided elsewhere, as `2 * neuron + side`, or -1.
POOL, TRAIL, FOLLOWED, DECIDED = range(4)


class RayStack(Bundle):
    """Cells still to be walked, and the data of the path to the top one.

    The trail records the order in which neurons are settled, so that this can be undone when the walk moves to another
    cell. A neuron is examined as soon as everything it reads is settled: a whole stage at a time or, in a sparse stage,
    neuron by neuron. A neuron that the examination does not settle is open.
    """

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    open: np.ndarray  # int32 (capacity, neurons): the open neurons of each cell
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell, as bits
    status: np.ndarray  # uint8 (neurons, rounded up to words): signs on the top cell
    status_words: np.ndarray  # uint64: the same memory
    waiting: np.ndarray  # int64 (neurons,): for each neuron of a sparse stage, how many that it reads are not settled
    trail: np.ndarray  # int64 (neurons,): the settled neurons, in order
    maps: np.ndarray  # float64: rows of each stage on the path, laid out as `PackedProgram.inputs`
    rows: np.ndarray  # float64 (neurons, dimension): rows of neurons that are open or read by a sparse stage
    norms: np.ndarray  # float64 (neurons,): scale against which values of a neuron are measured
    doubts: np.ndarray  # float64 (neurons,): size up to which a value is taken for 0
    state: np.ndarray  # int64 (4,): entries POOL, TRAIL, FOLLOWED and DECIDED
    work: np.ndarray  # float64 (3, neurons of a stage)
    active: np.ndarray  # int64 (neurons,): work space


@compiled("contract", "nsz", "nnan")
def bounds_on_cell(pool, ids, rows, norms, tolerance, most_t, start, lines, rays, value, low, high, flat):
    """Write the least and greatest value of each neuron of a stage over the lines and rays of a cell.

    `flat` is filled with whether all neurons of the stage are zero at each ray with t at most `most_t`; returns whether
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
def settle(network, stack, frame, neuron, side):
    """Record the sign of a neuron on the top cell."""
    stack.status[neuron] = side
    stack.trail[stack.state[TRAIL]] = neuron
    stack.state[TRAIL] += 1
    frame[LEFT] -= neuron < network.offsets[frame[STAGE]]


@compiled()
def take_back(network, stack, mark):
    """Undo everything settled since the trail had length `mark`."""
    state = stack.state
    for at in range(mark, state[TRAIL]):
        neuron = stack.trail[at]
        stack.status[neuron] = UNDECIDED
        if at < state[FOLLOWED]:
            for reader in range(network.reader_starts[neuron], network.reader_starts[neuron + 1]):
                stack.waiting[network.readers[reader]] += 1
    state[TRAIL] = state[FOLLOWED] = mark


@compiled()
def extremes(pool, ids, frame, row, values):
    """Return the least and greatest value of a row over the lines and rays of a cell, and write all values."""
    lines = frame[LINES]
    least, greatest = evaluate(pool, ids, frame[START], lines + frame[RAYS], row, values)
    for r in range(lines):
        greatest = max(greatest, abs(values[r]))
        least = min(least, -abs(values[r]))
    return least, greatest


@compiled()
def look_at(network, cones, scratch, stack, frame, neuron, opened):
    """Examine a neuron on the top cell: settle it if it has one sign there, open it if not."""
    doubt = stack.doubts[neuron]
    least, greatest = extremes(cones.pool, cones.ids, frame, stack.rows[neuron], scratch.values)
    if greatest > doubt and least < -doubt:
        opened[frame[OPEN]] = neuron
        frame[OPEN] += 1
    else:
        settle(network, stack, frame, neuron, 1 if greatest > doubt else 0)


@compiled()
def enter_stage(network, cones, scratch, stack, frame, tolerance, top):
    """Compose the next dense stage; settle each neuron of one sign on the cell, and open the others."""
    stage, opened = frame[STAGE], stack.open[top]
    value, low, high = stack.work[0], stack.work[1], stack.work[2]
    compose(network, stack.maps, stack.norms, stack.status, stack.active, stage)
    write_doubts(network, stack.norms, stack.status, stage, tolerance, stack.doubts)
    n, offset, num_stages = network.sizes[stage], network.offsets[stage], network.sizes.shape[0]
    dimension = cones.pool.shape[1]
    rows = stack.maps[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    norms = stack.norms[offset : offset + n]
    # A vertex is not a direction: later stages still add their biases there.
    most_t = np.inf if stage == num_stages - 1 else 0.0
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
    frame[STAGE] += 1
    while frame[STAGE] < num_stages and network.sparse[frame[STAGE]]:
        frame[STAGE] += 1
    frame[LEFT] = 0
    for neuron in range(offset, network.offsets[frame[STAGE]]):
        frame[LEFT] += stack.status[neuron] == UNDECIDED
    for i in range(n):
        rises, falls = high[i] > stack.doubts[offset + i], low[i] < -stack.doubts[offset + i]
        if rises and falls:
            opened[frame[OPEN]] = offset + i
            frame[OPEN] += 1
        else:
            settle(network, stack, frame, offset + i, 1 if rises else 0)
        if (rises and falls) or network.reader_starts[offset + i + 1] > network.reader_starts[offset + i]:
            for k in range(dimension):
                stack.rows[offset + i, k] = rows[k, i]
    if stage == 0:  # neurons that read no neuron wait for none
        for neuron in range(offset + n, network.offsets[num_stages]):
            if network.sparse[network.stage_of[neuron]] and stack.waiting[neuron] == 0:
                compose_neuron(
                    network, stack.maps, stack.rows, stack.norms, stack.status, neuron, tolerance, stack.doubts
                )
                look_at(network, cones, scratch, stack, frame, neuron, opened)


@compiled()
def follow(network, cones, scratch, stack, frame, tolerance, top):
    """Examine all neurons whose sources have been settled; enter each stage that follows."""
    state, opened = stack.state, stack.open[top]
    while True:
        while state[FOLLOWED] < state[TRAIL]:
            neuron = stack.trail[state[FOLLOWED]]
            state[FOLLOWED] += 1
            for at in range(network.reader_starts[neuron], network.reader_starts[neuron + 1]):
                reader = network.readers[at]
                stack.waiting[reader] -= 1
                if stack.waiting[reader] == 0:
                    compose_neuron(
                        network, stack.maps, stack.rows, stack.norms, stack.status, reader, tolerance, stack.doubts
                    )
                    look_at(network, cones, scratch, stack, frame, reader, opened)
        if frame[LEFT] > 0 or frame[STAGE] == network.sizes.shape[0]:
            return
        enter_stage(network, cones, scratch, stack, frame, tolerance, top)


@compiled()
def put_on_trail(network, stack, frame, top):
    """Resume at a cell: undo the trail to where its parent was left, and settle the neuron that cut the cell out."""
    take_back(network, stack, frame[MARK])
    opened, above = stack.open[top], stack.open[frame[UP]]
    for at in range(stack.frames[frame[UP], OPEN]):
        opened[frame[OPEN]] = above[at]
        frame[OPEN] += above[at] != frame[NEURON]
    settle(network, stack, frame, frame[NEURON], frame[SIDE])


@compiled()
def look_at_all(network, cones, scratch, stack, frame, top):
    """Examine all open neurons that a cell inherited from its parent."""
    opened, count = stack.open[top], frame[OPEN]
    frame[OPEN] = 0
    for at in range(count):
        neuron = opened[at]
        look_at(network, cones, scratch, stack, frame, neuron, opened)


@compiled()
def close_neuron(opened, frame, neuron):
    """Remove a neuron from the list of open ones."""
    at = 0
    while opened[at] != neuron:
        at += 1
    frame[OPEN] -= 1
    opened[at] = opened[frame[OPEN]]


@compiled()
def first_of(opened, count):
    """Return the lowest-numbered neuron of a list."""
    first = opened[0]
    for at in range(1, count):
        first = min(first, opened[at])
    return np.int64(first)


@compiled()
def write_region(cones, stack, frame, found, row):
    """Record a region: its packed pattern, and as interior point the sum of its lines and rays."""
    pack_status(stack.status_words, found.patterns, row)
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
def walk(network, cones, scratch, stack, found, counts, tolerance, max_rays, many_rays, path):
    """Walk until nothing is left, the output is full, or an array has to grow; the next call goes on from there.

    A cell with more than `max_rays` rays is handed over, and so is one with more than `many_rays` where it has as many
    neurons left as make the change worthwhile.

    The first cuts follow `path`, as in `guided_side`: only the cell on the given side is walked, and its cut is not
    recorded.

    Returns:
        DONE, FULL, TOO_MANY_RAYS, DOUBT, OFF_PATH, or one of the NEED statuses.
    """
    frames, used, state = stack.frames, stack.used, stack.state
    pool, ids, values = cones.pool, cones.ids, scratch.values
    children, child_used = scratch.children, scratch.child_used
    while counts[TOP] >= 0:
        top = counts[TOP]
        frame, opened = frames[top], stack.open[top]
        if frame[SPENT]:
            state[POOL] = frame[POOL_TOP]
            counts[TOP] -= 1
            continue
        if frame[STATE] == FRESH:
            if frame[NEURON] >= 0:
                put_on_trail(network, stack, frame, top)
            frame[STATE] = ON_TRAIL
        if counts[REGION_ROWS] == counts[MOST_REGION_ROWS] or counts[CUT_ROWS] == counts[MOST_CUT_ROWS]:
            return FULL
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        if frame[LINES] + frame[RAYS] > values.shape[0]:
            return NEED_PAIRS
        left = frame[OPEN] + network.offsets[network.sizes.shape[0]] - network.offsets[frame[STAGE]]
        if frame[RAYS] > (many_rays if left >= WORTHWHILE else max_rays):
            return TOO_MANY_RAYS
        if frame[STATE] == ON_TRAIL:
            if frame[OPEN] > FEW:
                look_at_all(network, cones, scratch, stack, frame, top)
            frame[STATE] = KNOWN
        elif state[DECIDED] >= 0:
            neuron = state[DECIDED] >> 1
            close_neuron(opened, frame, neuron)
            settle(network, stack, frame, neuron, state[DECIDED] & 1)
            state[DECIDED] = -1
        neuron = np.int64(-1)
        while True:
            follow(network, cones, scratch, stack, frame, tolerance, top)
            if frame[OPEN] == 0:
                break
            neuron = first_of(opened, frame[OPEN])
            threshold, doubt = tolerance * stack.norms[neuron], stack.doubts[neuron]
            least, greatest = extremes(pool, ids, frame, stack.rows[neuron], values)
            if greatest > threshold and least < -threshold:
                break
            if greatest > doubt and least < -doubt:
                return DOUBT
            close_neuron(opened, frame, neuron)
            settle(network, stack, frame, neuron, 1 if greatest > doubt else 0)
        if frame[OPEN] == 0:
            write_region(cones, stack, frame, found, counts[REGION_ROWS])
            counts[REGION_ROWS] += 1
            counts[TOP] -= 1
            continue
        only_side = guided_side(path, frame[DEPTH], neuron)
        if only_side == OFF_PATH:
            return OFF_PATH
        code, pool_top = split(cones, scratch, frame[START : RAYS + 1], used[top], doubt, state[POOL])
        if code != OK:
            return code
        if only_side < 0:
            found.cut_parents[counts[CUT_ROWS]] = frame[PARENT]
            found.cut_neurons[counts[CUT_ROWS]] = neuron
            counts[CUT_ROWS] += 1
        frame[SPENT], frame[POOL_TOP] = 1, state[POOL]
        state[POOL] = pool_top
        for side in range(2):  # the negative child is walked first, so it goes on top
            if only_side == 1 - side:
                continue
            child = top + 1 if only_side >= 0 else top + 2 - side
            for column in range(RAYS + 1):
                frames[child, column] = children[side, column]
            frames[child, STAGE] = frame[STAGE]
            frames[child, LEFT] = frame[LEFT]
            frames[child, OPEN] = 0
            frames[child, STATE] = FRESH
            frames[child, SPENT] = 0
            frames[child, NEURON] = neuron
            frames[child, SIDE] = side
            frames[child, UP] = top
            frames[child, MARK] = state[TRAIL]
            frames[child, PARENT] = 2 * counts[CUTS] + side if only_side < 0 else frame[PARENT] - 1
            frames[child, DEPTH] = frame[DEPTH] + 1
            for w in range(used.shape[1]):
                used[child, w] = child_used[side, w]
        counts[CUTS] += only_side < 0
        counts[TOP] = top + 1 + (only_side < 0)
    return DONE
