"""Bounds of the difference of two ReLUs with nearly the same input.

For a pair of neurons with z and z' = z + d, e = relu(z') - relu(z) lies between min(0, d) and max(0, d). It is at most
d where z' >= 0, and at least d where z >= 0; at most 0 where z' <= 0, and at least 0 where z <= 0. So bounds of d give
lines in d above and below e, which are close if d is small, however far z reaches (ReluDiff: Paulsen et al. 2020;
NeuroDiff: 2020). A sum a relu(z) + b relu(z') whose coefficients have different signs is bounded as

    (a + b) relu(z) + b e      or      (a + b) relu(z') - a e      or      each ReLU by itself,

whichever loses least at the worst point.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

APART, ON_FIRST, ON_SECOND = range(3)  # bounds of a pair's sum: each ReLU by itself, or based on one of the two
NEAR = 0.5  # pairs are bounded together if their distance varies by no more, relative to the first
NARROW = 0.1  # the second neuron of a pair is bounded by the first if their distance varies less, relative to the first


class NeuronPairs(Bundle):
    """Pairs of neurons z and z', the bounds of d = z' - z on a cell, and how the last bound treated them."""

    starts: np.ndarray  # int64 (stages + 1,): first pair of each stage
    first: np.ndarray  # int64 (pairs,): the neuron z of each pair
    second: np.ndarray  # int64 (pairs,): the neuron z' of each pair
    of: np.ndarray  # int64 (neurons,): the pair of each neuron, or -1
    least: np.ndarray  # float64 (pairs,): proven lower bound of d
    most: np.ndarray  # float64 (pairs,): proven upper bound of d
    mode: np.ndarray  # int64 (pairs,): how each pair is bounded
    steepness: np.ndarray  # float64 (pairs,): coefficient of d in the bound
    offset: np.ndarray  # float64 (pairs,): constant in the bound
    weight: np.ndarray  # float64 (pairs,): size of the coefficient of relu(z') - relu(z) in the bound
    line_slope: np.ndarray  # float64 (pairs,): slope of the line that replaces the difference
    line_offset: np.ndarray  # float64 (pairs,)
    value: np.ndarray  # float64 (pairs,): value of that line


def neuron_pairs(pairs: Int[np.ndarray, "pairs 2"], offsets: Int[np.ndarray, "stages1"]) -> NeuronPairs:
    """Allocate pairs whose distances are still unknown.

    Args:
        pairs: Two neurons of a stage in each row.
        offsets: First number of each stage, with the outputs as the last one, then the number of all.
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
    """Compute a line above relu(z') - relu(z), as a function of d = z' - z, and its greatest error.

    Args:
        least: Lower bound of d.
        most: Upper bound of d.
        low: Lower bound of z.
        high: Upper bound of z.
        other_low: Lower bound of z'.
        other_high: Upper bound of z'.

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
    under, over = min(least, 0.0), min(most, 0.0)  # least values at the ends
    if low >= 0.0:
        under, over = least, most
    elif high <= 0.0:
        under, over = 0.0, 0.0
    gap = max(slope * least + offset - under, slope * most + offset - over)
    return slope, offset, max(gap, offset)


@compiled("contract", "nsz")
def loss(coefficient, low, high, slope):
    """Return the greatest error of the bound of a multiple of a ReLU."""
    if low >= 0.0 or high <= 0.0:
        return 0.0
    if coefficient > 0.0:
        return coefficient * high * -low / (high - low)
    return -coefficient * max(slope * -low, (1.0 - slope) * high)


@compiled("contract", "nsz")
def couple(pairs, row, low, high, slopes, stage):
    """Take the differences out of the coefficients on the activations of a stage where this loses less.

    The rest of `row` is to be relaxed as usual; `add_differences` then adds what has been taken out.
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
            else:  # -e is the difference of the exchanged pair, whose distance is -d
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
    """Add the lines of the differences taken out by `couple` to the coefficients on values; return their constant."""
    added = 0.0
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        if pairs.mode[q] != APART:
            row[pairs.first[q]] -= pairs.steepness[q]
            row[pairs.second[q]] += pairs.steepness[q]
            added += pairs.offset[q]
    return added


@compiled("contract", "nsz")
def take_differences(pairs, values, stage):
    """Record the lines that the last bound used for differences, at the values entering the ReLUs of a stage.

    The neuron that was not the base is set to 0 until `put_differences` writes what leaves it.
    """
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        if pairs.mode[q] != APART:
            i, j = pairs.first[q], pairs.second[q]
            pairs.value[q] = pairs.line_slope[q] * (values[j] - values[i]) + pairs.line_offset[q]
            values[j if pairs.mode[q] == ON_FIRST else i] = 0.0


@compiled("contract", "nsz")
def put_differences(pairs, values, stage):
    """Write what leaves the ReLUs of coupled neurons, once that of their bases is known."""
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j = pairs.first[q], pairs.second[q]
        if pairs.mode[q] == ON_FIRST:
            values[j] = values[i] + pairs.value[q]
        elif pairs.mode[q] == ON_SECOND:
            values[i] = values[j] - pairs.value[q]


@compiled()
def tie(pairs, low, high, stage):
    """Tighten the bounds of each neuron of a pair by those of the other and of their distance."""
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j, least, most = pairs.first[q], pairs.second[q], pairs.least[q], pairs.most[q]
        room = 1e-15 * (max(abs(low[i]), abs(high[i])) + max(abs(low[j]), abs(high[j])) + max(abs(least), abs(most)))
        low[j] = max(low[j], low[i] + least - room)
        high[j] = min(high[j], high[i] + most + room)
        low[i] = max(low[i], low[j] - most - room)
        high[i] = min(high[i], high[j] - least + room)


@compiled()
def are_near(pairs, low, high, stage):
    """Return whether, for most pairs of a stage that may lie on both sides, the distance varies less than the neurons.

    If not, pairs of later stages are even further apart, and bounding them does not pay.
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
    """Return whether a neuron is the second of a pair whose distance is nearly constant."""
    q = pairs.of[neuron]
    if q < 0 or pairs.second[q] != neuron:
        return False
    first = pairs.first[q]
    return pairs.most[q] - pairs.least[q] <= NARROW * (high[first] - low[first])
