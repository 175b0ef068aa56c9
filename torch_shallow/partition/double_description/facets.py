"""Making a cone simpler: half-spaces that are no facets, and rays along which nothing changes any more."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.functions import compiled
from torch_shallow.partition.double_description.adjacency import adjacent, common_bits, count_bits


@compiled()
def drop_redundant(sets, start, count, used):
    """Clear, from the bit sets of a cone's rays and from `used`, the half-spaces that are not facets.

    A face that is not a facet lies in a facet: all rays on it lie on another half-space too.
    """
    words = used.shape[0]
    for w in range(words):
        remaining = used[w]
        while remaining:
            bit = remaining & (~remaining + np.uint64(1))
            remaining ^= bit
            met, redundant = False, False
            for v in range(words):
                shared = used[v]
                if v == w:
                    shared &= ~bit
                for r in range(start, start + count):
                    if sets[r, w] & bit:
                        met = True
                        shared &= sets[r, v]
                        if not shared:
                            break
                if shared:
                    redundant = True
                    break
            if redundant or not met:
                used[w] &= ~bit
                for r in range(start, start + count):
                    sets[r, w] &= ~bit


@compiled()
def absorb_flat_rays(cones, scratch, cone, used):
    """Turn rays along which everything still to come is zero into lines, one after another.

    The cone grows to its sum with the line. Its facets are then those through the ray, its rays (modulo the line) those
    adjacent to the ray; in this lower dimension all cuts to come are the same as before. The sum of all lines and rays
    is still in the interior of the original cone. `scratch.flat` tells the flat rays; `cone` and `used` are updated.
    """
    ids, sets, flat, keep = cones.ids, cones.sets, scratch.flat, scratch.level
    words = used.shape[0]
    start = cone[0]
    r = 0
    while r < cone[2]:
        if not flat[r]:
            r += 1
            continue
        first, rays = start + cone[1], cone[2]
        pointed = cones.pool.shape[1] - cone[1]
        ids[first], ids[first + r] = ids[first + r], ids[first]
        flat[0], flat[r] = flat[r], flat[0]
        for w in range(words):
            sets[first, w], sets[first + r, w] = sets[first + r, w], sets[first, w]
            used[w] &= sets[first, w]
        simple = count_bits(sets, first) == pointed - 1
        num_kept = 0
        for other in range(first + 1, first + rays):
            if common_bits(sets, first, other) >= pointed - 2 and (
                simple or count_bits(sets, other) == pointed - 1 or adjacent(sets, first, rays, first, other)
            ):
                keep[num_kept] = other
                num_kept += 1
        for k in range(num_kept):
            other, at = keep[k], first + 1 + k
            ids[at], flat[k] = ids[other], flat[other - first]
            for w in range(words):
                sets[at, w] = sets[other, w] & used[w]
        cone[1], cone[2] = cone[1] + 1, num_kept
        r = 0
