"""Lines and rays of one cone from its half-spaces: a plain, independent double description method.

The walk that finds the regions cuts thousands of cones that share most of their half-spaces; here one cone is computed
from scratch, so that regions can be inspected and certified without trusting the walk.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt64

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

DONE, FULL, GIVEN_UP = range(3)


class Cone(Bundle):
    """Lines and rays of a cone in homogeneous coordinates (v, t), t >= 0, with room for more rays.

    Bit 0 of a ray's set says that it lies on t = 0, bit i + 1 that it lies on half-space i.
    """

    counts: np.ndarray  # int64 (3,): the next half-space, the number of lines, the number of rays
    lines: np.ndarray  # float64 (dimension, dimension): unit vectors
    rays: np.ndarray  # float64 (capacity, dimension): unit vectors
    sets: np.ndarray  # uint64 (capacity, words)
    values: np.ndarray  # float64 (capacity,): work space, like the next two
    fresh_rays: np.ndarray
    fresh_sets: np.ndarray


def whole_space(dimension: int, half_spaces: int, capacity: int = 64) -> Cone:
    """Return the cone t >= 0, with bit sets for `half_spaces` half-spaces."""
    words = 1 + half_spaces // 64
    rays, sets = np.zeros((capacity, dimension)), np.zeros((capacity, words), dtype=np.uint64)
    rays[0, -1] = 1.0
    counts = np.array([0, dimension - 1, 1])
    return Cone(counts, np.eye(dimension), rays, sets, np.zeros(capacity), np.zeros_like(rays), np.zeros_like(sets))


def with_more_room(cone: Cone) -> Cone:
    """Return the same cone with room for twice as many rays."""
    counts, lines, *others = cone
    return Cone(counts, lines, *(np.concatenate([array, np.zeros_like(array)]) for array in others))


def generators(
    half_spaces: Float[np.ndarray, "rows dimension"], tolerance: float, max_rays: int
) -> tuple[Float[np.ndarray, "lines dimension"], Float[np.ndarray, "rays dimension"]] | None:
    """Return unit lines and unit extreme rays of the cone of all (v, t) with t >= 0 and `half_spaces @ (v, t) >= 0`.

    Args:
        half_spaces: Unit rows.
        tolerance: Size up to which a value at a unit ray counts as zero.
        max_rays: Greatest number of rays, in the end or on the way, before giving up.

    Returns:
        Lines and rays, both empty if the cone has no interior; None if it was given up.
    """
    cone = whole_space(half_spaces.shape[1], len(half_spaces))
    while True:
        status = intersect(cone, half_spaces, len(half_spaces), tolerance, max_rays)
        if status != FULL:
            break
        cone = with_more_room(cone)
    return None if status == GIVEN_UP else (cone.lines[: cone.counts[1]], cone.rays[: cone.counts[2]])


@compiled()
def intersect(
    cone: Cone, half_spaces: Float[np.ndarray, "rows dimension"], rows: int, tolerance: float, max_rays: int
) -> int:
    """Cut a cone by the half-spaces from the next one on up to `rows`, keeping the positive side of each.

    Returns:
        DONE (a cone without interior has no lines and rays), GIVEN_UP, or FULL: call again with more room.
    """
    counts, capacity = cone.counts, cone.rays.shape[0]
    while counts[0] < rows:
        row = half_spaces[counts[0]]
        pivot, largest = -1, tolerance
        for i in range(counts[1]):
            value = abs(dot(row, cone.lines[i]))
            if value > largest:
                pivot, largest = i, value
        if pivot >= 0 and counts[2] < capacity:
            cut_line(cone, row, pivot)
        elif pivot >= 0:
            return FULL
        else:
            fresh = combine(cone, row, tolerance)
            if fresh < 0:
                return GIVEN_UP if capacity >= 2 * max_rays else FULL
            keep_positive(cone, fresh, tolerance)
        if counts[2] > max_rays:
            return GIVEN_UP
        if counts[1] + counts[2] == 0:
            return DONE
        counts[0] += 1
    return DONE


@compiled()
def cut_line(cone: Cone, row: Float[np.ndarray, "dimension"], pivot: int) -> None:
    """Move the other lines and the rays along one line onto the hyperplane; half of this line becomes the new ray."""
    lines, rays, counts = cone.lines, cone.rays, cone.counts
    last, bit = counts[1] - 1, counts[0] + 1
    word, mask = bit >> 6, np.uint64(1) << np.uint64(bit & 63)
    for k in range(row.shape[0]):
        lines[pivot, k], lines[last, k] = lines[last, k], lines[pivot, k]
    line, rise = lines[last], dot(row, lines[last])
    for i in range(last):
        add_multiple(lines[i], line, -dot(row, lines[i]) / rise)
    for r in range(counts[2]):
        add_multiple(rays[r], line, -dot(row, rays[r]) / rise)
        cone.sets[r, word] |= mask
    new = counts[2]
    for k in range(row.shape[0]):
        rays[new, k] = line[k] if rise > 0.0 else -line[k]
    for w in range(cone.sets.shape[1]):
        cone.sets[new, w] = 0
    for earlier in range(bit):
        cone.sets[new, earlier >> 6] |= np.uint64(1) << np.uint64(earlier & 63)
    counts[1], counts[2] = last, new + 1


@compiled()
def combine(cone: Cone, row: Float[np.ndarray, "dimension"], tolerance: float) -> int:
    """Write the rays on the hyperplane between adjacent rays of its two sides; return their number, or -1 if full."""
    rays, sets, values, counts = cone.rays, cone.sets, cone.values, cone.counts
    some_negative = False
    for r in range(counts[2]):
        values[r] = dot(row, rays[r])
        some_negative |= values[r] < -tolerance
    fresh = 0
    if not some_negative:
        return fresh
    simple = rays.shape[1] - counts[1] - 1
    for a in range(counts[2]):
        if not values[a] > tolerance:
            continue
        for b in range(counts[2]):
            if not values[b] < -tolerance:
                continue
            common = 0
            for w in range(sets.shape[1]):
                common += count_bits(sets[a, w] & sets[b, w])
            if common < simple - 1 or not adjacent(cone, a, b, simple):
                continue
            if fresh == rays.shape[0]:
                return -1
            for k in range(row.shape[0]):
                cone.fresh_rays[fresh, k] = values[a] * rays[b, k]
            add_multiple(cone.fresh_rays[fresh], rays[a], -values[b])
            for w in range(sets.shape[1]):
                cone.fresh_sets[fresh, w] = sets[a, w] & sets[b, w]
            fresh += 1
    kept = 0
    for r in range(counts[2]):
        kept += not values[r] < -tolerance
    return fresh if kept + fresh <= rays.shape[0] else -1


@compiled()
def adjacent(cone: Cone, a: int, b: int, simple: int) -> bool:
    """Return whether two rays with at least `simple - 1` common half-spaces span a face of the cone.

    They do if one of them lies on only as many half-spaces as a ray must, `simple`: then each of its edges lies on all
    but one of these. Otherwise they do if no third ray lies on all half-spaces that they have in common.
    """
    sets = cone.sets
    for end in (a, b):
        number = 0
        for w in range(sets.shape[1]):
            number += count_bits(sets[end, w])
        if number == simple:
            return True
    for r in range(cone.counts[2]):
        if r in (a, b):
            continue
        inside = True
        for w in range(sets.shape[1]):
            inside &= sets[a, w] & sets[b, w] & ~sets[r, w] == 0
        if inside:
            return False
    return True


@compiled()
def keep_positive(cone: Cone, fresh: int, tolerance: float) -> None:
    """Drop the rays on the negative side and append the new ones; without a positive ray, nothing is left."""
    rays, sets, values, counts = cone.rays, cone.sets, cone.values, cone.counts
    bit = counts[0] + 1
    word, mask = bit >> 6, np.uint64(1) << np.uint64(bit & 63)
    kept, some_positive = 0, False
    for r in range(counts[2]):
        if values[r] < -tolerance:
            continue
        some_positive |= values[r] > tolerance
        copy_ray(rays, sets, r, rays, sets, kept)
        if values[r] <= tolerance:
            sets[kept, word] |= mask
        kept += 1
    for r in range(fresh):
        copy_ray(cone.fresh_rays, cone.fresh_sets, r, rays, sets, kept)
        sets[kept, word] |= mask
        kept += 1
    counts[2] = kept
    if not some_positive:
        counts[1], counts[2] = 0, 0


@compiled()
def copy_ray(
    rays: Float[np.ndarray, "rays dimension"],
    sets: UInt64[np.ndarray, "rays words"],
    source: int,
    target_rays: Float[np.ndarray, "capacity dimension"],
    target_sets: UInt64[np.ndarray, "capacity words"],
    target: int,
) -> None:
    """Copy a ray and its set."""
    for k in range(rays.shape[1]):
        target_rays[target, k] = rays[source, k]
    for w in range(sets.shape[1]):
        target_sets[target, w] = sets[source, w]


@compiled()
def add_multiple(a: Float[np.ndarray, "dimension"], b: Float[np.ndarray, "dimension"], factor: float) -> None:
    """Add a multiple of `b` to `a` and scale the sum to unit length."""
    for k in range(a.shape[0]):
        a[k] += factor * b[k]
    length = np.sqrt(dot(a, a))
    for k in range(a.shape[0]):
        a[k] /= length


@compiled()
def dot(a: Float[np.ndarray, "dimension"], b: Float[np.ndarray, "dimension"]) -> float:
    """Return the scalar product."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@compiled()
def count_bits(word: np.uint64) -> int:
    """Return the number of set bits, summed in pairs, then in fours, then in bytes."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
