"""Pruned walk over cells as rays: cut where it matters most, and drop cells that cannot improve on the best value."""

from __future__ import annotations

import numpy as np

from torch_shallow.bounds.difference_lines import APART, are_near, tie
from torch_shallow.bounds.dual_ascent import add_activations, dual_ascent
from torch_shallow.bounds.linear_rows import bound_distances, bound_stage
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.cone import NEED_PAIRS, OK, evaluate, split
from torch_shallow.search.engines.bounded_cells import (
    CUT,
    DEPTH,
    LINES,
    MET,
    POOL_TOP,
    RAYS,
    SPENT,
    START,
    TRIED,
    gather_points,
    push_child,
    settle,
)
from torch_shallow.search.task_output import DONE, FULL, NEED_FRAMES

CANDIDATE = 20  # `room.candidate` holds a point better than the incumbent: to be evaluated before the walk goes on
LEAF = 21  # the top cell of the stack has a single affine map and may hold a better point
ARRIVED = 22  # the path ends at the top cell of the stack, whose vertices are in `room.points`

# Counters and limits of a walk: top of the stack, cells opened, budget of cells, number of goals, and steps of the
# the ascent.
TOP, CELLS, BUDGET, GOALS, ASCENT = range(5)
NUM_COUNTS = 5

# Numbers of a walk: value to beat; by how much; reference for bounds; highest bound left out; tolerance.
INCUMBENT, CLOSE, REFERENCE, LEFT_OUT, TOLERANCE = range(5)
NUM_NUMBERS = 5


@compiled("contract", "nsz")
def value_at(network, point, num_goals, state):
    """Return the least goal at a point, as the network computes it, or -inf if a constraint is violated."""
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
    """Write the best of three points of a cell to `room.candidate`, and return its value."""
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
def choose(network, pairs, level, low, high, before):
    """Return the undecided neuron of a stage that loosens the bound most, or -1."""
    chosen, most = -1, -1.0
    for j in range(network.offsets[level], network.offsets[level + 1]):
        if low[j] < 0.0 < high[j]:
            coefficient = abs(before[j]) + 1e-30
            if pairs.of[j] >= 0 and pairs.mode[pairs.of[j]] != APART:
                coefficient += pairs.weight[pairs.of[j]]
            loose = coefficient * high[j] * -low[j] / (high[j] - low[j])
            if loose > most:
                chosen, most = j, loose
    return chosen


@compiled()
def bound_cell(layers, stack, room, top, level, counts, numbers):
    """Bound a cell: first with the known bounds of its neurons, then with better ones for the later stages."""
    count, worth = stack.frames[top, RAYS], numbers[INCUMBENT] + numbers[CLOSE]
    low, high, slopes, weights = stack.low[top], stack.high[top], stack.slopes[top], stack.weights[top]
    goals, reference, bound, pairs = counts[GOALS], numbers[REFERENCE], stack.bound[top], layers.pairs
    for q in range(pairs.first.shape[0]):
        pairs.least[q] = stack.nearest[top, q]
        pairs.most[q] = stack.furthest[top, q]
    bound_distances(layers, level, level, count, low, high, room.default, room)
    bound = dual_ascent(layers, level, count, low, high, slopes, weights, goals, reference, 1, bound, room)
    if bound > worth:
        is_near = pairs.first.shape[0] > 0
        for stage in range(level + 1, layers.network.sizes.shape[0] - 1):
            if is_near:
                bound_distances(layers, level, stage, count, low, high, room.default, room)
            bound_stage(layers, level, stage, count, low, high, room.default, room)
            tie(pairs, low, high, stage)
            is_near = is_near and are_near(pairs, low, high, stage)
        most = counts[ASCENT]
        bound = dual_ascent(layers, level, count, low, high, slopes, weights, goals, reference, most, bound, room)
    for q in range(pairs.first.shape[0]):
        stack.nearest[top, q] = pairs.least[q]
        stack.furthest[top, q] = pairs.most[q]
    stack.bound[top] = bound
    return bound > worth


@compiled()
def look_at(network, stack, cones, scratch, room, top, level, neuron, tolerance):
    """Write the values of a neuron at the rays of a cell; if it does not cut the cell after all, decide it.

    Returns the threshold that its values must exceed, or -1 if it does not cut.
    """
    frame, first, n = stack.frames[top], network.offsets[level], network.sizes[level]
    dimension = room.linear.shape[0]
    rows = stack.maps[first * dimension : (first + n) * dimension].reshape(dimension, n)
    for k in range(dimension):
        room.linear[k] = rows[k, neuron - first]
    threshold = tolerance * stack.norms[neuron]
    least, most = evaluate(cones.pool, cones.ids, frame[START], frame[RAYS], room.linear, scratch.values)
    if most > threshold and least < -threshold:
        return threshold
    if most > threshold:
        stack.low[top, neuron] = 0.0
    else:
        stack.high[top, neuron] = 0.0
    return -1.0


