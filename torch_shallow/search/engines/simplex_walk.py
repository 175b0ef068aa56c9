"""Walk over cells given by half-spaces, in compiled code; it stops where a solver has to settle a linear program."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.dual_simplex import ABOVE, BELOW, FAILED, maximise
from torch_shallow.geometry.only_maximum import only_maximum
from torch_shallow.search.problem import compose, pack_pattern, write_doubts
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

NEED_ROWS = 20  # the path has more half-spaces than there is room for
NEED_POINTS = 21  # no room for the points of two more cells
MAY_RISE = 22  # a solver has to say whether `row`, of a neuron of the top cell, is positive anywhere in the cell
MAY_FALL = 23  # the same for negative
DOUBT = 24  # only exact arithmetic can tell whether the neuron takes both signs in the cell

PARENT, STAGE, CURSOR, ROWS, NEURON, SIDE, FIRST, POINTS, SPENT, DEPTH, ASKED, ENTERS = range(12)
NUM_COLUMNS = 12

SHOWN = 3  # open neurons whose signs are sought on a wall
PROOFS = 4  # kept for each neuron and sign, each proving that the sign does not occur in a cell


class CellStack(Bundle):
    """Cells still to be walked, each with some points of its closure, the first of them in the interior."""

    frames: np.ndarray  # int64 (capacity, NUM_COLUMNS)
    status: np.ndarray  # uint8 (capacity, largest stage): signs of the neurons of the cell's stage
    points: np.ndarray  # float64 (capacity, dimension): homogeneous, the points of each cell together
    maps: np.ndarray  # as in `RayStack`
    norms: np.ndarray
    doubts: np.ndarray
    pattern: np.ndarray
    row: np.ndarray  # float64 (dimension,): row of the neuron examined last
    other: np.ndarray  # float64 (dimension,): work space, like the next
    at_points: np.ndarray  # float64 (2, most points of a cell)
    codes: np.ndarray  # int64 (capacity of half-spaces,): code of each, `2 * neuron + side` or a number after those
    places: np.ndarray  # int64 (codes,): last position of each on a path
    proofs: np.ndarray  # int64 (2 * neurons, PROOFS, dimension + 1): number of half-spaces, and their codes
    multipliers: np.ndarray  # float64 (2 * neurons, PROOFS, dimension): multipliers of these half-spaces
    bases: np.ndarray  # int64 (2 * neurons, dimension): basis of the last program: codes, or -1 - k for variable k
    num_proofs: np.ndarray  # int64 (2 * neurons,): number of proofs found; the latest ones are kept
    active: np.ndarray  # int64 (neurons,): work space


@compiled("contract", "nsz")
def settle_by_bounds(network, simplex, cells, stage, status, tolerance):
    """Compose a stage and settle the neurons whose sign follows from the box around all cells."""
    compose(network, cells.maps, cells.norms, cells.pattern, cells.active, stage)
    write_doubts(network, cells.norms, cells.pattern, stage, tolerance, cells.doubts)
    n, offset, dimension = network.sizes[stage], network.offsets[stage], simplex.lower.shape[0]
    for i in range(n):
        low, high = 0.0, 0.0
        for k in range(dimension):
            slope = cells.maps[offset * dimension + k * n + i]
            low += min(slope * simplex.lower[k], slope * simplex.upper[k])
            high += max(slope * simplex.lower[k], slope * simplex.upper[k])
        status[i] = UNDECIDED
        if high <= cells.doubts[offset + i]:
            status[i] = 0
        elif low >= -cells.doubts[offset + i]:
            status[i] = 1


@compiled("contract", "nsz")
def proven_before(simplex, cells, count, which, objective):
    """Return whether multipliers found in another cell prove here, too, that a row is nowhere positive.

    The bound is computed anew; multipliers of half-spaces that are not on this cell's path cannot be used.
    """
    dimension, price = objective.shape[0], simplex.price
    for number in range(min(cells.num_proofs[which], PROOFS)):
        proof, multipliers, at = cells.proofs[which, number], cells.multipliers[which, number], 1
        while at <= proof[0]:
            place = cells.places[proof[at]]
            if place >= count or cells.codes[place] != proof[at]:
                break
            at += 1
        if at <= proof[0]:
            continue
        for i in range(dimension):
            price[i] = objective[i]
        for at in range(proof[0]):
            half_space, multiplier = simplex.rows[cells.places[proof[at + 1]]], multipliers[at]
            for i in range(dimension):
                price[i] += multiplier * half_space[i]
        bound = 0.0
        for i in range(dimension):
            bound += max(price[i] * simplex.lower[i], price[i] * simplex.upper[i])
        if bound <= 0.0:
            return True
    return False


@compiled()
def keep_proof(simplex, cells, which):
    """Store the multipliers that have just settled a linear program, in place of the oldest ones."""
    dimension, found = simplex.lower.shape[0], 0
    number = cells.num_proofs[which] % PROOFS
    for column in range(dimension):
        j = simplex.loose[column] - dimension
        if j >= 0 and simplex.cost[column] < 0.0:
            cells.proofs[which, number, found + 1] = cells.codes[j]
            cells.multipliers[which, number, found] = -simplex.cost[column]
            found += 1
    cells.proofs[which, number, 0] = found
    cells.num_proofs[which] += 1


@compiled()
def solve(simplex, cells, count, which, doubt):
    """Maximise the objective from the basis of the last program of the same neuron and sign; return the answer.

    The point, if there is one, does not depend on programs solved before.
    """
    dimension, basis = simplex.lower.shape[0], cells.bases[which]
    simplex.start[0] = 0
    for k in range(dimension):
        simplex.stays[k] = 0
    for i in range(dimension):
        if basis[i] < 0:
            simplex.stays[-1 - basis[i]] = 1
        elif cells.places[basis[i]] < count and cells.codes[cells.places[basis[i]]] == basis[i]:
            simplex.start[0] += 1
            simplex.start[simplex.start[0]] = cells.places[basis[i]]
    answer = maximise(simplex, count, simplex.objective, doubt, 0.1 * doubt)
    for i in range(dimension):
        variable = simplex.loose[i]
        basis[i] = -1 - variable if variable < dimension else cells.codes[variable - dimension]
    if answer == FAILED and simplex.start[0] > 0:
        simplex.start[0] = 0
        answer = maximise(simplex, count, simplex.objective, doubt, 0.1 * doubt)
    if answer == ABOVE and only_maximum(simplex, count, simplex.objective) <= doubt:
        simplex.start[0] = 0
        answer = maximise(simplex, count, simplex.objective, doubt, 0.1 * doubt)
    return answer


@compiled()
def two_signs(simplex, cells, frame, neuron, row, max_points, tolerance, doubt, ask):
    """Decide whether the unit row of a neuron takes both signs on a cell, by its points or else by linear programs.

    Each maximum found is kept as a point of the cell, up to `max_points`.

    Returns:
        0 or 1 if it has one sign (0: nowhere positive), 2 if it has both; MAY_RISE or MAY_FALL if a program could not
        be settled or, with `ask`, was not tried; DOUBT if values beyond `doubt` were not shown to be beyond the
        tolerance. A solver that is asked cannot tell values below the tolerance from 0.
    """
    dimension, points = row.shape[0], cells.points
    low, high = 0.0, 0.0
    for p in range(frame[FIRST], frame[FIRST] + frame[POINTS]):
        value = 0.0
        for k in range(dimension):
            value += row[k] * points[p, k]
        low, high = min(low, value), max(high, value)
    for sign in (1.0, -1.0):
        if (high if sign > 0.0 else -low) > tolerance:
            continue
        for k in range(dimension):
            simplex.objective[k] = sign * row[k]
        answer, which = FAILED, 2 * neuron + (sign > 0.0)
        if not ask:
            if proven_before(simplex, cells, frame[ROWS], which, simplex.objective):
                return 0 if sign > 0.0 else 1
            answer = solve(simplex, cells, frame[ROWS], which, doubt)
            if answer == BELOW:
                keep_proof(simplex, cells, which)
        if answer == FAILED:
            return MAY_RISE if sign > 0.0 else MAY_FALL
        if answer == BELOW:
            return 0 if sign > 0.0 else 1
        value = 0.0
        at = frame[FIRST] + (frame[POINTS] if frame[POINTS] < max_points else max_points - 1)
        for k in range(dimension):
            value += row[k] * simplex.point[k]
            points[at, k] = simplex.point[k]
        if (value if sign > 0.0 else -value) <= tolerance:
            return DOUBT
        frame[POINTS] = at + 1 - frame[FIRST]
        low, high = min(low, value), max(high, value)
    return 2


@compiled()
def share_points(cells, frame, row, child_frame, first):
    """Give a child the points of its parent on its side of `row`, starting with one in its interior."""
    points, dimension = cells.points, row.shape[0]
    start, count = frame[FIRST], frame[POINTS]
    inner, best, best_value, at = 0.0, start, -np.inf, first + 1
    for p in range(start, start + count):
        value = 0.0
        for k in range(dimension):
            value += row[k] * points[p, k]
        if p == start:
            inner = value
        if value > best_value:
            best, best_value = p, value
        if value >= 0.0:
            for k in range(dimension):
                points[at, k] = points[p, k]
            at += 1
    # Move towards the point furthest on the child's side until the row has half its value there.
    share = 0.0 if inner >= 0.5 * best_value else (0.5 * best_value - inner) / (best_value - inner)
    for k in range(dimension):
        points[first, k] = (1.0 - share) * points[start, k] + share * points[best, k]
    # Move halfway to the mean of all points, which is deeper inside.
    for k in range(dimension):
        mean = 0.0
        for p in range(first, at):
            mean += points[p, k]
        points[first, k] = 0.5 * (points[first, k] + mean / (at - first))
    child_frame[FIRST], child_frame[POINTS] = first, at - first


@compiled("contract", "nsz")
def add_crossings(network, cells, frame, status, cut, row, child_frame, max_points, tolerance):
    """Give a child points of the wall to its sibling that show signs which its other points do not.

    They lie between points of the parent on either side of the wall; each sign shown saves a linear program. `row` is
    positive on the child's side.
    """
    points, dimension, stage = cells.points, row.shape[0], frame[STAGE]
    start, count, offset = frame[FIRST], frame[POINTS], network.offsets[stage]
    of_cut, of_neuron = cells.at_points[0], cells.at_points[1]
    write_values(points, start, count, row, of_cut)
    shown, i = 0, cut
    while shown < SHOWN and i + 1 < network.sizes[stage]:
        i += 1
        if status[i] != UNDECIDED:
            continue
        shown += 1
        read_row(network, cells, offset + i, stage, 1.0, cells.other)
        write_values(points, start, count, cells.other, of_neuron)
        for sign in (1.0, -1.0):
            best, near, far = tolerance, -1, -1
            for p in range(count):
                if of_cut[p] < 0.0:
                    continue
                if sign * of_neuron[p] > tolerance:
                    near = -2
                    break
                for q in range(count):
                    if of_cut[q] < 0.0:
                        share = of_cut[p] / (of_cut[p] - of_cut[q])
                        value = sign * (of_neuron[p] + share * (of_neuron[q] - of_neuron[p]))
                        if value > best:
                            best, near, far = value, p, q
            if near >= 0 and child_frame[POINTS] < max_points:
                share, at = of_cut[near] / (of_cut[near] - of_cut[far]), child_frame[FIRST] + child_frame[POINTS]
                for k in range(dimension):
                    points[at, k] = (1.0 - share) * points[start + near, k] + share * points[start + far, k]
                child_frame[POINTS] += 1


@compiled("contract", "reassoc", "nsz")
def write_values(points, start, count, row, values):
    """Write the values of a row at a range of points."""
    for p in range(count):
        value = 0.0
        for k in range(row.shape[0]):
            value += row[k] * points[start + p, k]
        values[p] = value


@compiled(vectorise=True)
def walk_by_simplex(network, simplex, cells, found, counts, tolerance, max_points, path, ask):
    """Walk until nothing is left, the output is full, an array has to grow, or a solver has to settle a program.

    With `ask`, a solver settles all programs. Once its answer is among the cell's points, or in the status of the
    neuron, the next call goes on from there.

    The first cuts follow `path`, as in `guided_side`: only the cell on the given side is walked, and its cut is not
    recorded.
    """
    frames, status = cells.frames, cells.status
    num_stages, dimension = network.sizes.shape[0], simplex.lower.shape[0]
    row = cells.row
    while counts[TOP] >= 0:
        top = counts[TOP]
        frame = frames[top]
        if frame[SPENT]:
            counts[TOP] -= 1
            continue
        if counts[REGION_ROWS] == counts[MOST_REGION_ROWS] or counts[CUT_ROWS] == counts[MOST_CUT_ROWS]:
            return FULL
        if top + 3 > frames.shape[0]:
            return NEED_FRAMES
        if frame[ROWS] + 1 > simplex.rows.shape[0]:
            return NEED_ROWS
        if frame[FIRST] + 3 * (max_points + 1) > cells.points.shape[0]:
            return NEED_POINTS
        stage = frame[STAGE]
        if frame[NEURON] >= 0:  # the last half-space of the path belongs to this cell
            last, code = frame[ROWS] - 1, 2 * frame[NEURON] + frame[SIDE]
            read_row(network, cells, frame[NEURON], stage, 1.0 if frame[SIDE] else -1.0, simplex.rows[last])
            cells.codes[last], cells.places[code] = code, last
            frame[NEURON] = -1
        if stage == num_stages:
            at = counts[REGION_ROWS]
            pack_pattern(network, cells.pattern, found.patterns, at)
            found.region_parents[at] = frame[PARENT]
            for k in range(dimension - 1):
                found.points[at, k] = cells.points[frame[FIRST], k] / cells.points[frame[FIRST], dimension - 1]
            counts[REGION_ROWS] += 1
            counts[TOP] -= 1
            continue
        if frame[CURSOR] < 0:
            settle_by_bounds(network, simplex, cells, stage, status[top], tolerance)
            frame[CURSOR], frame[ENTERS] = 0, 1
        n, offset = network.sizes[stage], network.offsets[stage]
        cut, i = -1, frame[CURSOR]
        # Looking beyond the first cut pays where a stage begins, or where programs take long: a neuron of one sign here
        # has it in all children. A solver's answer is known by points alone, so there must be room for another one.
        while i < n and (cut < 0 or (ask and frame[POINTS] < max_points) or (not ask and frame[ENTERS])):
            if status[top, i] == UNDECIDED:
                read_row(network, cells, offset + i, stage, 1.0, row)
                norm = cells.norms[offset + i]
                doubt = cells.doubts[offset + i] / norm if norm > 0.0 else tolerance
                answer = two_signs(simplex, cells, frame, offset + i, row, max_points, tolerance, doubt, ask)
                if answer in (MAY_RISE, MAY_FALL, DOUBT):
                    if cut < 0 or ask:
                        frame[ASKED] = i
                        return answer
                elif answer < 2:
                    status[top, i] = answer
                elif cut < 0:
                    cut = i
            i += 1
        if cut < 0:
            for i in range(n):
                cells.pattern[offset + i] = status[top, i]
            frame[STAGE] += 1
            frame[CURSOR] = -1
            continue
        i = cut
        only_side = guided_side(path, frame[DEPTH], offset + i)
        if only_side == OFF_PATH:
            return OFF_PATH
        if only_side < 0:
            found.cut_parents[counts[CUT_ROWS]] = frame[PARENT]
            found.cut_neurons[counts[CUT_ROWS]] = offset + i
            counts[CUT_ROWS] += 1
        frame[SPENT] = 1
        first = frame[FIRST] + frame[POINTS]
        for side in range(1, -1, -1):  # the negative child is walked first, so it goes on top
            if only_side == 1 - side:
                continue
            child = top + 1 if only_side >= 0 else top + 2 - side
            frames[child, STAGE] = stage
            frames[child, CURSOR] = i + 1
            frames[child, ROWS] = frame[ROWS] + 1
            frames[child, DEPTH] = frame[DEPTH] + 1
            frames[child, NEURON] = offset + i
            frames[child, SIDE] = side
            frames[child, SPENT] = 0
            frames[child, ENTERS] = 0
            frames[child, PARENT] = 2 * counts[CUTS] + side if only_side < 0 else frame[PARENT] - 1
            read_row(network, cells, offset + i, stage, 1.0 if side else -1.0, row)
            share_points(cells, frame, row, frames[child], first)
            if not ask:
                add_crossings(network, cells, frame, status[top], i, row, frames[child], max_points, tolerance)
            first += frames[child, POINTS]
            for j in range(n):
                status[child, j] = status[top, j]
            status[child, i] = side
        counts[CUTS] += only_side < 0
        counts[TOP] = top + 1 + (only_side < 0)
    return DONE


@compiled()
def read_row(network, cells, neuron, stage, sign, row):
    """Write the pre-activation of a neuron of a composed stage, times `sign`, at the scale its sign is judged by."""
    n, offset, dimension = network.sizes[stage], network.offsets[stage], row.shape[0]
    scale = sign / cells.norms[neuron] if cells.norms[neuron] > 0.0 else 0.0
    for k in range(dimension):
        row[k] = scale * cells.maps[offset * dimension + k * n + neuron - offset]
