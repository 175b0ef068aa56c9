"""Storage for cones that grows on request of the compiled code, and the cone of a list of half-spaces."""

from __future__ import annotations

from hashlib import shake_128

import numpy as np
from jaxtyping import Float, UInt64

from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.cone import (
    NEED_ARENA,
    NEED_PAIRS,
    NEED_POOL,
    NEED_WORDS,
    OK,
    Cones,
    Scratch,
    evaluate,
    split,
)


def grown(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return a copy of twice the length along an axis, padded with zeros."""
    shape = list(array.shape)
    shape[axis] = max(1, 2 * shape[axis])
    larger = np.zeros(shape, dtype=array.dtype)
    larger[tuple(slice(n) for n in array.shape)] = array
    return larger


class ConeStorage:
    """The arrays of `Cones` and `Scratch`, for cones of one dimension."""

    def __init__(self, dimension: int, words: int) -> None:
        self.words = words
        rays = 1024
        self.cones = Cones(
            np.empty((4 * rays, dimension)), np.empty(8 * rays, dtype=np.int32), np.empty((8 * rays, words), np.uint64)
        )
        self.scratch = self._scratch(rays)

    def _scratch(self, rays: int) -> Scratch:
        pairs = 4 * rays
        slots = 4 * rays * max(4, 1 << int(np.ceil(np.log2(self.cones.pool.shape[1]))))
        codes = np.frombuffer(shake_128().digest(8 * 64 * self.words), dtype=np.uint64).copy()
        return Scratch(
            np.empty(rays),
            np.empty(rays + 1, dtype=np.int32),
            np.empty(rays + 1, dtype=np.int32),
            np.empty(rays + 1, dtype=np.int32),
            np.empty(rays, dtype=np.uint64),
            np.empty((pairs, 2), dtype=np.int32),
            np.empty(slots, dtype=np.int32),
            np.empty(slots, dtype=np.uint64),
            np.empty((2, 3), dtype=np.int64),
            np.empty((2, self.words), dtype=np.uint64),
            np.empty(rays + 1, dtype=np.uint8),
            codes,
        )

    def grow(self, status: int) -> None:
        """Double the array that the status of a cut asked for."""
        if status == NEED_POOL:
            self.cones = self.cones.replaced(pool=grown(self.cones.pool))
        elif status == NEED_ARENA:
            self.cones = self.cones.replaced(ids=grown(self.cones.ids), sets=grown(self.cones.sets))
        elif status == NEED_PAIRS:
            self.scratch = self._scratch(2 * len(self.scratch.values))
        elif status == NEED_WORDS:
            self.words *= 2
            self.cones = self.cones.replaced(sets=grown(self.cones.sets, axis=1))
            self.scratch = self._scratch(len(self.scratch.values))


@compiled()
def intersect(cones, scratch, used, half_spaces, tolerance, state):
    """Cut the cone at the start of the arena by half-spaces, keeping the positive side of each.

    `state` holds the next half-space, the start, lines and rays of the cone, and the first free row of the pool; the
    call can be repeated after growth. A cone without interior ends with no lines and rays.
    """
    children, child_used, values = scratch.children, scratch.child_used, scratch.values
    while state[0] < half_spaces.shape[0]:
        lines, rays = state[2], state[3]
        if lines + rays > values.shape[0]:
            return NEED_PAIRS
        _, greatest = evaluate(cones.pool, cones.ids, state[1], lines + rays, half_spaces[state[0]], values)
        for r in range(lines):
            greatest = max(greatest, abs(values[r]))
        if greatest <= tolerance:
            state[2], state[3] = 0, 0
            return OK
        code, top = split(cones, scratch, state[1:4], used, tolerance, state[4])
        if code != OK:
            return code
        state[2], state[3], state[4] = children[1, 1], children[1, 2], top
        for r in range(state[2] + state[3]):
            cones.ids[r] = cones.ids[children[1, 0] + r]
            for w in range(used.shape[0]):
                cones.sets[r, w] = cones.sets[children[1, 0] + r, w]
        for w in range(used.shape[0]):
            used[w] = child_used[1, w]
        state[0] += 1
    return OK


def intersection(
    half_spaces: Float[np.ndarray, "rows dimension"], tolerance: float
) -> tuple[ConeStorage, tuple[int, int, int], UInt64[np.ndarray, "words"]]:
    """Compute the cone of all (v, t) with t >= 0 and `half_spaces @ (v, t) >= 0`, by double description.

    Args:
        half_spaces: Unit rows, or rows of about unit length.
        tolerance: Size up to which a value at a unit ray counts as zero.

    Returns:
        Storage whose arena starts with the cone; its numbers of lines and rays (both 0 if it has no interior) and the
        first free row of the pool; and the bit set of its facets.
    """
    dimension = half_spaces.shape[1]
    storage = ConeStorage(dimension, 1 + len(half_spaces) // 64)
    storage.cones.pool[:dimension] = np.eye(dimension)
    storage.cones.ids[:dimension] = np.arange(dimension)
    used = np.zeros(storage.words, dtype=np.uint64)
    used[0] = 1  # the half-space t >= 0: all lines lie on it, the ray (0, 1) does not
    storage.cones.sets[:dimension] = 0
    storage.cones.sets[: dimension - 1, 0] = 1
    state = np.array([0, 0, dimension - 1, 1, dimension])
    while len(half_spaces):
        status = intersect(storage.cones, storage.scratch, used, half_spaces, tolerance, state)
        if status == OK:
            break
        storage.grow(status)
        used = np.concatenate([used, np.zeros(storage.words - len(used), dtype=np.uint64)])
    return storage, (int(state[2]), int(state[3]), int(state[4])), used