@compiled()
def follow(stack, scratch, top, neuron, side):
    """Take a step of a path whose neuron does not cut, up to the tolerance; return the new top of the stack."""
    frame = stack.frames[top]
    if (side == 1) != (stack.high[top, neuron] > 0.0):
        return top - 1  # that side is empty
    for column in (START, LINES, RAYS):
        scratch.children[side, column] = frame[column]
    for w in range(stack.used.shape[1]):
        scratch.child_used[side, w] = stack.used[top, w]
    frame[SPENT], frame[POOL_TOP] = 1, stack.pool_top[0]
    push_child(stack, scratch, frame, top, top + 1, side, side, neuron)
    return top + 1


@compiled(vectorise=True)
def walk_bounded(layers, cones, scratch, stack, room, path, counts, numbers):
    """Open cells until none is left, the budget is used up, or the caller has to make room or evaluate a point.

    The first cuts follow `path`: only the cell on the given side is walked, and nothing is bounded before its end.

    Returns:
        DONE, FULL, ARRIVED, CANDIDATE, LEAF, or one of the NEED statuses.
    """
    network, frames, tolerance = layers.network, stack.frames, numbers[TOLERANCE]
    last = network.sizes.shape[0] - 1
    while counts[TOP] >= 0:
        top = counts[TOP]
        frame = frames[top]
        if frame[SPENT]:
            stack.pool_top[0] = frame[POOL_TOP]
            counts[TOP] -= 1
            continue
        if counts[CELLS] >= counts[BUDGET] and frame[CUT] == 0:
            return FULL
        if stack.bound[top] <= numbers[INCUMBENT] + numbers[CLOSE]:
            numbers[LEFT_OUT] = max(numbers[LEFT_OUT], stack.bound[top])
            counts[TOP] -= 1
            continue
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        if frame[RAYS] > min(room.values.shape[0], scratch.values.shape[0]):
            return NEED_PAIRS
        guided = path[frame[DEPTH]] if frame[DEPTH] < path.shape[0] else -1
        gather_points(cones, frame, room.points, room.centre)
        if frame[DEPTH] == path.shape[0] and not frame[MET]:
            frame[MET] = 1
            return ARRIVED
        level = settle(layers, stack, room, top, guided, tolerance)
        if guided >= 0 or frame[CUT] > 0:
            step = guided if guided >= 0 else frame[CUT] - 1
            chosen, better = step >> 1, step & 1
            threshold = look_at(network, stack, cones, scratch, room, top, level, chosen, tolerance)
            if threshold < 0.0:
                counts[TOP] = follow(stack, scratch, top, chosen, better)
                continue
        else:
            open_still = bound_cell(layers, stack, room, top, level, counts, numbers)
            if open_still and not frame[TRIED]:
                frame[TRIED] = 1
                if try_points(network, counts[GOALS], room) > numbers[INCUMBENT]:
                    return CANDIDATE
            if open_still and level == last and network.sizes[last] > 1:
                return LEAF
            counts[CELLS] += 1
            if level == last or not open_still:
                numbers[LEFT_OUT] = max(numbers[LEFT_OUT], stack.bound[top])
                counts[TOP] -= 1
                continue
            threshold, chosen, better = -1.0, 0, 0
            while threshold < 0.0 and chosen >= 0:
                chosen = choose(network, layers.pairs, level, stack.low[top], stack.high[top], room.before)
                if chosen >= 0:
                    threshold = look_at(network, stack, cones, scratch, room, top, level, chosen, tolerance)
            if chosen < 0:
                counts[CELLS] -= 1  # all turn out to be decided: the cell goes on to the next stage
                continue
            value = 0.0
            for k in range(room.linear.shape[0]):
                value += room.linear[k] * room.candidate[k]
            better = 1 if value > 0.0 else 0
            frame[CUT] = 2 * chosen + better + 1
        if better == 1:  # the negative child has to be the one walked first
            for r in range(frame[RAYS]):
                scratch.values[r] = -scratch.values[r]
        code, pool_top = split(cones, scratch, frame[START : RAYS + 1], stack.used[top], threshold, stack.pool_top[0])
        if code != OK:
            return code
        frame[SPENT], frame[POOL_TOP] = 1, stack.pool_top[0]
        stack.pool_top[0] = pool_top
        if guided < 0:
            push_child(stack, scratch, frame, top, top + 1, 1, 1 - better, chosen)
            top += 1
        push_child(stack, scratch, frame, counts[TOP], top + 1, 0, better, chosen)
        counts[TOP] = top + 1
    return DONE
