"""Bounds of a program's slopes on a cell, with shares that its linear program ties to the input."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import rest, set_objective
from torch_shallow.search.engines.cell_relaxation import bound_neuron, current
from torch_shallow.search.engines.cell_tree import solve
from torch_shallow.search.steepness.output_cone import choose_corner, reach_of
from torch_shallow.search.steepness.slope_form import (
    UNDECIDED,
    bound_changes,
    mix_better,
    over_directions,
    over_shares,
    slack_of,
    write_form,
)
from torch_shallow.search.steepness.spectrum import bound_spectrum

ROUNDS = 3  # of improving the weights before the linear program of a cell
STEP = 0.3  # step size of the weights
SMALL = 1e-5  # a neuron that reaches no further than this on one side is not tied to its share
INTERVAL = 1e-14  # rounding error of an interval, as a share of its terms


@compiled("contract", "reassoc", "nsz")
def propagate(relaxation, state, lp):
    """Tighten the bounds of neurons by intervals, and decide those of one sign; return False if the cell is empty."""
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
    """Write the share-dependent part as an objective of the linear program; return its constant part.

    On the side where z <= 0 and n = -z, the share is 0; on the other side n = 0. So a <= 1 - n / max n, and likewise
    a >= h / max h.
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
            slope = gain / state.low[j]  # slope of n = h - z
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
    """Bound the slopes without the linear program."""
    if ways.corners.shape[0]:
        most = 0.0
        for k in range(ways.corners.shape[0]):
            choose_corner(ways, k)
            form.quick[k] = bound_sum(program, ways, status, form)
            most = max(most, form.quick[k])
        return most * reach_of(ways)
    if program.in_ball[0] and program.out.shape[0] > 1:
        return bound_spectrum(program, ways, status, form)
    return bound_sum(program, ways, status, form)


@compiled()
def bound_sum(program, ways, status, form):
    """Bound one sum of outputs without the linear program."""
    write_form(program, ways, status, form)
    directions = over_directions(program, ways, form)
    return form.totals[0] + directions + over_shares(status, form) + slack_of(program, form)


@compiled()
def bound_cell(relaxation, state, lp, program, ways, form, target, known):
    """Return the bound of a cell, or one that is at most the target; -inf if the cell is empty."""
    if not propagate(relaxation, state, lp):
        return -np.inf
    rest(lp)
    bound_changes(program, ways, state.status, form)
    if ways.corners.shape[0]:
        return bound_cone(relaxation, state, lp, program, ways, form, target, known)
    if not (program.in_ball[0] and program.out.shape[0] > 1):
        return bound_way(relaxation, state, lp, program, ways, form, target, known)
    bound = known
    for _ in range(ROUNDS):
        bound = min(bound, bound_slopes(program, ways, state.status, form))
        if bound <= target:
            return bound
        mix_better(program, ways, state.status, form, STEP)
    for q in range(relaxation.objective.shape[0]):  # the objective does not hold for all outputs
        relaxation.objective[q] = 0.0
    set_objective(lp, relaxation.objective)
    rest(lp)
    return min(bound, bound + solve(relaxation, state, lp, -1.0))


@compiled()
def bound_cone(relaxation, state, lp, program, ways, form, target, known):
    """Bound a cone by the bounds at its corners, the highest first, each lowered no further than it matters."""
    corners, reach = ways.corners.shape[0], reach_of(ways)
    quick = min(known, bound_slopes(program, ways, state.status, form))
    if quick <= target:
        return quick
    most, worst = min(target, target / reach), 0
    for k in range(corners):
        if form.quick[k] > form.quick[worst]:
            worst = k
    for k in range(corners):
        corner = worst if k == 0 else k - 1 if k <= worst else k
        if form.quick[corner] > most:
            choose_corner(ways, corner)
            bound = bound_way(relaxation, state, lp, program, ways, form, most, form.quick[corner])
            if bound == -np.inf:
                return bound
            most = max(most, bound)
    return min(known, most * reach)


@compiled()
def bound_way(relaxation, state, lp, program, ways, form, target, known):
    """Bound one sum of outputs, or the sum of the sizes of several."""
    bound = known
    for _ in range(ROUNDS):
        bound = min(bound, bound_sum(program, ways, state.status, form))
        if bound <= target:
            return bound
        mix_better(program, ways, state.status, form, STEP)
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
        mix_better(program, ways, state.status, form, STEP)
    return bound
