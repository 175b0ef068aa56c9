"""Branch and bound on neurons and directions below a cell, depth first, in compiled code."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import rest, set_objective
from torch_shallow.search.engines.cell_relaxation import bound_neuron, current, decide, read_inputs
from torch_shallow.search.engines.cell_tree import copy, restore, save, solve
from torch_shallow.search.steepness.slope_form import (
    UNDECIDED,
    bound_changes,
    mix_better,
    over_directions,
    over_shares,
    slack_of,
    write_form,
)
from torch_shallow.search.steepness.slope_points import read_pattern, slope_along, slope_of_sum
from torch_shallow.search.steepness.spectrum import bound_spectrum

OPENED, LEFT, FOUND, SETTLED = range(4)  # what is counted
NUM_COUNTS = 4

ROUNDS = 3  # of better weights before the linear program of a cell
STEP = 0.3  # of the weights
LOOKED_AT = 24  # decisions whose two sides are bounded before one is chosen
SMALL = 1e-5  # a neuron that reaches no further than this on one side is not tied to its share
INTERVAL = 1e-14  # rounding of an interval, for each unit of its terms


class SteepestFound(Bundle):
    """What is left open, and the best point."""

    paths: np.ndarray  # int32 (capacity, depth)
    lengths: np.ndarray  # int64 (capacity,)
    bounds: np.ndarray  # float64 (capacity,)
    settled: np.ndarray  # int8 (capacity, neurons): pattern of a cell in which all is decided
    is_settled: np.ndarray  # bool (capacity,)
    x: np.ndarray  # float64 (inputs,): best point
    trial: np.ndarray  # float64 (inputs,)
    inner: np.ndarray  # float64 (inputs,): interior point of the domain
    pattern: np.ndarray  # int8 (neurons,): work space
    best: np.ndarray  # float64 (2,): value of the best point; highest bound that was left out


@compiled()
def decide_way(program, ways, decision):
    """Decide on an entry of the direction, or on the sign of an output; numbered behind the sides of neurons."""
    count, inputs = program.reads.shape
    number, side = (decision >> 1) - count, decision & 1
    if number < inputs:
        if side == 1:
            ways.least[number] = ways.most[number]
        else:
            ways.most[number] = ways.least[number]
    else:
        ways.sides[number - inputs] = 1.0 if side == 1 else -1.0


@compiled()
def follow(program, begun, ways, saved, depth):
    """Write the ways of the cell at the end of the decisions, from those of the cell that the search began with."""
    copy(begun.least, ways.least)
    copy(begun.most, ways.most)
    copy(begun.sides, ways.sides)
    count = program.reads.shape[0]
    for k in range(depth):
        if saved.decision[k] >= 2 * count:
            decide_way(program, ways, saved.decision[k])


@compiled("contract", "reassoc", "nsz")
def propagate(relaxation, state, lp):
    """Tighten the bounds of neurons by intervals, and decide on those of one sign; False if there is no point."""
    weights = relaxation.weights
    count = relaxation.biases.shape[0]
    inputs = weights.shape[1] - count
    for j in range(count):
        middle, least, most = relaxation.biases[j], 0.0, 0.0
        row = weights[j]
        for i in range(inputs):
            size = abs(row[i])
            most += size
        least = -most
        size = most + abs(middle)
        for i in range(j):
            w = row[inputs + i]
            if w != 0.0 and state.status[i] != 0:
                low, high = max(state.low[i], 0.0), max(state.high[i], 0.0)
                least += w * (low if w > 0.0 else high)
                most += w * (high if w > 0.0 else low)
                size += abs(w) * high
        room = INTERVAL * size * (inputs + count)
        least += middle - room
        most += middle + room
        changed = False
        if least > state.low[j]:
            state.low[j] = least
            changed = True
        if most < state.high[j]:
            state.high[j] = most
            changed = True
        if state.low[j] > state.high[j] + INTERVAL * size:
            return False
        if state.status[j] == UNDECIDED:
            if state.low[j] >= 0.0:
                state.status[j] = 1
                changed = True
            elif state.high[j] <= 0.0:
                state.status[j] = 0
                changed = True
        if changed:
            bound_neuron(relaxation, state, lp, j)
    return True


@compiled("contract", "reassoc", "nsz")
def tie_shares(relaxation, state, form):
    """Write the part that depends on shares as an objective of the linear program; its constant part.

    On the side where z <= 0, and n = -z, the share is 0, and on the other one n = 0: so a <= 1 - n / max n, and
    likewise a >= h / max h.
    """
    weights, objective = relaxation.weights, relaxation.objective
    count = relaxation.biases.shape[0]
    inputs = weights.shape[1] - count
    constant = 0.0
    for q in range(objective.shape[0]):
        objective[q] = 0.0
    for j in range(count):
        gain = form.gains[j]
        if state.status[j] != UNDECIDED or gain == 0.0:
            continue
        if gain < 0.0:
            if state.high[j] > SMALL:
                objective[inputs + j] += gain / state.high[j]
            continue
        constant += gain
        if state.low[j] < -SMALL:
            slope = gain / state.low[j]  # of n = h - z
            objective[inputs + j] += slope
            objective[inputs + count] -= slope * relaxation.biases[j]
            size = 1.0 + abs(relaxation.biases[j])
            for i in range(inputs + j):
                objective[i] -= slope * weights[j, i]
                size += abs(weights[j, i])
            form.totals[1] -= slope * size
    return constant


@compiled()
def read_shares(relaxation, state, lp, form):
    """Write the shares at the point of the linear program."""
    count, columns = relaxation.biases.shape[0], lp.loose.shape[0]
    inputs = relaxation.weights.shape[1] - count
    for j in range(count):
        if state.status[j] != UNDECIDED:
            form.shares[j] = state.status[j]
        elif form.gains[j] > 0.0:
            form.shares[j] = min(max(1.0 + current(lp, columns + j) / state.low[j], 0.0), 1.0)
        else:
            form.shares[j] = min(max(current(lp, inputs + j) / state.high[j], 0.0), 1.0)


@compiled()
def bound_slopes(program, ways, status, form):
    """The bound without the linear program."""
    if program.in_ball[0] and program.out.shape[0] > 1:
        return bound_spectrum(program, ways, status, form)
    write_form(program, ways, status, form)
    directions = over_directions(program, ways, form)
    return form.totals[0] + directions + over_shares(status, form) + slack_of(program, form)


@compiled()
def bound_cell(relaxation, state, lp, program, ways, form, target, known):
    """The bound of a cell, or one that is at most the target; -inf if the cell is empty."""
    bound = known
    if not propagate(relaxation, state, lp):
        return -np.inf
    rest(lp)
    bound_changes(program, ways, state.status, form)
    for _ in range(ROUNDS):
        bound = min(bound, bound_slopes(program, ways, state.status, form))
        if bound <= target:
            return bound
        mix_better(program, state.status, form, STEP)
    if program.in_ball[0] and program.out.shape[0] > 1:  # no objective is for all outputs
        for q in range(relaxation.objective.shape[0]):
            relaxation.objective[q] = 0.0
        set_objective(lp, relaxation.objective)
        rest(lp)
        return min(bound, bound + solve(relaxation, state, lp, -1.0))
    for _ in range(2):
        write_form(program, ways, state.status, form)
        apart = form.totals[0] + over_directions(program, ways, form)
        apart += tie_shares(relaxation, state, form)
        apart += slack_of(program, form)
        set_objective(lp, relaxation.objective)
        rest(lp)
        within = solve(relaxation, state, lp, target - apart)
        bound = min(bound, within + apart)
        if bound <= target:
            return bound
        read_shares(relaxation, state, lp, form)
        mix_better(program, state.status, form, STEP)
    return bound


@compiled()
def look_at(relaxation, program, ways, form, lp, found):
    """Take the point of the linear program, a little inside of the domain, if it is better than what is known."""
    is_better = False
    for trial in range(2):
        read_inputs(lp, found.trial)
        share = 1e-6 if trial == 0 else 1e-2
        for i in range(found.trial.shape[0]):
            found.trial[i] += share * (found.inner[i] - found.trial[i])
        if not read_pattern(relaxation, found.trial, found.pattern):
            continue
        is_known = True
        for i in range(ways.least.shape[0]):
            is_known = is_known and ways.least[i] == ways.most[i]
        if is_known and not program.in_ball[0]:
            value = slope_along(program, found.pattern, ways, form)
        else:
            value = slope_of_sum(program, found.pattern, ways, form)
        if value > found.best[0]:
            found.best[0] = value
            copy(found.trial, found.x)
            is_better = True
    return is_better


@compiled()
def choose(program, ways, state, form, target):
    """What to decide on next, with the side to go to first; -1 if all is decided."""
    count, inputs = program.reads.shape
    # An output of either sign is decided on first.
    widest, chosen = -1.0, -1
    if not program.in_ball[0]:
        for o in range(ways.sides.shape[0]):
            if ways.sides[o] != ways.sides[o]:
                size = min(-form.outputs[0, o], form.outputs[1, o])
                if size > widest:
                    widest, chosen = size, 2 * (count + inputs + o) + (form.outputs[1, o] > -form.outputs[0, o])
        if chosen >= 0:
            return chosen
    # The entries of neurons and directions: those that lose most are bounded on both sides.
    for i in range(inputs):
        lost = -1.0
        if ways.least[i] < ways.most[i] and not program.in_ball[0]:
            lost = 0.0
            for k in range(count):
                if state.status[k] == UNDECIDED:
                    lost += abs(form.prices[k] * program.reads[k, i])
            lost += 1e-12
        form.scores[count + i] = lost
    for k in range(count):
        if state.status[k] != UNDECIDED:
            form.scores[k] = -1.0
        else:
            form.scores[k] += 1e-12 * min(-state.low[k], state.high[k])
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
    return 2 * chosen + first if chosen >= 0 else -1


@compiled()
def leave(saved, found, counts, depth, bound):
    """Leave the cell at the end of the decisions open."""
    at = counts[LEFT]
    for k in range(depth):
        found.paths[at, k] = saved.decision[k]
    found.lengths[at] = depth
    found.bounds[at] = bound
    found.is_settled[at] = False
    counts[LEFT] += 1


@compiled(vectorise=True)
def walk_below(relaxation, state, lp, saved, program, begun, ways, form, spare, found, counts, limits, budget):
    """Search the cell that the tableau is of, depth first, until all is done or the budget is used up.

    Args:
        relaxation: the program and its linear relaxation.
        state: of the neurons on the cell.
        lp: the cell's linear program.
        saved: room for the cells above.
        program: how the program changes.
        begun: the ways that the cell is about.
        ways: work space for those of cells below.
        form: the bound, with the weights to begin with.
        spare: work space for points.
        found: where to write what is left open and the best point.
        counts: what is counted.
        limits: how far above the best value a bound is of interest, the value that is enough, the cell's own bound, and
            the bound from which on cells are opened.
        budget: how many cells to open.
    """
    depth, is_new = 0, True
    follow(program, begun, ways, saved, 0)
    while True:
        if is_new:
            is_new = False
            counts[OPENED] += 1
            target = found.best[0] + limits[0]
            known = saved.bound[depth - 1] if depth else limits[2]
            bound = bound_cell(relaxation, state, lp, program, ways, form, target, known)
            if bound > target and look_at(relaxation, program, ways, spare, lp, found):
                counts[FOUND] = 1
                target = found.best[0] + limits[0]
            full = depth == saved.bound.shape[0] - 1 or counts[LEFT] + depth + 2 >= found.lengths.shape[0]
            if bound > target and depth and (bound <= limits[3] or full):
                leave(saved, found, counts, depth, bound)
            elif bound > target:
                save(lp, state, saved, depth)
                branch = choose(program, ways, state, form, target)
                if branch < 0:
                    copy(state.status, found.settled[counts[LEFT]])
                    leave(saved, found, counts, depth, bound)
                    found.is_settled[counts[LEFT] - 1] = True
                    counts[SETTLED] += 1
                else:
                    saved.bound[depth] = bound
                    saved.decision[depth] = branch
                    saved.taken[depth] = 0
                    depth += 1
            else:
                found.best[1] = max(found.best[1], bound)
        while depth and saved.taken[depth - 1] == 2:
            depth -= 1
        if depth == 0:
            return
        top = depth - 1
        if saved.bound[top] <= found.best[0] + limits[0]:
            found.best[1] = max(found.best[1], saved.bound[top])
            saved.taken[top] = 2
            continue
        if saved.taken[top] == 1:
            saved.decision[top] ^= 1
        saved.taken[top] += 1
        if counts[OPENED] >= budget or found.best[0] > limits[1]:
            leave(saved, found, counts, depth, saved.bound[top])
            continue
        if saved.taken[top] == 2:
            restore(lp, state, saved, top)
        decision = saved.decision[top]
        follow(program, begun, ways, saved, depth)
        if decision < 2 * program.reads.shape[0]:
            decide(relaxation, state, lp, decision >> 1, decision & 1)
            rest(lp)
        is_new = True
