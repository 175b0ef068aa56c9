"""Removal of duplicate rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.geometry.sharing import blocks

VALUES_AT_ONCE = 1 << 20  # values that are compared: 8 MB
MIXING = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


def distinct(
    array: Float[np.ndarray, "some ..."],
) -> tuple[Float[np.ndarray, "distinct ..."], Int[np.ndarray, "some"]]:
    """Return the distinct entries along the first axis, in order of first occurrence, and the index of each among them.

    Entries are the same only if all their numbers are equal; nearly equal entries are distinct.
    """
    rows = array.reshape(len(array), int(np.prod(array.shape[1:])))
    first, which = _numbered(_keys(rows))
    found = rows[first]
    if not all((found[which[block]] == rows[block]).all() for block in blocks(*rows.shape, VALUES_AT_ONCE)):
        first, which = _numbered(rows)  # two distinct rows have the same key, or there is a NaN
        found = rows[first]
    return found.reshape(len(found), *array.shape[1:]), which


def _keys(rows: Float[np.ndarray, "some columns"]) -> np.ndarray:
    """Return a key for each row: equal for equal rows, and hardly ever for others."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        keys ^= (column + 0.0).view(np.uint64)  # -0.0 becomes 0.0
        keys *= MIXING
        keys ^= keys >> np.uint64(29)
    return keys


def _numbered(keys: np.ndarray) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "some"]]:
    """Return where each distinct key first occurs, in this order, and the index of each key among them."""
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return first[order], places[which.reshape(-1)]
