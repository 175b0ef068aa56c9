"""Compiled numbering of the distinct rows of an array, by a hash table."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt64

from torch_shallow.compiled.decorator import compiled

MIXING = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


@compiled()
def number_rows(
    rows: Float[np.ndarray, "rows columns"],
    words: UInt64[np.ndarray, "rows columns"],
    table: Int[np.ndarray, "slots"],
    first: Int[np.ndarray, "rows"],
    which: Int[np.ndarray, "rows"],
) -> int:
    """Number the distinct rows in order of first occurrence, and return how many there are.

    Args:
        rows: The rows.
        words: The same memory, as integers.
        table: Work space, filled with -1; its length is a power of two, greater than the number of rows.
        first: Filled with the first row of each number.
        which: Filled with the number of each row.
    """
    mask, count = np.uint64(table.shape[0] - 1), 0
    for row in range(rows.shape[0]):
        slot = key(rows, words, row) & mask
        while table[slot] >= 0 and not same(rows, words, first[table[slot]], row):
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = count
            first[count] = row
            count += 1
        which[row] = table[slot]
    return count


@compiled()
def key(rows: Float[np.ndarray, "rows columns"], words: UInt64[np.ndarray, "rows columns"], row: int) -> np.uint64:
    """Return a number that is the same for equal rows, and hardly ever for others."""
    mixed = np.uint64(0)
    for k in range(rows.shape[1]):
        if rows[row, k] != 0.0:  # 0.0 and -0.0 are equal
            mixed ^= words[row, k]
        mixed *= MIXING
        mixed ^= mixed >> np.uint64(29)
    return mixed


@compiled()
def same(
    rows: Float[np.ndarray, "rows columns"], words: UInt64[np.ndarray, "rows columns"], one: int, other: int
) -> bool:
    """Return whether all numbers of two rows are equal; a NaN is equal to the same NaN."""
    equal = True
    for k in range(rows.shape[1]):
        equal &= words[one, k] == words[other, k] or rows[one, k] == rows[other, k]
    return equal
