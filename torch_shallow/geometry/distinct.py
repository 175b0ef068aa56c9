"""Removal of duplicate rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def distinct(
    array: Float[np.ndarray, "some ..."],
) -> tuple[Float[np.ndarray, "distinct ..."], Int[np.ndarray, "some"]]:
    """Return the distinct entries along the first axis, in order of first occurrence, and the index of each among them.

    Entries are the same only if all their numbers are equal, or the same NaN; nearly equal entries are distinct.
    """
    # Imported here because importing numba takes a while.
    from torch_shallow.geometry.row_numbers import number_rows

    count = len(array)
    rows = np.ascontiguousarray(array, dtype=np.float64).reshape(count, int(np.prod(array.shape[1:])))
    table = np.full(2 << count.bit_length(), -1, dtype=np.int64)
    first, which = np.empty((2, count), dtype=np.int64)
    found = number_rows(rows, rows.view(np.uint64), table, first, which)
    return array[first[:found]], which
