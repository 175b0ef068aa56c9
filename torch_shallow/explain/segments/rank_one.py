"""Simulation of a deep network along a segment by events, in each of which one neuron changes sign.

Between two neighbouring pieces of a segment, one neuron changes sign. The slopes of the pre-activations behind it
change, which is propagated forwards from neuron to neuron. The gradient of the output changes by a matrix of rank one,
the derivative of the output by the neuron's activation times the gradient of its pre-activation, which is propagated
backwards. Only what depends on the neuron, or what it depends on, is updated.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

ROUNDING = 1e-12  # remainder of a value or slope, relative to its largest size, that counts as 0
BUCKET = 64  # units in a bucket, whose earliest event is kept


class Wiring(Bundle):
    """Links of a network in both directions, and its blocks of units."""

    down_start: np.ndarray  # int64 (units + 1,): first of the links that leave each unit
    down_unit: np.ndarray  # int32 (links,): the unit that each link enters
    down_weight: np.ndarray  # float64 (links,)
    up_start: np.ndarray  # int64 (units + 1,): first of the links that enter each unit
    up_unit: np.ndarray  # int32 (links,): the unit that each link leaves
    up_weight: np.ndarray  # float64 (links,)
    block: np.ndarray  # int64 (units,): the block of each unit
    first: np.ndarray  # int64 (blocks + 1,): the first unit of each block
    gated: np.ndarray  # bool (units,): whether the unit is a neuron; otherwise it passes its input on


class Course(Bundle):
    """State of a network on its way along a segment, where t goes from 0 to 1."""

    value: np.ndarray  # float64 (units,): input of each unit at its last update
    slope: np.ndarray  # float64 (units,): derivative of that input by t
    since: np.ndarray  # float64 (units,): t of its last update
    largest: np.ndarray  # float64 (units,): the largest size of the value so far
    steepest: np.ndarray  # float64 (units,): the largest size of the slope so far
    active: np.ndarray  # bool (units,)
    sensitivity: np.ndarray  # float64 (units,): derivative of the output by the activation of each unit
    total: np.ndarray  # float64 (units,): derivative of the output by its input, averaged over the segment
    event: np.ndarray  # float64 (units,): t of its next change of sign, if nothing else happens
    earliest: np.ndarray  # float64 (buckets,): lower bound on the events of the units in a bucket
    change: np.ndarray  # float64 (units,): work space, 0 between events
    marked: np.ndarray  # bool (units,): work space, False between events
    touched: np.ndarray  # int64 (units,): work space
    count: np.ndarray  # int64 (blocks,): work space, 0 between events


def room(units: int, blocks: int) -> Course:
    """Allocate the state of a network of this size."""
    return Course(
        value=np.zeros(units),
        slope=np.zeros(units),
        since=np.zeros(units),
        largest=np.zeros(units),
        steepest=np.zeros(units),
        active=np.zeros(units, dtype=np.bool_),
        sensitivity=np.zeros(units),
        total=np.zeros(units),
        event=np.full(units, np.inf),
        earliest=np.full(max(1, -(-units // BUCKET)), np.inf),
        change=np.zeros(units),
        marked=np.zeros(units, dtype=np.bool_),
        touched=np.zeros(units, dtype=np.int64),
        count=np.zeros(blocks, dtype=np.int64),
    )


@compiled("contract", "nsz")
def follow(wiring: Wiring, course: Course) -> int:
    """Follow a segment from 0 to 1 through all events, and return their number."""
    units, buckets, events = course.value.shape[0], course.earliest.shape[0], 0
    course.earliest[:] = np.inf
    for unit in range(units):
        course.since[unit] = 0.0
        course.largest[unit], course.steepest[unit] = abs(course.value[unit]), abs(course.slope[unit])
        if wiring.gated[unit]:
            course.total[unit] = course.sensitivity[unit] if course.active[unit] else 0.0
            _predict(course, unit)
    while True:
        bucket = 0
        for other in range(1, buckets):
            if course.earliest[other] < course.earliest[bucket]:
                bucket = other
        t = course.earliest[bucket]
        if not t < 1.0:
            break
        chosen, first = bucket * BUCKET, bucket * BUCKET
        for unit in range(first + 1, min(first + BUCKET, units)):
            if course.event[unit] < course.event[chosen]:
                chosen = unit
        if course.event[chosen] > t:  # the earliest event has changed
            course.earliest[bucket] = course.event[chosen]
            continue
        _change_sign(wiring, course, chosen, t)
        events += 1
    for unit in range(units):
        course.value[unit] += (1.0 - course.since[unit]) * course.slope[unit]
    return events


@compiled("contract", "nsz")
def _change_sign(wiring: Wiring, course: Course, unit: int, t: float) -> None:
    """Change the sign of a neuron, with all consequences."""
    active = not course.active[unit]
    sign = 1.0 if active else -1.0
    course.active[unit] = active
    course.value[unit], course.since[unit] = 0.0, t
    _predict(course, unit)
    _pass_forwards(wiring, course, unit, sign * course.slope[unit], t)
    change = sign * course.sensitivity[unit]
    course.total[unit] += (1.0 - t) * change
    _pass_backwards(wiring, course, unit, change, t)


@compiled("contract", "nsz")
def _predict(course: Course, unit: int) -> None:
    """Predict when a neuron changes sign next, as far as is known now."""
    value, slope = course.value[unit], course.slope[unit]
    event = np.inf
    if course.active[unit]:
        if slope < 0.0:
            event = course.since[unit] + max(value, 0.0) / -slope
        elif slope == 0.0 and value <= 0.0:
            event = course.since[unit]
    elif slope > 0.0:
        event = course.since[unit] + max(-value, 0.0) / slope
    course.event[unit] = event
    bucket = unit // BUCKET
    course.earliest[bucket] = min(course.earliest[bucket], event)


@compiled("contract", "nsz")
def _pass_forwards(wiring: Wiring, course: Course, unit: int, change: float, t: float) -> None:
    """Change the slope of a unit's activation, and of everything that depends on it."""
    if change == 0.0:
        return
    _spread(wiring, course, wiring.down_start, wiring.down_unit, wiring.down_weight, unit, change)
    for block in range(wiring.block[unit] + 1, course.count.shape[0]):
        first = wiring.first[block]
        for place in range(first, first + course.count[block]):
            other = course.touched[place]
            more = course.change[other]
            course.change[other], course.marked[other] = 0.0, False
            if more == 0.0:
                continue
            if wiring.gated[other]:
                _bend(course, other, more, t)
            if course.active[other]:
                _spread(wiring, course, wiring.down_start, wiring.down_unit, wiring.down_weight, other, more)
        course.count[block] = 0


