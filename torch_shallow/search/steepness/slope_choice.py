"""Decisions on a cell: neurons, entries of the direction, signs of outputs, and halves of cones of outputs."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.search.engines.cell_tree import copy
from torch_shallow.search.steepness.cell_slope import bound_slopes
from torch_shallow.search.steepness.output_cone import NARROW, longest_edge, reach_of, split_cone
from torch_shallow.search.steepness.slope_form import UNDECIDED, bound_changes

WIDE = 0.02  # a cone whose reach exceeds 1 by more than this per dimension is split first
LOOKED_AT = 24  # decisions whose two sides are bounded before one is chosen


@compiled()
def decide_way(program, ways, decision):
    """Decide an entry of the direction, the sign of an output or half of a cone, all numbered after the neurons."""
    count, inputs = program.reads.shape
    number, side = (decision >> 1) - count, decision & 1
    if number < inputs:
        if side == 1:
            ways.least[number] = ways.most[number]
        else:
            ways.most[number] = ways.least[number]
    elif number < inputs + program.out.shape[0]:
        ways.sides[number - inputs] = 1.0 if side == 1 else -1.0
    else:
        split_cone(ways, side)


@compiled()
def follow(program, begun, ways, saved, depth):
    """Write the ways of the cell at the end of the decisions, starting from those of the search's first cell."""
    copy(begun.least, ways.least)
    copy(begun.most, ways.most)
    copy(begun.sides, ways.sides)
    for k in range(begun.corners.shape[0]):
        copy(begun.corners[k], ways.corners[k])
    count = program.reads.shape[0]
    for k in range(depth):
        if saved.decision[k] >= 2 * count:
            decide_way(program, ways, saved.decision[k])


@compiled()
def bound_halves(program, ways, status, form):
    """Return the bounds of both halves of a cone."""
    outputs = ways.corners.shape[0]
    edge = longest_edge(ways)
    first, second = edge // outputs, edge % outputs
    copy(ways.corners[second], form.kept)
    split_cone(ways, 0)
    off = bound_slopes(program, ways, status, form)
    copy(form.kept, ways.corners[second])
    copy(ways.corners[first], form.kept)
    split_cone(ways, 1)
    on = bound_slopes(program, ways, status, form)
    copy(form.kept, ways.corners[first])
    return off, on


@compiled()
def choose(program, ways, state, form, target):
    """Return the next decision, including the side to explore first; -1 if everything is decided."""
    count, inputs = program.reads.shape
    # An output that may have either sign is decided first.
    widest, chosen = -1.0, -1
    if not program.in_ball[0]:
        for o in range(ways.sides.shape[0]):
            if ways.sides[o] != ways.sides[o]:
                size = min(-form.outputs[0, o], form.outputs[1, o])
                if size > widest:
                    widest, chosen = size, 2 * (count + inputs + o) + (form.outputs[1, o] > -form.outputs[0, o])
        if chosen >= 0:
            return chosen
    # Of neurons and entries of the direction, those that lose most are bounded on both sides.
    for i in range(inputs):
        lost = -1.0
        if ways.least[i] < ways.most[i] and not program.in_ball[0]:
            lost = 0.0
            for k in range(count):
                if state.status[k] == UNDECIDED:
                    lost += abs(form.prices[k] * program.reads[k, i])
            lost += 1e-12
        form.scores[count + i] = lost
    is_settled = True
    for k in range(count):
        if state.status[k] != UNDECIDED:
            form.scores[k] = -1.0
        else:
            is_settled = False
            form.scores[k] += 1e-12 * min(-state.low[k], state.high[k])
    if is_settled and program.in_ball[0]:
        return -1
    if ways.corners.shape[0] and reach_of(ways) > 1.0 + WIDE * (program.out.shape[0] - 1):
        return 2 * (count + inputs + program.out.shape[0]) + 1
    best, chosen, first = -np.inf, -1, 1
    for _ in range(LOOKED_AT):
        j = 0
        for k in range(count + inputs):
            if form.scores[k] > form.scores[j]:
                j = k
        if form.scores[j] < 0.0:
            break
        form.scores[j] = -1.0
        if j < count:
            state.status[j] = 0
            bound_changes(program, ways, state.status, form)
            off = bound_slopes(program, ways, state.status, form)
            state.status[j] = 1
            bound_changes(program, ways, state.status, form)
            on = bound_slopes(program, ways, state.status, form)
            state.status[j] = UNDECIDED
        else:
            low, high = ways.least[j - count], ways.most[j - count]
            ways.most[j - count] = low
            bound_changes(program, ways, state.status, form)
            off = bound_slopes(program, ways, state.status, form)
            ways.least[j - count], ways.most[j - count] = high, high
            bound_changes(program, ways, state.status, form)
            on = bound_slopes(program, ways, state.status, form)
            ways.least[j - count] = low
        worse, better = max(off, on, target), max(min(off, on), target)
        score = -(worse + 0.3 * better)
        if score > best:
            best, chosen, first = score, j, on >= off
    if ways.corners.shape[0] and reach_of(ways) > 1.0 + NARROW:
        bound_changes(program, ways, state.status, form)
        off, on = bound_halves(program, ways, state.status, form)
        worse, better = max(off, on, target), max(min(off, on), target)
        if -(worse + 0.3 * better) > best:
            chosen, first = count + inputs + program.out.shape[0], on >= off
    return 2 * chosen + first if chosen >= 0 else -1
