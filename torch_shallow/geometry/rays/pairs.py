"""Adjacent rays on opposite sides of a hyperplane, read off their bit sets.

Two extreme rays are adjacent iff no third ray lies on all half-spaces common to both (Fukuda & Prodon 1996). A ray is
*simple* if it lies on no more facets than its dimension requires; an edge at a simple ray has all of its facets but
one, so common facets need only be counted.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from torch_shallow.compiled.decorator import compiled


@intrinsic
def popcount(typing_context, word):
    """Return the number of set bits of a uint64."""

    def emit(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), emit


@intrinsic
def lowest_bit(typing_context, word):
    """Return the index of the lowest set bit of a non-zero uint64."""

    def emit(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), emit


@compiled()
def count_bits(sets, row):
    total = 0
    for w in range(sets.shape[1]):
        total += popcount(sets[row, w])
    return total


@compiled()
def common_bits(sets, a, b):
    total = 0
    for w in range(sets.shape[1]):
        total += popcount(sets[a, w] & sets[b, w])
    return total


@compiled()
def adjacent(sets, start, count, a, b):
    """Return whether two rays, neither of them simple, span a face: no third ray lies on all their common facets."""
    words = sets.shape[1]
    for r in range(start, start + count):
        if r in (a, b):
            continue
        inside = True
        for w in range(words):
            common = sets[a, w] & sets[b, w]
            if sets[r, w] & common != common:
                inside = False
                break
        if inside:
            return False
    return True


@compiled()
def pairs_by_force(sets, start, count, upper, num_upper, lower, num_lower, upper_words, pairs, pointed):
    """Find adjacent pairs across the hyperplane by testing all pairs; return -1 if they do not fit."""
    needed, found = pointed - 2, 0
    single = sets.shape[1] == 1
    if single:
        for u in range(num_upper):
            upper_words[u] = sets[upper[u], 0]
    for v in range(num_lower):
        b = np.int64(lower[v])
        b_simple = count_bits(sets, b) == pointed - 1
        for first in range(0, num_upper, 64):
            count_here = min(64, num_upper - first)
            if single:
                near = near_words(upper_words, first, count_here, sets[b, 0], needed)
            else:
                near = near_sets(sets, upper, first, count_here, b, needed)
            while near:
                a = np.int64(upper[first + lowest_bit(near)])
                near &= near - np.uint64(1)
                if not (b_simple or count_bits(sets, a) == pointed - 1 or adjacent(sets, start, count, a, b)):
                    continue
                if found == pairs.shape[0]:
                    return -1
                pairs[found, 0], pairs[found, 1] = a, b
                found += 1
    return found


@compiled()
def near_words(words, first, count, word, needed):
    """Return the bit set of those of up to 64 words with `needed` bits in common with `word`; vectorised."""
    near = np.uint64(0)
    for u in range(count):
        near |= np.uint64(popcount(words[first + u] & word) >= needed) << np.uint64(u)
    return near


@compiled()
def near_sets(sets, rows, first, count, row, needed):
    """Return the same for bit sets of several words."""
    near = np.uint64(0)
    for u in range(count):
        near |= np.uint64(common_bits(sets, np.int64(rows[first + u]), row) >= needed) << np.uint64(u)
    return near


@compiled()
def set_code(sets, codes, row):
    """Return the XOR of the random codes of the half-spaces a ray lies on."""
    code = np.uint64(0)
    for w in range(sets.shape[1]):
        word = sets[row, w]
        while word:
            code ^= codes[64 * w + lowest_bit(word)]
            word &= word - np.uint64(1)
    return code


@compiled()
def pairs_by_hashing(sets, scratch, start, count, num_upper, num_lower, pointed):
    """Find the same pairs in time proportional to the number of rays.

    An edge between simple rays has the facets of either one but one, so both put the same key in the table. A ray that
    is not simple is compared with all rays of the other side.
    """
    pairs, table, keys, codes = scratch.pairs, scratch.table, scratch.keys, scratch.codes
    words, needed, found = sets.shape[1], pointed - 2, 0
    near, far, num_near, num_far = scratch.upper, scratch.lower, num_upper, num_lower
    if num_lower < num_upper:
        near, far, num_near, num_far = scratch.lower, scratch.upper, num_lower, num_upper
    size = 64
    while size < 2 * num_near * (pointed - 1):
        size *= 2
    if size > table.shape[0]:
        return -1
    mask = np.uint64(size - 1)
    table[:size] = -1
    for u in range(num_near):
        a = np.int64(near[u])
        if count_bits(sets, a) != pointed - 1:
            continue
        code = set_code(sets, codes, a)
        for w in range(words):
            word = sets[a, w]
            while word:
                key = code ^ codes[64 * w + lowest_bit(word)]
                word &= word - np.uint64(1)
                slot = key & mask
                while table[slot] >= 0:
                    slot = (slot + np.uint64(1)) & mask
                table[slot], keys[slot] = a, key
    for v in range(num_far):
        b = np.int64(far[v])
        if count_bits(sets, b) != pointed - 1:
            continue
        code = set_code(sets, codes, b)
        for w in range(words):
            word = sets[b, w]
            while word:
                key = code ^ codes[64 * w + lowest_bit(word)]
                word &= word - np.uint64(1)
                slot = key & mask
                while table[slot] >= 0:
                    if keys[slot] == key and common_bits(sets, np.int64(table[slot]), b) >= needed:
                        if found == pairs.shape[0]:
                            return -1
                        pairs[found, 0], pairs[found, 1] = table[slot], b
                        found += 1
                    slot = (slot + np.uint64(1)) & mask
    for side in range(2):
        some, others, num_some, num_others = near, far, num_near, num_far
        if side == 1:
            some, others, num_some, num_others = far, near, num_far, num_near
        for u in range(num_some):
            a = np.int64(some[u])
            if count_bits(sets, a) == pointed - 1:
                continue
            for v in range(num_others):
                b = np.int64(others[v])
                if common_bits(sets, a, b) < needed:
                    continue
                # Pairs of two such rays are found on side 0.
                if count_bits(sets, b) != pointed - 1 and (side == 1 or not adjacent(sets, start, count, a, b)):
                    continue
                if found == pairs.shape[0]:
                    return -1
                pairs[found, 0], pairs[found, 1] = a, b
                found += 1
    return found
