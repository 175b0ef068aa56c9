"""Compiled integration over cells: volume, centroid and covariance, by dividing each cell into simplices.

A face is the union of the pyramids from its first vertex over those of its facets that do not contain it. Faces are
represented by sets of vertices, intersected with the vertex sets of half-spaces (Cohen & Hickey 1979; Bueler, Enge &
Fukuda 2000).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt64

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.generators import count_bits

ALL_DONE, TOO_MANY_SIMPLICES = -1, -2


class Room(Bundle):
    """Work space for cells, for a greatest number of vertices, half-spaces and coordinates."""

    points: np.ndarray  # float64 (vertices, coordinates): the vertices, relative to the first
    walls: np.ndarray  # uint64 (half_spaces, words): the vertices on each half-space
    faces: np.ndarray  # uint64 (coordinates + 1, words): a chain of faces, each a facet of the one before
    seen: np.ndarray  # uint64 (coordinates + 1, half_spaces, words): facets of each face that were met
    counts: np.ndarray  # int64 (coordinates + 1, 2): number of facets met, and the next half-space
    corners: np.ndarray  # int64 (coordinates + 1,): the first vertex of each face, then the vertices of the last one
    matrix: np.ndarray  # float64 (coordinates, coordinates)
    sums: np.ndarray  # float64 (coordinates,)


@compiled()
def integrate(
    ends: Int[np.ndarray, "cells_and_one"],
    num_lines: Int[np.ndarray, "cells"],
    regions: Int[np.ndarray, "cells"],
    generators: Float[np.ndarray, "generators homogeneous"],
    sets: UInt64[np.ndarray, "generators words"],
    room: Room,
    tolerance: float,
    left: Int[np.ndarray, "1"],
    volume: Float[np.ndarray, "regions"],
    centroid: Float[np.ndarray, "regions coordinates"],
    covariance: Float[np.ndarray, "regions coordinates coordinates"],
) -> int:
    """Fill in the integrals over some cells; a cell with lines or rays to infinity has volume inf.

    The first five arguments are those of `Cells`. A ray with t up to `tolerance` is a direction. At most `left` more
    simplices are made. The covariance is that of the uniform distribution on a region.

    Returns:
        ALL_DONE or TOO_MANY_SIMPLICES.
    """
    k = generators.shape[1] - 1
    points = room.points
    for cell in range(regions.shape[0]):
        region, first, count = regions[cell], ends[cell], ends[cell + 1] - ends[cell]
        bounded = num_lines[cell] == 0
        for r in range(count):
            bounded &= generators[first + r, k] > tolerance
        if not bounded:
            volume[region] = np.inf
            continue
        words = 1 + (count - 1) // 64
        for h in range(room.walls.shape[0]):
            for w in range(words):
                room.walls[h, w] = 0
        for w in range(words):
            room.faces[0, w] = 0
        for r in range(count):
            for i in range(k):
                points[r, i] = generators[first + r, i] / generators[first + r, k]
            bit = np.uint64(1) << np.uint64(r & 63)
            room.faces[0, r >> 6] |= bit
            for w in range(sets.shape[1]):
                for b in range(64):
                    if (sets[first + r, w] >> np.uint64(b)) & np.uint64(1):
                        room.walls[64 * w + b, r >> 6] |= bit
        for i in range(k):
            centroid[region, i] = points[0, i]
        for r in range(count - 1, -1, -1):
            for i in range(k):
                points[r, i] -= points[0, i]
        walls = 0
        for h in range(64 * sets.shape[1]):  # those that may be facets come first
            size = 0
            for w in range(words):
                size += count_bits(room.walls[h, w])
                room.walls[walls, w] = room.walls[h, w]
            walls += size >= k
        if not add_simplices(k, words, walls, room, left, region, volume, centroid, covariance):
            return TOO_MANY_SIMPLICES
    return ALL_DONE


@compiled()
def add_simplices(
    k: int,
    words: int,
    half_spaces: int,
    room: Room,
    left: Int[np.ndarray, "1"],
    region: int,
    volume: Float[np.ndarray, "regions"],
    centroid: Float[np.ndarray, "regions coordinates"],
    covariance: Float[np.ndarray, "regions coordinates coordinates"],
) -> bool:
    """Integrate over one cell, with its centroid relative to its first vertex; return False if simplices run out."""
    faces, seen, counts, corners, sums = room.faces, room.seen, room.counts, room.corners, room.sums
    total = 0.0
    for i in range(k):
        sums[i] = 0.0
        for j in range(k):
            covariance[region, i, j] = 0.0
    level = 0
    counts[0, 0] = counts[0, 1] = -1
    while level >= 0:
        if counts[level, 1] < 0:  # a new face
            size = 0
            for w in range(words):
                size += count_bits(faces[level, w])
            found = level
            for r in range(64 * words):
                if (faces[level, r >> 6] >> np.uint64(r & 63)) & np.uint64(1):
                    corners[found] = r
                    found += 1
                    if size != k - level + 1:  # not a simplex: only the first vertex is needed
                        break
            if size == k - level + 1:
                left[0] -= 1
                if left[0] < 0:
                    return False
                total += add_simplex(k, room, region, covariance)
                level -= 1
                continue
            if level == k:  # several vertices that differ in no wall: rounding; the sum will reveal it
                level -= 1
                continue
            counts[level, 0] = counts[level, 1] = 0
        corner, facet = corners[level], False
        while counts[level, 1] < half_spaces and not facet:
            wall = counts[level, 1]
            counts[level, 1] += 1
            if (room.walls[wall, corner >> 6] >> np.uint64(corner & 63)) & np.uint64(1):
                continue
            size, at = 0, counts[level, 0]
            for w in range(words):
                seen[level, at, w] = faces[level, w] & room.walls[wall, w]
                size += count_bits(seen[level, at, w])
            facet = size >= k - level
            for earlier in range(at):
                same = facet
                for w in range(words):
                    same &= seen[level, earlier, w] == seen[level, at, w]
                facet &= not same
        if not facet:
            level -= 1
            continue
        for w in range(words):
            faces[level + 1, w] = seen[level, counts[level, 0], w]
        counts[level, 0] += 1
        level += 1
        counts[level, 0] = counts[level, 1] = -1
    volume[region] = total
    if total > 0.0:
        for i in range(k):
            sums[i] /= total
            centroid[region, i] += sums[i]
        for i in range(k):
            for j in range(k):
                covariance[region, i, j] = covariance[region, i, j] / total - sums[i] * sums[j]
    return True


@compiled()
def add_simplex(
    k: int, room: Room, region: int, covariance: Float[np.ndarray, "regions coordinates coordinates"]
) -> float:
    """Add the first and second moments of one simplex; return its volume."""
    points, corners, matrix = room.points, room.corners, room.matrix
    for i in range(k):
        for j in range(k):
            matrix[i, j] = points[corners[i + 1], j] - points[corners[0], j]
    volume = 1.0
    for i in range(k):
        pivot = i
        for j in range(i + 1, k):
            if abs(matrix[j, i]) > abs(matrix[pivot, i]):
                pivot = j
        if matrix[pivot, i] == 0.0:
            return 0.0
        for j in range(i, k):
            matrix[i, j], matrix[pivot, j] = matrix[pivot, j], matrix[i, j]
        volume *= abs(matrix[i, i]) / (i + 1)
        for r in range(i + 1, k):
            factor = matrix[r, i] / matrix[i, i]
            for j in range(i + 1, k):
                matrix[r, j] -= factor * matrix[i, j]
    share = volume / ((k + 1) * (k + 2))
    for i in range(k):
        total = 0.0
        for c in range(k + 1):
            total += points[corners[c], i]
        room.sums[i] += volume * total / (k + 1)
        for j in range(i + 1):
            other, product = 0.0, 0.0
            for c in range(k + 1):
                other += points[corners[c], j]
                product += points[corners[c], i] * points[corners[c], j]
            added = share * (product + total * other)
            covariance[region, i, j] += added
            if i != j:
                covariance[region, j, i] += added
    return volume
