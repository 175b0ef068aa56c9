"""Depth-first branch and bound below a cell, in compiled code: each linear program continues from its parent's."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import BELOW, EMPTY, OUTSIDE, begin, maximise, pivot, rest, set_objective
from torch_shallow.search.engines.cell_relaxation import (
    UNDECIDED,
    current,
    decide,
    evaluate,
    loss,
    proven_bound,
    read_inputs,
    slack_tableau,
)

OPENED, LEFT, FOUND = range(3)  # counters
NUM_COUNTS = 3

VIOLATED = 1e-7  # a neuron may be branched on if it misses its ReLU by more than this
LOOKED_AT = 3  # neurons that are tried with more than one step
STEPS = 5
ROOM = 1e-6  # by how much variables may leave their bounds in a cell that is nearly empty


class Saved(Bundle):
    """State of each cell on the path before it was branched on, by depth."""

    tableau: np.ndarray
    value: np.ndarray
    at: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    loose: np.ndarray
    basic: np.ndarray
    place: np.ndarray
    status: np.ndarray
    low: np.ndarray
    high: np.ndarray
    chord_low: np.ndarray
    chord_high: np.ndarray
    decision: np.ndarray  # int32 (depth,): the branch being explored
    taken: np.ndarray  # int32 (depth,): how many of the two branches have been taken
    bound: np.ndarray  # float64 (depth,): bound of the cell


class Leavings(Bundle):
    """Cells left open, and the best point."""

    paths: np.ndarray  # int32 (capacity, depth)
    lengths: np.ndarray  # int64 (capacity,)
    bounds: np.ndarray  # float64 (capacity,)
    x: np.ndarray  # float64 (inputs,): best point
    trial: np.ndarray  # float64 (inputs,)
    best: np.ndarray  # float64 (2,): value of the best point; highest bound that was left out


@compiled()
def copy(source, target):
    """Copy an array of one axis."""
    for k in range(source.shape[0]):
        target[k] = source[k]


@compiled()
def save(lp, state, saved, depth):
    """Save a cell."""
    for r in range(lp.tableau.shape[0]):
        copy(lp.tableau[r], saved.tableau[depth, r])
    copy(lp.value, saved.value[depth])
    copy(lp.at, saved.at[depth])
    copy(lp.lower, saved.lower[depth])
    copy(lp.upper, saved.upper[depth])
    copy(lp.loose, saved.loose[depth])
    copy(lp.basic, saved.basic[depth])
    copy(lp.place, saved.place[depth])
    copy(state.status, saved.status[depth])
    copy(state.low, saved.low[depth])
    copy(state.high, saved.high[depth])
    copy(state.chord_low, saved.chord_low[depth])
    copy(state.chord_high, saved.chord_high[depth])


@compiled()
def restore(lp, state, saved, depth):
    """Restore a saved cell."""
    for r in range(lp.tableau.shape[0]):
        copy(saved.tableau[depth, r], lp.tableau[r])
    copy(saved.value[depth], lp.value)
    copy(saved.at[depth], lp.at)
    copy(saved.lower[depth], lp.lower)
    copy(saved.upper[depth], lp.upper)
    copy(saved.loose[depth], lp.loose)
    copy(saved.basic[depth], lp.basic)
    copy(saved.place[depth], lp.place)
    copy(saved.status[depth], state.status)
    copy(saved.low[depth], state.low)
    copy(saved.high[depth], state.high)
    copy(saved.chord_low[depth], state.chord_low)
    copy(saved.chord_high[depth], state.chord_high)


@compiled()
def solve(relaxation, state, lp, target):
    """Return the proven bound of a cell, or the first found at or below the target; -inf if the cell is empty."""
    rows = lp.basic.shape[0]
    for attempt in range(2):
        status = maximise(lp, target, 200 + 4 * rows, OUTSIDE)
        if status == EMPTY:
            row, sign = lp.out[0], 1.0 if lp.out[1] == 1 else -1.0
            variable = lp.basic[row]
            limit = lp.lower[variable] if sign > 0.0 else -lp.upper[variable]
            if proven_bound(relaxation, state, lp, relaxation.objective, row, sign) < limit:
                return -np.inf
        else:
            bound = proven_bound(relaxation, state, lp, relaxation.objective, rows, 1.0)
            if status != BELOW or bound <= target + 1e-9 * (1.0 + abs(target)):
                return bound
        if attempt == 0:
            refresh(relaxation, state, lp)
    # The cell is so thin that rounding decides whether it is empty: bound it with a little more room.
    maximise(lp, target, 200 + 4 * rows, ROOM)
    return proven_bound(relaxation, state, lp, relaxation.objective, rows, 1.0)


@compiled()
def refresh(relaxation, state, lp):
    """Recompute the tableau of the basis."""
    columns, rows = lp.loose.shape[0], lp.basic.shape[0]
    wanted = lp.order  # variables of the columns that belong in the basis
    count = 0
    for v in range(columns):
        if lp.place[v] < 0:
            wanted[count] = v
            count += 1
    copied = lp.ratios
    for q in range(columns):  # variables of the rows that belong outside the basis
        copied[q] = lp.loose[q]
    # Mark the rows that may leave, in `value`, which is recomputed later.
    for r in range(rows):
        lp.value[r] = 0.0
    for q in range(columns):
        if copied[q] >= columns:
            lp.value[int(copied[q]) - columns] = 1.0
    slack_tableau(relaxation, state, lp)
    begin(lp)
    for k in range(count):
        column = wanted[k]
        best, chosen = 1e-9, -1
        for r in range(rows):
            if lp.value[r] == 1.0 and abs(lp.tableau[r, column]) > best:
                best, chosen = abs(lp.tableau[r, column]), r
        if chosen >= 0:
            lp.value[chosen] = 0.0
            pivot(lp, chosen, column)
    set_objective(lp, relaxation.objective)
    rest(lp)


@compiled()
def choose_neuron(relaxation, state, lp, saved, depth, target):
    """Return the neuron to branch on, or -1 if all are decided; `lp.out[1]` is the side to explore first.

    It is the neuron whose decision lowers the bound most on both sides (the product rule: Achterberg 2007). One step of
    the dual ranks the candidates; a few more steps are made for the best of them. If no neuron misses its ReLU by more
    than the tolerance, the one that misses it most is branched on. The cell must have been saved.
    """
    count, rows = relaxation.biases.shape[0], lp.basic.shape[0]
    inputs, columns = relaxation.weights.shape[1] - count, lp.loose.shape[0]
    scores, top, furthest, worst, promising = relaxation.scores, lp.value[rows], -1, -1.0, 0
    for j in range(count):
        scores[j] = -1.0
        if state.status[j] == UNDECIDED:
            violation = min(current(lp, inputs + j), current(lp, columns + j))
            if violation > worst:
                furthest, worst = j, violation
            if violation > VIOLATED:
                scores[j] = max(loss(lp, inputs + j), 1e-9) * max(loss(lp, columns + j), 1e-9)
                promising += 1
    best, chosen = -1.0, furthest
    lp.out[1] = 1
    first = 1
    for _ in range(min(LOOKED_AT, promising)):
        j = 0
        for k in range(count):
            if scores[k] > scores[j]:
                j = k
        scores[j] = -1.0
        inactive = drop(relaxation, state, lp, j, 0, top, target)
        restore(lp, state, saved, depth)
        active = drop(relaxation, state, lp, j, 1, top, target)
        restore(lp, state, saved, depth)
        score = max(inactive, 1e-9) * max(active, 1e-9)
        if score > best:
            best, chosen, first = score, j, active <= inactive
    lp.out[1] = first
    return chosen


@compiled()
def drop(relaxation, state, lp, j, side, top, target):
    """Return how far a decision lowers the bound within a few steps; down to the target if the cell is left out."""
    decide(relaxation, state, lp, j, side)
    rest(lp)
    status = maximise(lp, target, STEPS, OUTSIDE)
    return top - (target if status in (EMPTY, BELOW) else lp.value[lp.basic.shape[0]])


@compiled()
def leave(saved, found, counts, depth, bound):
    """Record the cell at the end of the decisions as left open."""
    at = counts[LEFT]
    for k in range(depth):
        found.paths[at, k] = saved.decision[k]
    found.lengths[at] = depth
    found.bounds[at] = bound
    counts[LEFT] += 1


@compiled(vectorise=True)
def search_below(relaxation, state, lp, saved, found, counts, limits, budget, num_goals):
    """Search the tableau's cell, depth first, until nothing is left or the budget is used up.

    Args:
        relaxation: The program.
        state: Bounds and signs of the neurons on the cell.
        lp: The cell's linear program.
        saved: Storage for the cells on the path.
        found: Where to write the cells left open and the best point.
        counts: The counters.
        limits: How far above the best value a bound is of interest, the value that suffices, the cell's own bound, and
            the bound above which cells are opened.
        budget: Number of cells to open.
        num_goals: Number of outputs that are goals.
    """
    depth, is_new = 0, True
    while True:
        if is_new:
            is_new = False
            counts[OPENED] += 1
            target = found.best[0] + limits[0]
            bound = min(solve(relaxation, state, lp, target), saved.bound[depth - 1] if depth else limits[2])
            if bound > target:
                read_inputs(lp, found.trial)
                value = evaluate(relaxation, found.trial, num_goals)
                if value > found.best[0]:
                    found.best[0] = value
                    copy(found.trial, found.x)
                    counts[FOUND] = 1
                    target = value + limits[0]
            full = depth == saved.bound.shape[0] - 1 or counts[LEFT] + depth + 2 >= found.lengths.shape[0]
            if bound > target and depth and (bound <= limits[3] or full):
                leave(saved, found, counts, depth, bound)
            else:
                branch = -1
                if bound > target:
                    save(lp, state, saved, depth)
                    branch = choose_neuron(relaxation, state, lp, saved, depth, target)
                if branch < 0:
                    found.best[1] = max(found.best[1], bound)
                else:
                    saved.bound[depth] = bound
                    saved.decision[depth] = 2 * branch + lp.out[1]
                    saved.taken[depth] = 0
                    depth += 1
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
        decide(relaxation, state, lp, decision >> 1, decision & 1)
        rest(lp)
        is_new = True
