"""The pruned walk over cells as rays: cut where it matters most, and drop what cannot be better than what is known."""

from __future__ import annotations

import numpy as np

from torch_shallow.bounds.dual_ascent import add_activations, dual_ascent
from torch_shallow.bounds.linear_rows import bound_stage
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.cone import NEED_PAIRS, OK, evaluate, split
from torch_shallow.search.problem import add_block, compose
from torch_shallow.search.task_output import DONE, FULL, NEED_FRAMES

CANDIDATE = 20  # a point better than the incumbent is in `room.point`: to be looked at, and the walk goes on
LEAF = 21  # the cell on top of the stack has one affine map and may hold a better point

# Columns of the stack of cells.
START, LINES, RAYS, STAGE, STEP, POOL_TOP, SPENT, DEPTH, ENTERED, TRIED = range(10)
NUM_COLUMNS = 10

# What a walk counts, and what it is told.
TOP, CELLS, BUDGET, GOALS, ASCENT = range(5)

# Numbers of a walk.
INCUMBENT, REFERENCE, LEFT_OUT, TOLERANCE, CLOSE = range(5)


class BoundedStack(Bundle):
    """Cells still to be opened, and what holds on the path to the top one. Outputs are numbered after neurons."""

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    bound: np.ndarray  # float64 (capacity,)
    low: np.ndarray  # float64 (capacity, neurons): proven bounds; a neuron is undecided if they have two signs
    high: np.ndarray  # float64 (capacity, neurons)
    slopes: np.ndarray  # float64 (capacity, neurons): of the lower lines
    weights: np.ndarray  # float64 (capacity, rows): of goals and constraints
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell
    maps: np.ndarray  # float64: rows of each stage on the path, laid out as `Network.inputs`
    norms: np.ndarray  # float64 (neurons and outputs,): size against which a value of a neuron is measured
    pattern: np.ndarray  # uint8 (neurons and outputs,): of the completed stages on the path
    pool_top: np.ndarray  # int64 (1,): first free row of the pool of rays


@compiled()
def enter_level(layers, stack, active, level):
    """Compose the rows of a stage, and of all later ones what does not come through it or later ones."""
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
    """Write the vertices of a cell, one in each column, and their mean."""
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
    """Settle the neurons of a stage whose rows are exact: those of one sign, up to the tolerance, are decided."""
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
    """Note the pattern of a stage without undecided neurons; one that is forced takes the larger side."""
    for j in range(network.offsets[level], network.offsets[level + 1]):
        if low[j] < 0.0 < high[j]:
            if high[j] > -low[j]:
                low[j] = 0.0
            else:
                high[j] = 0.0
        stack.pattern[j] = high[j] > 0.0 and low[j] >= 0.0


@compiled("contract", "nsz")
def value_at(network, point, num_goals, state):
    """The least goal at a point, as the network computes it; -inf where a constraint is not kept."""
    last, dimension = network.sizes.shape[0] - 1, point.shape[0]
    for t in range(last + 1):
        n, first = network.sizes[t], network.offsets[t]
        rows = network.inputs[first * dimension : (first + n) * dimension].reshape(dimension, n)
        own = state[first : first + n]
        for i in range(n):
            own[i] = 0.0
        for k in range(dimension):
            factor, coordinate = point[k], rows[k]
            for i in range(n):
                own[i] += factor * coordinate[i]
        for block in range(network.block_starts[t], network.block_starts[t + 1]):
            source = network.block_sources[block]
            add_activations(network, block, state[network.offsets[source] : network.offsets[source + 1]], own)
        if t < last:
            for i in range(n):
                own[i] = max(own[i], 0.0)
    outputs, least = network.offsets[last], np.inf
    for r in range(network.sizes[last]):
        if r < num_goals:
            least = min(least, state[outputs + r])
        elif state[outputs + r] < 0.0:
            return -np.inf
    return least


