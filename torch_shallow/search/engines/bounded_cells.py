"""Cells of the pruned walk: the data kept for each cell, and how its neurons are settled stage by stage."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.search.problem import add_block, compose

# Columns of the stack of cells. CUT is 1 more than the next step once that is decided: a cell already bounded must not
# be bounded again after lack of room for its children, or the result would depend on the room available.
START, LINES, RAYS, STAGE, STEP, POOL_TOP, SPENT, DEPTH, ENTERED, TRIED, CUT, MET = range(12)
NUM_COLUMNS = 12


class BoundedStack(Bundle):
    """Cells still to be opened, and the data of the path to the top one. Outputs are numbered after the neurons."""

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    bound: np.ndarray  # float64 (capacity,)
    low: np.ndarray  # float64 (capacity, neurons): proven bounds; a neuron is undecided if their signs differ
    high: np.ndarray  # float64 (capacity, neurons)
    slopes: np.ndarray  # float64 (capacity, neurons): slopes of the lower lines
    weights: np.ndarray  # float64 (capacity, rows): weights of goals and constraints
    nearest: np.ndarray  # float64 (capacity, pairs): proven least distance between the neurons of each pair
    furthest: np.ndarray  # float64 (capacity, pairs)
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell, as bits
    maps: np.ndarray  # float64: rows of each stage on the path, laid out as `Network.inputs`
    norms: np.ndarray  # float64 (neurons and outputs,): scale against which values of a neuron are measured
    pattern: np.ndarray  # uint8 (neurons and outputs,): pattern of the completed stages on the path
    pool_top: np.ndarray  # int64 (1,): first free row of the pool of rays


@compiled()
def enter_level(layers, stack, active, level):
    """Compose the rows of a stage, and of all later rows the part that does not pass through it or later ones."""
    network = layers.network
    compose(network, stack.maps, stack.norms, stack.pattern, active, level)
    last = network.sizes.shape[0] - 1
    dimension = stack.maps.shape[0] // network.offsets[last + 1]
    rest, begin = layers.rest[level], network.offsets[level] * dimension
    if level == 0:
        for j in range(rest.shape[0]):
            rest[j] = network.inputs[j]
        return
    for j in range(network.offsets[level + 1] * dimension - begin):
        rest[begin + j] = stack.maps[begin + j]
    before, source, count = layers.rest[level - 1], level - 1, 0
    for i in range(network.sizes[source]):
        if stack.pattern[network.offsets[source] + i] == 1:
            active[count] = i
            count += 1
    for t in range(level + 1, last + 1):
        first, n = network.offsets[t] * dimension, network.sizes[t]
        for j in range(n * dimension):
            rest[first + j] = before[first + j]
        for block in range(network.block_starts[t], network.block_starts[t + 1]):
            if network.block_sources[block] == source:
                rows = rest[first : first + n * dimension].reshape(dimension, n)
                add_block(network, rows, stack.maps, block, active[:count])


@compiled()
def gather_points(cones, frame, points, centre):
    """Write the vertices of a cell, one per column, and their mean."""
    last = points.shape[0] - 1
    for r in range(frame[RAYS]):
        ray = cones.ids[frame[START] + r]
        factor = 1.0 / cones.pool[ray, last]
        for k in range(last):
            points[k, r] = factor * cones.pool[ray, k]
        points[last, r] = 1.0
    for k in range(last + 1):
        total = 0.0
        for r in range(frame[RAYS]):
            total += points[k, r]
        centre[k] = total / frame[RAYS]


@compiled("contract", "reassoc", "nsz", "nnan")
def exact_bounds(network, maps, norms, level, count, tolerance, low, high, room):
    """Settle the neurons of a stage with exact rows: those of one sign, up to the tolerance, are decided."""
    n, first, points, values = network.sizes[level], network.offsets[level], room.points, room.values
    dimension, undecided = points.shape[0], 0
    rows = maps[first * dimension : (first + n) * dimension].reshape(dimension, n)
    for i in range(n):
        j = first + i
        if low[j] >= 0.0 or high[j] <= 0.0:
            continue
        for p in range(count):
            values[p] = 0.0
        for k in range(dimension):
            factor, coordinates = rows[k, i], points[k]
            for p in range(count):
                values[p] += factor * coordinates[p]
        least, most = values[0], values[0]
        for p in range(count):
            least, most = min(least, values[p]), max(most, values[p])
        threshold = tolerance * norms[j]
        low[j], high[j] = max(low[j], least), min(high[j], most)
        if most <= threshold:
            high[j], low[j] = 0.0, min(low[j], 0.0)
        elif least >= -threshold:
            low[j] = 0.0
        undecided += low[j] < 0.0 < high[j]
    return undecided


@compiled()
def complete(network, stack, low, high, level):
    """Record the pattern of a stage when the walk leaves it; a neuron that is still undecided takes its larger side."""
    for j in range(network.offsets[level], network.offsets[level + 1]):
        if low[j] < 0.0 < high[j]:
            if high[j] > -low[j]:
                low[j] = 0.0
            else:
                high[j] = 0.0
        stack.pattern[j] = high[j] > 0.0 and low[j] >= 0.0


@compiled()
def settle(layers, stack, room, top, guided, tolerance):
    """Advance to the stage where a cell can be cut: the first with an undecided neuron, or that of the path's next cut.

    Returns the stage; for a cell with a single affine map, this is the output stage.
    """
    network, frame, low, high = layers.network, stack.frames[top], stack.low[top], stack.high[top]
    while True:
        level = frame[STAGE]
        if frame[ENTERED] == 0:
            enter_level(layers, stack, room.active, level)
            frame[ENTERED] = 1
        if level == network.sizes.shape[0] - 1:
            return level
        undecided = exact_bounds(network, stack.maps, stack.norms, level, frame[RAYS], tolerance, low, high, room)
        if guided < 0 and undecided > 0:
            return level
        if guided >= 0 and guided >> 1 < network.offsets[level + 1]:
            return level
        complete(network, stack, low, high, level)
        frame[STAGE] += 1
        frame[ENTERED] = 0


@compiled()
def push_child(stack, scratch, frame, top, child, place, side, neuron):
    """Push the child of a cell on one side of a neuron; `place` says which of the two cones belongs to it."""
    for column in range(RAYS + 1):
        stack.frames[child, column] = scratch.children[place, column]
    stack.frames[child, STAGE] = frame[STAGE]
    stack.frames[child, STEP] = 2 * neuron + side
    stack.frames[child, SPENT] = 0
    stack.frames[child, DEPTH] = frame[DEPTH] + 1
    stack.frames[child, ENTERED] = 1
    stack.frames[child, TRIED] = 0
    stack.frames[child, CUT] = 0
    stack.frames[child, MET] = 0
    stack.bound[child] = stack.bound[top]
    for j in range(stack.low.shape[1]):
        stack.low[child, j] = stack.low[top, j]
        stack.high[child, j] = stack.high[top, j]
        stack.slopes[child, j] = stack.slopes[top, j]
    for r in range(stack.weights.shape[1]):
        stack.weights[child, r] = stack.weights[top, r]
    for q in range(stack.nearest.shape[1]):
        stack.nearest[child, q] = stack.nearest[top, q]
        stack.furthest[child, q] = stack.furthest[top, q]
    for w in range(stack.used.shape[1]):
        stack.used[child, w] = scratch.child_used[place, w]
    if side == 1:
        stack.low[child, neuron] = 0.0
    else:
        stack.high[child, neuron] = 0.0
