"""Bounds of the difference of two ReLUs that are entered by nearly the same value.

Of a pair of neurons with z and z' = z + d, e = relu(z') - relu(z) lies between min(0, d) and max(0, d). It is at most d
where z' >= 0, and at least d where z >= 0; at most 0 where z' <= 0, and at least 0 where z <= 0. So with bounds of d
there are lines in d above and below e, which are as near as d is small, however far z reaches (ReluDiff: Paulsen et al.
2020; NeuroDiff: 2020). A sum a relu(z) + b relu(z') whose coefficients have two signs is bounded as

    (a + b) relu(z) + b e      or      (a + b) relu(z') - a e      or      each ReLU by itself,

whichever loses least at the worst point.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

APART, ON_FIRST, ON_SECOND = range(3)  # how the sum of a pair is bounded: by itself, or based on one of the two
NEAR = 0.5  # pairs whose distance varies by no more, relative to the first, are worth being bounded together
NARROW = 0.1  # a second neuron whose distance varies by less, relative to the first, is bounded by that one's bounds


class NeuronPairs(Bundle):
    """Pairs of neurons z and z', what is known of d = z' - z on a cell, and how the last bound has treated them."""

    starts: np.ndarray  # int64 (stages + 1,): where the pairs of each stage begin
    first: np.ndarray  # int64 (pairs,): the neuron z of each
    second: np.ndarray  # int64 (pairs,): the neuron z'
    of: np.ndarray  # int64 (neurons,): the pair of each neuron, or -1
    least: np.ndarray  # float64 (pairs,): of d: proven
    most: np.ndarray  # float64 (pairs,)
    mode: np.ndarray  # int64 (pairs,): how it is bounded
    steepness: np.ndarray  # float64 (pairs,): coefficient of d in the bound
    offset: np.ndarray  # float64 (pairs,): constant in the bound
    weight: np.ndarray  # float64 (pairs,): size of the coefficient of relu(z') - relu(z) in the bound
    line_slope: np.ndarray  # float64 (pairs,): the line that stands for the difference
    line_offset: np.ndarray  # float64 (pairs,)
    value: np.ndarray  # float64 (pairs,): of that line


def neuron_pairs(pairs: Int[np.ndarray, "pairs 2"], offsets: Int[np.ndarray, "stages1"]) -> NeuronPairs:
    """Room for pairs, of whose distance nothing is known yet.

    Args:
        pairs: two neurons of a stage in each row.
        offsets: the first number of each stage, with the outputs as the last one, and how many there are.
    """
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    count = len(pairs)
    of = np.full(offsets[-1], -1, dtype=np.int64)
    of[pairs] = np.arange(count)[:, None]
    starts = np.searchsorted(pairs[:, 0], offsets).astype(np.int64)
    first, second = np.ascontiguousarray(pairs.T.astype(np.int64))
    mode, numbers = np.zeros(count, dtype=np.int64), np.zeros((6, count))
    least, most = np.full(count, -np.inf), np.full(count, np.inf)
    return NeuronPairs(starts, first, second, of, least, most, mode, *numbers)


@compiled("contract", "nsz")
def line_above(least, most, low, high, other_low, other_high):
    """A line above relu(z') - relu(z), as a function of d = z' - z, and by how much it is above at most.

    Args:
        least: of d.
        most: of d.
        low: of z.
        high: of z.
        other_low: of z'.
        other_high: of z'.

    Returns:
        Slope, offset and gap.
    """
    slope, offset = 0.0, 0.0
    if other_low >= 0.0:
        slope = 1.0
    elif other_high > 0.0 and most > 0.0:
        if least >= 0.0:
            slope = 1.0
        else:
            slope = most / (most - least)
            offset = -least * slope
    under, over = min(least, 0.0), min(most, 0.0)  # the least values at the ends
    if low >= 0.0:
        under, over = least, most
    elif high <= 0.0:
        under, over = 0.0, 0.0
    gap = max(slope * least + offset - under, slope * most + offset - over)
    return slope, offset, max(gap, offset)


@compiled("contract", "nsz")
def loss(coefficient, low, high, slope):
    """By how much the bound of a multiple of a ReLU is off at most."""
    if low >= 0.0 or high <= 0.0:
        return 0.0
    if coefficient > 0.0:
        return coefficient * high * -low / (high - low)
    return -coefficient * max(slope * -low, (1.0 - slope) * high)


@compiled("contract", "nsz")
def couple(pairs, row, low, high, slopes, stage):
    """Take the differences out of the coefficients on the activations of a stage where that loses less.

    What is left in `row` is to be relaxed as always; `add_differences` then adds what has been taken out.
    """
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j = pairs.first[q], pairs.second[q]
        a, b = row[i], row[j]
        pairs.mode[q] = APART
        if a * b >= 0.0:
            continue
        lost = loss(a, low[i], high[i], slopes[i]) + loss(b, low[j], high[j], slopes[j])
        if lost == 0.0:
            continue
        for mode in range(ON_FIRST, ON_SECOND + 1):
            base = i if mode == ON_FIRST else j
            factor = b if mode == ON_FIRST else -a
            if factor > 0.0:
                slope, offset, gap = line_above(pairs.least[q], pairs.most[q], low[i], high[i], low[j], high[j])
            else:  # -e is the difference of the two the other way round, and so is -d
                slope, offset, gap = line_above(-pairs.most[q], -pairs.least[q], low[j], high[j], low[i], high[i])
            by = loss(a + b, low[base], high[base], slopes[base]) + abs(factor) * gap
            if by < lost:
                lost = by
                pairs.mode[q] = mode
                pairs.steepness[q] = factor * slope
                pairs.offset[q] = abs(factor) * offset
                pairs.weight[q] = abs(factor)
                pairs.line_slope[q] = slope
                pairs.line_offset[q] = offset if factor > 0.0 else -offset
        if pairs.mode[q] == ON_FIRST:
            row[i] = a + b
            row[j] = 0.0
        elif pairs.mode[q] == ON_SECOND:
            row[i] = 0.0
            row[j] = a + b


@compiled("contract", "nsz")
def add_differences(pairs, row, stage):
    """Add the lines of what `couple` has taken out to the coefficients on values; returns their constant."""
    added = 0.0
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        if pairs.mode[q] != APART:
            row[pairs.first[q]] -= pairs.steepness[q]
            row[pairs.second[q]] += pairs.steepness[q]
            added += pairs.offset[q]
    return added


@compiled("contract", "nsz")
def take_differences(pairs, values, stage):
    """At values that enter the ReLUs of a stage, note the lines that the last bound took of the differences.

    The neuron that was not the base is set to 0, until `put_differences` writes what is to leave it.
    """
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        if pairs.mode[q] != APART:
            i, j = pairs.first[q], pairs.second[q]
            pairs.value[q] = pairs.line_slope[q] * (values[j] - values[i]) + pairs.line_offset[q]
            values[j if pairs.mode[q] == ON_FIRST else i] = 0.0


@compiled("contract", "nsz")
def put_differences(pairs, values, stage):
    """Write what leaves the ReLUs of coupled neurons, where that of their bases is known."""
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j = pairs.first[q], pairs.second[q]
        if pairs.mode[q] == ON_FIRST:
            values[j] = values[i] + pairs.value[q]
        elif pairs.mode[q] == ON_SECOND:
            values[i] = values[j] - pairs.value[q]


@compiled()
def tie(pairs, low, high, stage):
    """Tighten the bounds of each of a pair by those of the other, and of their distance."""
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j, least, most = pairs.first[q], pairs.second[q], pairs.least[q], pairs.most[q]
        room = 1e-15 * (max(abs(low[i]), abs(high[i])) + max(abs(low[j]), abs(high[j])) + max(abs(least), abs(most)))
        low[j] = max(low[j], low[i] + least - room)
        high[j] = min(high[j], high[i] + most + room)
        low[i] = max(low[i], low[j] - most - room)
        high[i] = min(high[i], high[j] - least + room)


@compiled()
def are_near(pairs, low, high, stage):
    """Whether most pairs of a stage that may lie on both sides vary less in their distance than by themselves.

    Where they do not, those of later stages do so even less, and it does not pay to bound them.
    """
    near, far = 0, 0
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j = pairs.first[q], pairs.second[q]
        if low[i] < 0.0 < high[i] or low[j] < 0.0 < high[j]:
            if pairs.most[q] - pairs.least[q] <= NEAR * (high[i] - low[i]):
                near += 1
            else:
                far += 1
    return near >= far


@compiled()
def is_narrow(pairs, low, high, neuron):
    """Whether a neuron is the second of a pair, and nearly as far from the first everywhere."""
    q = pairs.of[neuron]
    if q < 0 or pairs.second[q] != neuron:
        return False
    first = pairs.first[q]
    return pairs.most[q] - pairs.least[q] <= NARROW * (high[first] - low[first])