@compiled()
def try_points(network, num_goals, room):
    """The value of the best of some points of a cell, which is written to `room.candidate`."""
    most = -np.inf
    for number in range(3):
        point = room.point
        if number == 1:
            point = room.centre
        elif number == 2:
            point = room.mixture
        value = value_at(network, point, num_goals, room.state)
        if value > most or number == 0:
            most = value
            for k in range(point.shape[0]):
                room.candidate[k] = point[k]
    return most


@compiled()
def choose(network, level, low, high, before):
    """The undecided neuron of a stage that loosens the bound most."""
    chosen, most = -1, -1.0
    for j in range(network.offsets[level], network.offsets[level + 1]):
        if low[j] < 0.0 < high[j]:
            loose = (abs(before[j]) + 1e-30) * high[j] * -low[j] / (high[j] - low[j])
            if loose > most:
                chosen, most = j, loose
    return chosen


@compiled()
def push_child(stack, scratch, frame, top, child, place, side, neuron):
    """Write the child of a cell on a side of a neuron to the stack; `place` says which of the two cones it is."""
    for column in range(RAYS + 1):
        stack.frames[child, column] = scratch.children[place, column]
    stack.frames[child, STAGE] = frame[STAGE]
    stack.frames[child, STEP] = 2 * neuron + side
    stack.frames[child, SPENT] = 0
    stack.frames[child, DEPTH] = frame[DEPTH] + 1
    stack.frames[child, ENTERED] = 1
    stack.frames[child, TRIED] = 0
    stack.bound[child] = stack.bound[top]
    for j in range(stack.low.shape[1]):
        stack.low[child, j] = stack.low[top, j]
        stack.high[child, j] = stack.high[top, j]
        stack.slopes[child, j] = stack.slopes[top, j]
    for r in range(stack.weights.shape[1]):
        stack.weights[child, r] = stack.weights[top, r]
    for w in range(stack.used.shape[1]):
        stack.used[child, w] = scratch.child_used[place, w]
    if side == 1:
        stack.low[child, neuron] = 0.0
    else:
        stack.high[child, neuron] = 0.0