@compiled("contract", "nsz")
def _bend(course: Course, unit: int, more: float, t: float) -> None:
    """Add to the slope of a neuron's pre-activation; set what remains by rounding to 0."""
    value = course.value[unit] + (t - course.since[unit]) * course.slope[unit]
    slope = course.slope[unit] + more
    course.largest[unit] = max(course.largest[unit], abs(value))
    course.steepest[unit] = max(course.steepest[unit], abs(slope), abs(more))
    if abs(slope) <= ROUNDING * course.steepest[unit]:
        slope = 0.0
        if abs(value) <= ROUNDING * course.largest[unit]:
            value = 0.0
    course.value[unit], course.slope[unit], course.since[unit] = value, slope, t
    _predict(course, unit)


@compiled("contract", "nsz")
def _pass_backwards(wiring: Wiring, course: Course, unit: int, change: float, t: float) -> None:
    """Change the derivative of the output by a unit's input, and by everything that the unit depends on."""
    if change == 0.0:
        return
    _spread(wiring, course, wiring.up_start, wiring.up_unit, wiring.up_weight, unit, change)
    for block in range(wiring.block[unit] - 1, -1, -1):
        first = wiring.first[block]
        for place in range(first, first + course.count[block]):
            other = course.touched[place]
            more = course.change[other]
            course.change[other], course.marked[other] = 0.0, False
            course.sensitivity[other] += more
            if more != 0.0 and course.active[other]:
                course.total[other] += (1.0 - t) * more
                _spread(wiring, course, wiring.up_start, wiring.up_unit, wiring.up_weight, other, more)
        course.count[block] = 0


@compiled("contract", "nsz")
def _spread(
    wiring: Wiring,
    course: Course,
    start: Int[np.ndarray, "units_and_1"],
    units: Int[np.ndarray, "links"],
    weights: Float[np.ndarray, "links"],
    unit: int,
    change: float,
) -> None:
    """Pass a change of a unit on to its neighbours."""
    for link in range(start[unit], start[unit + 1]):
        other = units[link]
        course.change[other] += weights[link] * change
        if not course.marked[other]:
            course.marked[other] = True
            block = wiring.block[other]
            course.touched[wiring.first[block] + course.count[block]] = other
            course.count[block] += 1
