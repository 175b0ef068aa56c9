"""Compiled descent of a tree that settles neurons and adds up errors: a bound with outward rounding.

The statement and its proof are in `torch_shallow/check.py`; rows and bounds are those of `bounded_rows.py`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from torch_shallow.certify.bounded_rows import NONE, Facts, Way, compose, error_of_leaf, least_value
from torch_shallow.certify.sign_multipliers import find_multipliers
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

DONE, FULL = 0, 1
NODE, DEPTH, RECORDS, MULTIPLIERS, NODES = range(5)  # entries of `Way.counts`
FEW = 2.0**-50  # no multiplier in float64 proves a value below this share of its terms
REFINEMENTS = 3  # of multipliers that prove too little


class Settled(Bundle):
    """Results of the walk."""

    errors: np.ndarray  # float64 (regions,)
    nodes: np.ndarray  # int64 (most nodes, 2): cut, ~region, or NONE if open; end of the node's records
    records: np.ndarray  # int64 (most records, 2): neuron k as k if active, else ~k; end of the record's multipliers
    places: np.ndarray  # int64 (most multipliers,): cut on the path, from the root, or ~half-space of the domain
    multipliers: np.ndarray  # float64 (most multipliers,)


@compiled()
def follow(facts: Facts, way: Way, found: Settled, keep: bool) -> int:
    """Continue through the tree; return FULL if `found` needs more room, DONE at the end. `keep` stores all results."""
    counts, neurons = way.counts, way.settled.shape[0]
    most = neurons * way.chosen.shape[1]
    first = facts.scaled.shape[0] - facts.cuts.shape[0]
    while True:
        if not keep:
            counts[RECORDS] = counts[MULTIPLIERS] = counts[NODES] = 0
        if (
            counts[NODES] >= found.nodes.shape[0]
            or counts[RECORDS] + neurons > found.records.shape[0]
            or counts[MULTIPLIERS] + most > found.multipliers.shape[0]
        ):
            return FULL
        node, depth = counts[NODE], counts[DEPTH]
        is_open = node == ~facts.patterns.shape[0]
        if not is_open:
            settle(facts, way, found, node)
        found.nodes[counts[NODES], 0] = NONE if is_open else node
        found.nodes[counts[NODES], 1] = counts[RECORDS]
        counts[NODES] += 1
        if node >= 0:
            way.cuts[depth], way.sides[depth] = node, -1
            for k in range(way.half_spaces.shape[1]):
                way.half_spaces[first + depth, k] = -facts.scaled[first + node, k]
            counts[NODE], counts[DEPTH] = facts.children[node, 0], depth + 1
            continue
        if not is_open:
            found.errors[~node] = error_of_leaf(facts, way, ~node)
        while depth > 0 and way.sides[depth - 1] == 1:
            depth -= 1
        if depth == 0:
            return DONE
        for i in range(neurons):
            if way.settled[i] >= depth:
                way.settled[i] = -1
        cut = way.cuts[depth - 1]
        way.sides[depth - 1] = 1
        for k in range(way.half_spaces.shape[1]):
            way.half_spaces[first + depth - 1, k] = facts.scaled[first + cut, k]
        counts[NODE], counts[DEPTH] = facts.children[cut, 1], depth


@compiled()
def bit(packed: UInt8[np.ndarray, "rows bytes"], row: int, neuron: int) -> int:
    """Return a bit of a packed pattern."""
    return (packed[row, neuron >> 3] >> (7 - (neuron & 7))) & 1


@compiled()
def settle(facts: Facts, way: Way, found: Settled, node: int) -> None:
    """Settle the neurons that have one sign in all regions below, once everything that their stage reads is settled."""
    stages = facts.offsets.shape[0] - 1
    for stage in range(stages):
        ready = True
        for other in range(stage):
            if facts.read_stages[stage, other]:
                for i in range(facts.offsets[other], facts.offsets[other + 1]):
                    ready &= way.settled[i] >= 0
        if not ready:
            continue
        for i in range(facts.offsets[stage], facts.offsets[stage + 1]):
            if way.settled[i] >= 0:
                continue
            if node < 0:
                settle_neuron(facts, way, found, i, bit(facts.patterns, ~node, i))
            elif bit(facts.always, node, i) != bit(facts.never, node, i):
                settle_neuron(facts, way, found, i, bit(facts.always, node, i))


@compiled()
def settle_neuron(facts: Facts, way: Way, found: Settled, neuron: int, active: int) -> None:
    """Find multipliers for a neuron's sign; record them and the neuron's error."""
    compose(facts, way, neuron)
    sign = 1.0 if active == 1 else -1.0
    error, growth = way.off[neuron, 0], way.off[neuron, 1]
    goal = error if active == 0 else -error
    way.chosen[0, 0] = way.chosen[1, 0] = NONE
    least, slope = least_value(facts, way, neuron, sign)
    for attempt in range(2 + REFINEMENTS):
        if is_enough(way, neuron, least, slope, goal):
            break
        if attempt == 0:
            if not own_cut(facts, way, neuron, sign):
                continue
        elif attempt == 1:
            look_for(facts, way, neuron, sign, goal)
        elif not refine(facts, way):
            break
        other, other_slope = least_value(facts, way, neuron, sign)
        if not max(-least, 0.0) + slope <= max(-other, 0.0) + other_slope or (other_slope <= slope and other > least):
            least, slope = other, other_slope
            for k in range(way.chosen.shape[1]):
                way.chosen[1, k], way.values[1, k] = way.chosen[0, k], way.values[0, k]
        if attempt == 0 and is_enough(way, neuron, least, slope, 0.0):
            break  # the neuron is zero on a side of the cell
    if active == 1:
        error, growth = max(error, -least, 0.0), max(growth, slope)
    else:
        error, growth = max(error - least, 0.0), growth + slope
    finite = error < np.inf and growth < np.inf
    way.off[neuron, 0] = error * (1.0 + facts.rounding) if finite else np.inf
    way.off[neuron, 1] = growth * (1.0 + facts.rounding) if finite else np.inf
    way.active[neuron] = active
    way.settled[neuron] = way.counts[DEPTH]
    note(way, found, neuron if active == 1 else ~neuron)


@compiled()
def note(way: Way, found: Settled, code: int) -> None:
    """Record a settled neuron and its multipliers."""
    at, k = way.counts[MULTIPLIERS], 0
    while k < way.chosen.shape[1] and way.chosen[1, k] != NONE:
        found.places[at], found.multipliers[at] = way.chosen[1, k], way.values[1, k]
        at, k = at + 1, k + 1
    record = way.counts[RECORDS]
    found.records[record, 0], found.records[record, 1] = code, at
    way.counts[RECORDS], way.counts[MULTIPLIERS] = record + 1, at


@compiled()
def is_enough(way: Way, neuron: int, least: float, slope: float, goal: float) -> bool:
    """Return whether more multipliers would prove no more, up to rounding."""
    room = 2.0 * way.errors[neuron, 0] + FEW * way.sizes[neuron, 0]
    small = 2.0 * way.errors[neuron, 1] + FEW * way.sizes[neuron, 1]
    return least >= goal - (room if goal <= 0.0 else 0.0) and slope <= small


@compiled()
def own_cut(facts: Facts, way: Way, neuron: int, sign: float) -> bool:
    """Choose a cut on the path that the neuron made itself, if there is one."""
    inputs = way.rows.shape[1] - 1
    for depth in range(way.counts[DEPTH] - 1, -1, -1):
        cut = way.cuts[depth]
        if facts.cut_neurons[cut] == neuron and way.sides[depth] == sign:
            most = 0
            for k in range(inputs + 1):
                if abs(facts.cuts[cut, k]) > abs(facts.cuts[cut, most]):
                    most = k
            factor = way.rows[neuron, most] / facts.cuts[cut, most]
            way.chosen[0, 0], way.values[0, 0] = depth, 1.0 if abs(factor - 1.0) < 1e-9 else factor
            if way.chosen.shape[1] > 1:
                way.chosen[0, 1] = NONE
            return 0.0 < factor < np.inf
    return False


@compiled()
def look_for(facts: Facts, way: Way, neuron: int, sign: float, goal: float) -> None:
    """Choose multipliers by linear programming."""
    target, basis, norm = way.target, way.basis, 0.0
    for k in range(target.shape[0]):
        target[k] = 0.0
        for c in range(facts.stretch.shape[1]):
            target[k] += sign * facts.stretch[k, c] * way.rows[neuron, c]
        norm = max(norm, abs(target[k]))
    way.chosen[0, 0] = NONE
    if not 0.0 < norm < np.inf:
        return
    for k in range(target.shape[0]):
        target[k] /= norm
    own = facts.scaled.shape[0] - facts.cuts.shape[0]
    faces = own - facts.domain.shape[0]
    goal = (goal + 4.0 * way.errors[neuron, 0] + FEW * way.sizes[neuron, 0]) / norm + 1e-9
    last = find_multipliers(basis, way.half_spaces, own + way.counts[DEPTH], target, goal)
    written = 0
    for i in range(basis.tight.shape[0] + 1):
        if i < basis.tight.shape[0]:
            place, multiplier = basis.tight[i], basis.multipliers[i]
        else:
            place, multiplier = last, basis.shares[0]
        if i < basis.tight.shape[0]:
            basis.refined[0, i] = basis.refined[1, i] = 0.0
        if place >= faces and multiplier > 0.0:
            row = place if place < own else own + way.cuts[place - own]
            way.chosen[0, written] = place - own if place >= own else ~(place - faces)
            way.values[0, written] = multiplier * norm / facts.lengths[row]
            if i < basis.tight.shape[0]:
                basis.refined[0, i] = way.values[0, written]
            written += 1
    if written < way.chosen.shape[1]:
        way.chosen[0, written] = NONE


@compiled()
def refine(facts: Facts, way: Way) -> bool:
    """Correct the tried multipliers by their residual, as pairs; return False if there are none.

    Where half-spaces are nearly parallel, multipliers are so large that their last digits matter.
    """
    target, basis, n = way.target, way.basis, way.basis.vertex.shape[0]
    own = facts.scaled.shape[0] - facts.cuts.shape[0]
    faces = own - facts.domain.shape[0]
    for k in range(n):
        target[k] = 0.0
        for c in range(facts.stretch.shape[1]):
            target[k] += facts.stretch[k, c] * way.residual[0, c]
    written = 0
    for i in range(n):
        place = basis.tight[i]
        if place < faces:
            continue
        row = place if place < own else own + way.cuts[place - own]
        code = place - own if place >= own else ~(place - faces)
        step, high = 0.0, basis.refined[0, i]
        for k in range(n):
            step += target[k] * basis.inverse[k, i]
        step = step / facts.lengths[row] + basis.refined[1, i]
        total = high + step
        low = (high - total) + step
        if not 0.0 < total < np.inf:
            total, low = 0.0, 0.0
        elif low < 0.0:
            before = np.nextafter(total, 0.0)
            total, low = before, max(low + (total - before), 0.0)
        basis.refined[0, i], basis.refined[1, i] = total, low
        for part in range(2):
            if basis.refined[part, i] > 0.0:
                way.chosen[0, written], way.values[0, written] = code, basis.refined[part, i]
                written += 1
    if written < way.chosen.shape[1]:
        way.chosen[0, written] = NONE
    return written > 0