@compiled(vectorise=True)
def walk_bounded(layers, cones, scratch, stack, room, path, counts, numbers):
    """Open cells until nothing is left, the budget is used up, or something has to grow or to be looked at.

    The first cuts follow `path`: only the cell on that side is walked, and nothing is bounded before its end.

    Returns:
        DONE, FULL, CANDIDATE, LEAF, or one of the NEED statuses.
    """
    network, frames, pool, ids = layers.network, stack.frames, cones.pool, cones.ids
    last = network.sizes.shape[0] - 1
    dimension = pool.shape[1]
    tolerance, num_goals = numbers[TOLERANCE], counts[GOALS]
    while counts[TOP] >= 0:
        top = counts[TOP]
        frame = frames[top]
        if frame[SPENT]:
            stack.pool_top[0] = frame[POOL_TOP]
            counts[TOP] -= 1
            continue
        if counts[CELLS] >= counts[BUDGET]:
            return FULL
        if stack.bound[top] <= numbers[INCUMBENT] + numbers[CLOSE]:
            numbers[LEFT_OUT] = max(numbers[LEFT_OUT], stack.bound[top])
            counts[TOP] -= 1
            continue
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        count = frame[RAYS]
        if count > room.values.shape[0] or count > scratch.values.shape[0]:
            return NEED_PAIRS
        guided = path[frame[DEPTH]] if frame[DEPTH] < path.shape[0] else -1
        low, high, slopes, weights = stack.low[top], stack.high[top], stack.slopes[top], stack.weights[top]
        gather_points(cones, frame, room.points, room.centre)
        while True:
            level = frame[STAGE]
            if frame[ENTERED] == 0:
                enter_level(layers, stack, room.active, level)
                frame[ENTERED] = 1
            if level == last:
                break
            undecided = exact_bounds(network, stack.maps, stack.norms, level, count, tolerance, low, high, room)
            if guided >= 0 and guided >> 1 < network.offsets[level + 1]:
                break
            if guided < 0 and undecided > 0:
                break
            complete(network, stack, low, high, level)
            frame[STAGE] += 1
            frame[ENTERED] = 0
        chosen, only_side = -1, -1
        if guided >= 0:
            chosen, only_side = guided >> 1, guided & 1
        else:
            bound = dual_ascent(
                layers,
                level,
                count,
                low,
                high,
                slopes,
                weights,
                num_goals,
                numbers[REFERENCE],
                1,
                stack.bound[top],
                room,
            )
            if bound > numbers[INCUMBENT] + numbers[CLOSE]:
                for stage in range(level + 1, last):
                    bound_stage(layers, level, stage, count, low, high, room.default, room)
                bound = dual_ascent(
                    layers,
                    level,
                    count,
                    low,
                    high,
                    slopes,
                    weights,
                    num_goals,
                    numbers[REFERENCE],
                    counts[ASCENT],
                    bound,
                    room,
                )
            stack.bound[top] = bound
            if bound > numbers[INCUMBENT] + numbers[CLOSE] and not frame[TRIED]:
                frame[TRIED] = 1
                if try_points(network, num_goals, room) > numbers[INCUMBENT]:
                    return CANDIDATE
            if level == last and weights.shape[0] > 1 and bound > numbers[INCUMBENT] + numbers[CLOSE]:
                return LEAF
            counts[CELLS] += 1
            if level == last or bound <= numbers[INCUMBENT] + numbers[CLOSE]:
                numbers[LEFT_OUT] = max(numbers[LEFT_OUT], bound)
                counts[TOP] -= 1
                continue
        first, n = network.offsets[level], network.sizes[level]
        rows = stack.maps[first * dimension : (first + n) * dimension].reshape(dimension, n)
        crossed = False
        while not crossed:
            if only_side < 0:
                chosen = choose(network, level, low, high, room.before)
                if chosen < 0:
                    break
            for k in range(dimension):
                room.linear[k] = rows[k, chosen - first]
            threshold = tolerance * stack.norms[chosen]
            least, most = evaluate(pool, ids, frame[START], count, room.linear, scratch.values)
            crossed = most > threshold and least < -threshold
            if not crossed:
                if most > threshold:
                    low[chosen] = 0.0
                else:
                    high[chosen] = 0.0
                if only_side >= 0:
                    break
        if not crossed:
            if only_side >= 0:  # a cut that is none, up to the tolerance
                if (only_side == 1) == (high[chosen] > 0.0):
                    scratch.children[only_side, START] = frame[START]
                    scratch.children[only_side, LINES] = 0
                    scratch.children[only_side, RAYS] = count
                    for w in range(stack.used.shape[1]):
                        scratch.child_used[only_side, w] = stack.used[top, w]
                    frame[SPENT], frame[POOL_TOP] = 1, stack.pool_top[0]
                    push_child(stack, scratch, frame, top, top + 1, only_side, only_side, chosen)
                    counts[TOP] = top + 1
                else:
                    counts[TOP] -= 1
            continue
        better = 0
        if only_side < 0:
            value = 0.0
            for k in range(dimension):
                value += room.linear[k] * room.candidate[k]
            if value > 0.0:
                better = 1
                for p in range(count):
                    scratch.values[p] = -scratch.values[p]
        code, pool_top = split(cones, scratch, frame[START : RAYS + 1], stack.used[top], threshold, stack.pool_top[0])
        if code != OK:
            return code
        frame[SPENT], frame[POOL_TOP] = 1, stack.pool_top[0]
        stack.pool_top[0] = pool_top
        if only_side >= 0:
            push_child(stack, scratch, frame, top, top + 1, only_side, only_side, chosen)
            counts[TOP] = top + 1
            continue
        # The child written last lies last, and has to be opened first.
        push_child(stack, scratch, frame, top, top + 1, 1, 1 - better, chosen)
        push_child(stack, scratch, frame, top, top + 2, 0, better, chosen)
        counts[TOP] = top + 2
    return DONE
