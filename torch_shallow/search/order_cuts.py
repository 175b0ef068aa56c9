"""Compiled construction, cell by cell, of the tree of a set of activation patterns."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled

START_STOP_STAGE_PARENT = 4  # a cell on the stack: its regions in `order`, its stage, its parent's code

# Multiplying a byte by the first puts each of its bits at the top of its own byte, the highest bit in the lowest byte.
SPREAD, TOPS = np.uint64(0x8040201008040201), np.uint64(0x8080808080808080)
MOST = 255  # most bits that can be added up in a byte


@compiled(vectorise=True)
def order_cuts(
    patterns,
    offsets,
    kinds,
    stamps,
    order,
    spare,
    children,
    cut_neurons,
    leaves,
    frames,
    open_bits,
    counts,
    cuts,
    steps,
):
    """Write the tree below a cell, sorting its part of `order` by leaves; return the number after the last cut.

    The cell is the first of `frames` and `open_bits`. Its regions are `order[start:stop]`; it is cut unless they are
    all of one kind. `kinds` are numbers below the length of `stamps`, or empty if every region is its own kind. The cut
    is made by a neuron of the first stage with both signs: one that leaves the fewest kinds on its two sides and, of
    these, the one that divides the regions most evenly. `open_bits` has, for each cell on the stack, the bits of the
    stage that can still differ in it. If there are kinds, the start of each leaf's regions is written to `leaves`; if
    not, leaf k has the one region `order[k]`, and a cell of n leaves has n - 1 cuts, so cells can be walked in any
    order.

    `cuts` is the number of the cell's own cut. After `steps` cells, what is left is on the stack; a negative number is
    no limit. Returns -1 if patterns occur twice.
    """
    width, top, stamp, found = patterns.shape[1], 0, 0, frames[0, 0]
    while top >= 0 and steps != 0:
        steps -= 1
        start, stop, stage, parent = frames[top, 0], frames[top, 1], frames[top, 2], frames[top, 3]
        if is_leaf(kinds, order, start, stop):
            if parent >= 0:
                children[parent >> 1, parent & 1] = ~found
            if kinds.shape[0] > 0:
                leaves[found] = start
            found += 1
            top -= 1
            continue
        best = -1
        while best < 0 and stage < offsets.shape[0] - 1:
            first, last = offsets[stage], offsets[stage + 1]
            best = most_even(patterns, first, last, order, start, stop, open_bits[top], counts)
            if best >= 0 and kinds.shape[0] > 0:
                best, stamp = fewest_kinds(patterns, first, last, kinds, stamps, order, start, stop, counts, stamp)
            if best < 0:
                stage += 1
                for byte in range(width):
                    open_bits[top, byte] = 255
        if best < 0:
            return -1
        open_bits[top, best >> 3] &= ~np.uint8(128 >> (best & 7))
        middle = divide(patterns, best, order, spare, start, stop)
        if parent >= 0:
            children[parent >> 1, parent & 1] = cuts
        cut_neurons[cuts] = best
        # The inactive child goes on top of the active one, in place of their parent.
        for byte in range(width):
            open_bits[top + 1, byte] = open_bits[top, byte]
        frames[top, 0], frames[top, 1], frames[top, 2], frames[top, 3] = middle, stop, stage, 2 * cuts + 1
        top += 1
        frames[top, 0], frames[top, 1], frames[top, 2], frames[top, 3] = start, middle, stage, 2 * cuts
        cuts += 1
    return cuts


@compiled()
def is_leaf(kinds, order, start, stop):
    """Return whether all regions of a cell are of one kind."""
    if kinds.shape[0] == 0:
        return stop - start == 1
    other = 0
    for at in range(start + 1, stop):
        other += kinds[order[at]] != kinds[order[start]]
    return other == 0


@compiled()
def fewest_kinds(patterns, first, last, kinds, stamps, order, start, stop, counts, stamp):
    """Return the neuron that leaves the fewest kinds on its two sides, the most even of several; and the last stamp."""
    best, least, least_uneven = -1, 2 * (stop - start) + 1, 0
    for neuron in range(first, last):
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
def most_even(patterns, first, last, order, start, stop, open_bits, counts):
    """Count in how many regions of a cell each neuron of a stage is active, and close bits that no longer differ.

    Returns:
        The neuron that is active in as close to half of the regions as possible; -1 if none takes both signs.
    """
    regions = stop - start
    best, least = -1, regions
    for byte in range(first >> 3, (last + 7) >> 3):
        for neuron in range(8 * byte, 8 * byte + 8):
            counts[neuron] = 0
        if open_bits[byte] == 0:
            continue
        for block in range(start, stop, MOST):
            total = np.uint64(0)
            for at in range(block, min(block + MOST, stop)):
                total += ((patterns[order[at], byte] * SPREAD) & TOPS) >> np.uint64(7)
            for bit in range(8):
                counts[8 * byte + bit] += np.int64((total >> np.uint64(8 * bit)) & np.uint64(255))
        for neuron in range(8 * byte, 8 * byte + 8):
            uneven = abs(2 * counts[neuron] - regions)
            if uneven == regions:
                open_bits[byte] &= ~np.uint8(128 >> (neuron & 7))
            elif uneven < least and first <= neuron < last:
                best, least = neuron, uneven
    return best


@compiled()
def divide(patterns, neuron, order, spare, start, stop):
    """Move the regions of a cell where the neuron is inactive to its front; return where the others start.

    Both places are written and one of the positions advances, since no processor could predict a branch.
    """
    middle, active = start, start
    for at in range(start, stop):
        row = order[at]
        bit = (patterns[row, neuron >> 3] >> (7 - (neuron & 7))) & 1
        order[middle], spare[active] = row, row
        middle += 1 - bit
        active += bit
    for k in range(active - start):
        order[middle + k] = spare[start + k]
    return middle
