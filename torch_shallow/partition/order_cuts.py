"""The tree of a set of activation patterns, cell by cell."""

from __future__ import annotations

import numpy as np

from torch_shallow.partition.compiled import compiled

START_STOP_STAGE_PARENT = 4  # what a cell on the stack is: its regions in `order`, its stage, its parent's code


@compiled()
def order_cuts(
    patterns, offsets, kinds, stamps, order, spare, children, cut_neurons, leaves, frames, open_bits, counts
):
    """Write the tree, and bring `order` (of all regions) into the order of its leaves; return the number of cuts.

    A cell's regions are `order[start:stop]`; it is cut unless they are all of one kind. `kinds` are numbers below the
    length of `stamps`, or none if every region is a kind of its own. The cut is that of a neuron of the first stage
    with both signs: one that leaves the fewest kinds on its two sides, of these the one that divides the regions most
    evenly. Where a leaf's regions start is written to `leaves`. `open_bits` has the bits of the stage that can still
    differ within each cell on the stack.
    """
    width, cuts, top, found, stamp = patterns.shape[1], 0, 0, 0, 0
    frames[0, 0], frames[0, 1], frames[0, 2], frames[0, 3] = 0, order.shape[0], 0, -1
    for byte in range(width):
        open_bits[0, byte] = 255
    while top >= 0:
        start, stop, stage, parent = frames[top]
        if is_leaf(kinds, order, start, stop):
            if parent >= 0:
                children[parent >> 1, parent & 1] = ~found
            leaves[found] = start
            found += 1
            top -= 1
            continue
        best = -1
        while best < 0 and stage < offsets.shape[0] - 1:
            count_bits(patterns, offsets, stage, order, start, stop, open_bits[top], counts)
            best = most_even(offsets[stage], offsets[stage + 1], stop - start, counts)
            if best >= 0 and kinds.shape[0] > 0:
                neurons = offsets[stage], offsets[stage + 1]
                best, stamp = fewest_kinds(patterns, neurons, kinds, stamps, order, start, stop, counts, stamp)
            if best < 0:
                stage += 1
                for byte in range(width):
                    open_bits[top, byte] = 255
        if best < 0:
            return -1
        for neuron in range(offsets[stage], offsets[stage + 1]):
            if counts[neuron] == 0 or counts[neuron] == stop - start or neuron == best:
                open_bits[top, neuron >> 3] &= ~np.uint8(128 >> (neuron & 7))
        middle = divide(patterns, best, order, spare, start, stop)
        if parent >= 0:
            children[parent >> 1, parent & 1] = cuts
        cut_neurons[cuts] = best
        # The inactive child on top of the active one, in place of their parent.
        for byte in range(width):
            open_bits[top + 1, byte] = open_bits[top, byte]
        frames[top, 0], frames[top, 1], frames[top, 2], frames[top, 3] = middle, stop, stage, 2 * cuts + 1
        top += 1
        frames[top, 0], frames[top, 1], frames[top, 2], frames[top, 3] = start, middle, stage, 2 * cuts
        cuts += 1
    return cuts


@compiled()
def is_leaf(kinds, order, start, stop):
    """Whether a cell's regions are all of one kind."""
    if kinds.shape[0] == 0:
        return stop - start == 1
    other = 0
    for at in range(start + 1, stop):
        other += kinds[order[at]] != kinds[order[start]]
    return other == 0


@compiled()
def fewest_kinds(patterns, neurons, kinds, stamps, order, start, stop, counts, stamp):
    """The neuron that leaves the fewest kinds on its two sides, most even if there are several; and the last stamp."""
    best, least, least_uneven = -1, 2 * (stop - start) + 1, 0
    for neuron in range(neurons[0], neurons[1]):
        if 0 < counts[neuron] < stop - start:
            left, uneven = 0, abs(2 * counts[neuron] - (stop - start))
            for side in range(2):
                stamp += 1
                for at in range(start, stop):
                    row = order[at]
                    on_side = (patterns[row, neuron >> 3] >> (7 - (neuron & 7))) & 1 == side
                    if on_side and stamps[kinds[row]] != stamp:
                        stamps[kinds[row]] = stamp
                        left += 1
            if left < least or (left == least and uneven < least_uneven):
                best, least, least_uneven = neuron, left, uneven
    return best, stamp


@compiled()
def count_bits(patterns, offsets, stage, order, start, stop, open_bits, counts):
    """Count in how many regions of a cell each neuron of a stage is active, as far as its bit is open."""
    first, last = offsets[stage], offsets[stage + 1]
    for neuron in range(first, last):
        counts[neuron] = 0
    for at in range(start, stop):
        row = order[at]
        for byte in range(first >> 3, (last + 7) >> 3):
            bits, neuron = patterns[row, byte] & open_bits[byte], byte << 3
            while bits != 0:
                if bits & 128 and first <= neuron < last:
                    counts[neuron] += 1
                bits, neuron = np.uint8(bits << 1), neuron + 1


@compiled()
def most_even(first, last, regions, counts):
    """The neuron that is active in about half of the regions, as nearly as there is one; -1 if none has both signs."""
    best, least = -1, regions
    for neuron in range(first, last):
        uneven = abs(2 * counts[neuron] - regions)
        if uneven < least:
            best, least = neuron, uneven
    return best


@compiled()
def divide(patterns, neuron, order, spare, start, stop):
    """Bring a cell's regions where the neuron is inactive to its front; return where the others start."""
    middle, active = start, 0
    for at in range(start, stop):
        row = order[at]
        if (patterns[row, neuron >> 3] >> (7 - (neuron & 7))) & 1:
            spare[active] = row
            active += 1
        else:
            order[middle] = row
            middle += 1
    for k in range(active):
        order[middle + k] = spare[k]
    return middle
