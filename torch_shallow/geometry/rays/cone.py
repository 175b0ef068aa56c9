"""Double description of one cone: how a hyperplane cuts it.

A cone lives in homogeneous coordinates and is given by lines and extreme rays; each ray has the bit set of the
half-spaces it lies on. Coordinates of lines and rays are stored in a pool and never change; a cone is a list of
indices into the pool (lines first) and a list of bit sets. Cutting follows the double description method
(Motzkin et al. 1953; Fukuda & Prodon 1996), with one addition: half-spaces that are not facets are dropped from
the bit sets, so that nearly all rays are simple and adjacency is cheap.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.pairs import adjacent, common_bits, count_bits, pairs_by_force, pairs_by_hashing


@compiled()
def drop_redundant(sets, start, count, used):
    """Clear, from the bit sets of a cone's rays and from `used`, the half-spaces that are not facets.

    A face that is not a facet lies in a facet: all rays on it also lie on another half-space.
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
    """Turn rays along which all later neurons are zero into lines, one after another.

    The cone grows to its sum with the line. Its facets are then those through the ray, its rays (modulo the line) those
    adjacent to the ray; in this lower dimension all later cuts are the same as before. The sum of all lines and rays
    is still in the interior of the original cone. `scratch.flat` marks the flat rays; `cone` and `used` are updated.
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


OK = 0
NEED_POOL = 1  # more rays than the pool holds
NEED_ARENA = 2  # more indices than the arena holds
NEED_PAIRS = 3  # more adjacent pairs, or rays in one cone, than the scratch space holds
NEED_WORDS = 4  # more half-spaces in one cone than the bit sets hold

BRUTE_FORCE_PAIRS = 30_000  # more candidate pairs than this are matched by hashing


class Cones(Bundle):
    """Storage of cones: a pool of coordinates and an arena of index lists with bit sets."""

    pool: np.ndarray  # float64 (capacity, dimension): unit vectors
    ids: np.ndarray  # int32 (capacity,): rows of the pool
    sets: np.ndarray  # uint64 (capacity, words): half-spaces each ray lies on


class Scratch(Bundle):
    """Work space of a cut, as long as the largest cone."""

    values: np.ndarray  # float64: value of the hyperplane's function at each line and ray
    upper: np.ndarray  # int32: positions with value > 0
    lower: np.ndarray  # int32: positions with value < 0
    level: np.ndarray  # int32: positions with value 0
    upper_words: np.ndarray  # uint64: bit sets stored contiguously, for speed
    pairs: np.ndarray  # int32 (capacity, 2): adjacent rays on opposite sides
    table: np.ndarray  # int32: hash table of positions
    keys: np.ndarray  # uint64: keys of the table
    children: np.ndarray  # int64 (2, 3): start, lines and rays of the negative and the positive child
    child_used: np.ndarray  # uint64 (2, words): half-spaces of the children
    flat: np.ndarray  # uint8: whether all later neurons are zero along a ray
    codes: np.ndarray  # uint64 (64 * words,): a random code for each half-space


@compiled("contract", "reassoc", "nsz")
def evaluate(pool, ids, start, count, row, values):
    """Write the values of the linear function `row` at `count` lines and rays; return the least and the greatest."""
    dimension = row.shape[0]
    low, high = np.inf, -np.inf
    for r in range(count):
        ray = ids[start + r]
        value = 0.0
        for k in range(dimension):
            value += row[k] * pool[ray, k]
        values[r] = value
        low, high = min(low, value), max(high, value)
    return low, high


@compiled()
def new_bit(used):
    """Return word and bit of a half-space that is not in `used`; word -1 if all are taken."""
    for w in range(used.shape[0]):
        free = ~used[w]
        if free:
            return w, free & (~free + np.uint64(1))
    return -1, np.uint64(0)


@compiled()
def append_combination(pool, top, a, scale_a, b, scale_b):
    """Write the unit vector along `scale_a * pool[a] + scale_b * pool[b]` to `pool[top]`."""
    square = 0.0
    for k in range(pool.shape[1]):
        value = scale_a * pool[a, k] + scale_b * pool[b, k]
        pool[top, k] = value
        square += value * value
    factor = 1.0 / np.sqrt(square)
    for k in range(pool.shape[1]):
        pool[top, k] *= factor


@compiled()
def split(cones, scratch, cone, used, threshold, pool_top):
    """Cut a cone by the hyperplane whose values at its lines and rays are in `scratch.values`.

    Args:
        cones: Storage; both children are written after the parent's indices.
        scratch: Work space, with the values.
        cone: Start, number of lines, and number of rays of the parent.
        used: Bit set of the parent's half-spaces.
        threshold: Size up to which values count as zero.
        pool_top: First free row of the pool.

    Returns:
        A status, and the first free row of the pool after the cut. `scratch.children` and `scratch.child_used` describe
        the children. Unless the status is OK, nothing has changed.
    """
    pool, ids, sets, values, pairs = cones.pool, cones.ids, cones.sets, scratch.values, scratch.pairs
    children, child_used = scratch.children, scratch.child_used
    start, lines, rays = cone[0], cone[1], cone[2]
    words = used.shape[0]
    word, bit = new_bit(used)
    if word < 0:
        return NEED_WORDS, pool_top
    pivot, largest = np.int64(-1), threshold
    for r in range(lines):
        if abs(values[r]) > largest:
            pivot, largest = r, abs(values[r])
    if pivot >= 0:
        return split_on_line(pool, ids, sets, values, cone, used, word, bit, pivot, pool_top, children, child_used)

    upper, lower, level, first = scratch.upper, scratch.lower, scratch.level, start + lines
    num_upper = num_lower = num_zero = np.int64(0)  # a literal 0 would cause another compilation
    for r in range(rays):  # without branches: the side of a ray cannot be predicted
        value = values[lines + r]
        upper[num_upper] = lower[num_lower] = level[num_zero] = first + r
        num_upper += value > threshold
        num_lower += value < -threshold
        num_zero += abs(value) <= threshold
    pointed = pool.shape[1] - lines
    if num_upper * num_lower <= BRUTE_FORCE_PAIRS:
        found = pairs_by_force(
            sets, first, rays, upper, num_upper, lower, num_lower, scratch.upper_words, pairs, pointed
        )
    else:
        found = pairs_by_hashing(sets, scratch, first, rays, num_upper, num_lower, pointed)
    if found < 0:
        return NEED_PAIRS, pool_top
    if pool_top + found > pool.shape[0]:
        return NEED_POOL, pool_top
    end = start + lines + rays
    shared = lines + num_zero + found
    if end + 2 * shared + num_upper + num_lower > ids.shape[0]:
        return NEED_ARENA, pool_top

    for p in range(found):
        a, b = pairs[p, 0], pairs[p, 1]
        append_combination(pool, pool_top + p, ids[a], abs(values[b - start]), ids[b], abs(values[a - start]))
    for side in range(2):
        at = end if side == 1 else end + shared + num_upper  # the child that is walked first goes last
        children[side, 0], children[side, 1], children[side, 2] = at, lines, num_zero + found
        for r in range(lines):
            ids[at] = ids[start + r]
            at += 1
        kept, num_kept = (upper, num_upper) if side == 1 else (lower, num_lower)
        children[side, 2] += num_kept
        for r in range(num_kept):
            a = kept[r]
            ids[at] = ids[a]
            for w in range(words):
                sets[at, w] = sets[a, w]
            at += 1
        for r in range(num_zero):
            a = level[r]
            ids[at] = ids[a]
            for w in range(words):
                sets[at, w] = sets[a, w]
            sets[at, word] |= bit
            at += 1
        for p in range(found):
            a, b = pairs[p, 0], pairs[p, 1]
            ids[at] = pool_top + p
            for w in range(words):
                sets[at, w] = sets[a, w] & sets[b, w]
            sets[at, word] |= bit
            at += 1
        for w in range(words):
            child_used[side, w] = used[w]
        child_used[side, word] |= bit
        at = children[side, 0] + lines
        for r in range(at, at + children[side, 2]):
            if count_bits(sets, r) >= pointed:
                drop_redundant(sets, at, children[side, 2], child_used[side])
                break
    return OK, pool_top + found


@compiled()
def split_on_line(pool, ids, sets, values, cone, used, word, bit, pivot, pool_top, children, child_used):
    """Cut a cone by a hyperplane that crosses a line, along which other lines and rays move onto the hyperplane."""
    start, lines, rays = cone[0], cone[1], cone[2]
    words, end = used.shape[0], start + lines + rays
    if pool_top + lines + rays + 1 > pool.shape[0]:
        return NEED_POOL, pool_top
    if end + 2 * (lines + rays) > ids.shape[0]:
        return NEED_ARENA, pool_top
    line = ids[start + pivot]
    top = pool_top
    for side in range(2):
        at = end + (1 - side) * (lines + rays)
        children[side, 0], children[side, 1], children[side, 2] = at, lines - 1, rays + 1
        fresh = pool_top
        for r in range(lines + rays):
            if r == pivot:
                continue
            if side == 0:
                append_combination(pool, fresh, ids[start + r], 1.0, line, -values[r] / values[pivot])
            ids[at] = fresh
            for w in range(words):
                sets[at, w] = sets[start + r, w]
            sets[at, word] |= bit
            at, fresh = at + 1, fresh + 1
        top = fresh + side
        for k in range(pool.shape[1]):
            direction = pool[line, k]
            pool[top, k] = direction if (values[pivot] > 0.0) == (side == 1) else -direction
        ids[at] = top
        for w in range(words):
            sets[at, w] = used[w]
            child_used[side, w] = used[w]
        child_used[side, word] |= bit
    return OK, top + 1
