"""Arrange the half-spaces of a tree in blocks of eight, for `block_kernels.evaluate_rows`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, Int64

EIGHT = 8


class TreeBlocks(NamedTuple):
    """A tree of cuts in groups, as `grouping.form_groups` defines them.

    Attributes:
        blocks: half-spaces, eight at a time: coefficients of a column side by side, offsets last.
        groups: first block, first table entry, and number of half-spaces of each group.
        table: what each combination of signs leads to: group `c >= 0`, region `~c`, or an open cell.
    """

    blocks: Float[np.ndarray, "blocks homogeneous 8"]
    groups: Int64[np.ndarray, "groups 3"]
    table: Int32[np.ndarray, "entries"]


def no_blocks() -> TreeBlocks:
    """Return no groups, so that points pass cut by cut."""
    return TreeBlocks(np.zeros((0, 0, EIGHT)), np.zeros((0, 3), dtype=np.int64), np.zeros(0, dtype=np.int32))


def in_eights(rows: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "blocks columns 8"]:
    """Return rows in blocks of eight, with zeros after the last."""
    padded = np.zeros((-(-len(rows) // EIGHT) * EIGHT, rows.shape[1]))
    padded[: len(rows)] = rows
    return np.ascontiguousarray(padded.reshape(-1, EIGHT, rows.shape[1]).swapaxes(1, 2))


def projection_blocks(
    projection: Float[np.ndarray, "coordinates inputs"],
) -> Float[np.ndarray, "blocks homogeneous 8"]:
    """Return the blocks of a matrix, whose rows have the constant 0."""
    return in_eights(np.pad(projection, ((0, 0), (0, 1))))


def arrange(half_spaces: Float[np.ndarray, "half_spaces homogeneous"], tree: Int64[np.ndarray, "cuts 3"]) -> TreeBlocks:
    """Arrange a tree with at least one cut in groups.

    Args:
        half_spaces: the distinct half-spaces.
        tree: children of each cut, and its half-space.
    """
    # Imported here because numba takes a while.
    from torch_shallow.functions.operators.grouping import fill_tables, form_groups

    cuts, distinct = len(tree), len(half_spaces)
    leaves, roots, group_of, following = (np.empty(cuts, dtype=np.int64) for _ in range(4))
    groups = np.empty((cuts, 3), dtype=np.int64)
    slots = np.full(EIGHT * cuts + 2 * EIGHT, distinct)  # where there is none, the row of zeros after the last
    lane, gain = np.full(distinct, -1), np.zeros(distinct, dtype=np.int64)
    head, names = np.empty((2, distinct), dtype=np.int64)
    found, blocks, entries = form_groups(
        tree, leaves, roots, group_of, groups, slots, lane, gain, head, following, names
    )
    groups, slots = groups[:found].copy(), slots[: EIGHT * blocks]
    table = np.empty(entries, dtype=np.int32)
    fill_tables(tree, roots, group_of, groups, slots, lane, table)
    return TreeBlocks(in_eights(np.pad(half_spaces, ((0, 1), (0, 0)))[slots]), groups, table)
