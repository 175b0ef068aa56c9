"""Rows that are the same numbers, once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.geometry.sharing import blocks

VALUES_AT_ONCE = 1 << 20  # that are compared: 8 MB
MIXING = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


def distinct(
    array: Float[np.ndarray, "some ..."],
) -> tuple[Float[np.ndarray, "distinct ..."], Int[np.ndarray, "some"]]:
    """The distinct entries along the first axis in the order in which they come, and which of them each is.

    Entries are the same if all their numbers are equal; nearly equal ones are distinct.
    """
    rows = array.reshape(len(array), int(np.prod(array.shape[1:])))
    first, which = _numbered(_keys(rows))
    found = rows[first]
    if not all((found[which[block]] == rows[block]).all() for block in blocks(*rows.shape, VALUES_AT_ONCE)):
        first, which = _numbered(rows)  # two rows with the same key, or a NaN
        found = rows[first]
    return found.reshape(len(found), *array.shape[1:]), which


def _keys(rows: Float[np.ndarray, "some columns"]) -> np.ndarray:
    """A number of each row: the same for the same rows, and hardly ever for others."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        keys ^= (column + 0.0).view(np.uint64)  # -0.0 becomes 0.0
        keys *= MIXING
        keys ^= keys >> np.uint64(29)
    return keys


def _numbered(keys: np.ndarray) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "some"]]:
    """Where each distinct key comes first, in this order; and the place of each key among these."""
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return first[order], places[which.reshape(-1)]
