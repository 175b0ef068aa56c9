"""Depth-first branch and bound on neurons and directions below a cell, in compiled code."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import rest
from torch_shallow.search.engines.cell_relaxation import decide, read_inputs
from torch_shallow.search.engines.cell_tree import copy, restore, save
from torch_shallow.search.steepness.cell_slope import bound_cell
from torch_shallow.search.steepness.slope_choice import choose, follow
from torch_shallow.search.steepness.slope_points import (
    greatest_singular_value,
    read_pattern,
    slope_along,
    slope_of_sum,
)

OPENED, LEFT, FOUND, SETTLED = range(4)  # counters
NUM_COUNTS = 4


class SteepestFound(Bundle):
    """Cells left open, and the best point."""

    paths: np.ndarray  # int32 (capacity, depth)
    lengths: np.ndarray  # int64 (capacity,)
    bounds: np.ndarray  # float64 (capacity,)
    settled: np.ndarray  # int8 (capacity, neurons): pattern of a fully decided cell
    is_settled: np.ndarray  # bool (capacity,)
    x: np.ndarray  # float64 (inputs,): best point
    trial: np.ndarray  # float64 (inputs,)
    inner: np.ndarray  # float64 (inputs,): interior point of the domain
    pattern: np.ndarray  # int8 (neurons,): work space
    best: np.ndarray  # float64 (2,): value of the best point; highest bound that was left out


@compiled()
def look_at(relaxation, program, ways, form, lp, found):
    """Take the linear program's point, moved slightly into the domain, if it is better than the best known."""
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
        elif program.in_ball[0] and program.out.shape[0] > 1:
            value = greatest_singular_value(program, found.pattern, form)
        else:
            value = slope_of_sum(program, found.pattern, ways, form)
        if value > found.best[0]:
            found.best[0] = value
            copy(found.trial, found.x)
            is_better = True
    return is_better


@compiled()
def leave(saved, found, counts, depth, bound):
    """Record the cell at the end of the decisions as left open."""
    at = counts[LEFT]
    for k in range(depth):
        found.paths[at, k] = saved.decision[k]
    found.lengths[at] = depth
    found.bounds[at] = bound
    found.is_settled[at] = False
    counts[LEFT] += 1


@compiled(vectorise=True)
def walk_below(relaxation, state, lp, saved, program, begun, ways, form, spare, found, counts, limits, budget):
    """Search the tableau's cell, depth first, until nothing is left or the budget is used up.

    Args:
        relaxation: The program and its linear relaxation.
        state: Bounds and signs of the neurons on the cell.
        lp: The cell's linear program.
        saved: Storage for the cells on the path.
        program: How the program changes.
        begun: The ways that the cell is about.
        ways: Work space for those of cells below.
        form: The bound, with the weights to start from.
        spare: Work space for points.
        found: Where to write the cells left open and the best point.
        counts: The counters.
        limits: How far above the best value a bound is of interest, the value that suffices, the cell's own bound, and
            the bound above which cells are opened.
        budget: Number of cells to open.
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
