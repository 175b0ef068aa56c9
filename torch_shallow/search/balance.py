"""Rebuilding the tree of a set of regions: a shorter tree, or one whose leaves unite several regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from jaxtyping import Int, UInt8

from torch_shallow.geometry.sharing import part_size, share, share_tree
from torch_shallow.geometry.tree import Tree
from torch_shallow.search.partition import Partition

AnyTree = TypeVar("AnyTree", bound=Tree)


class Leaves(NamedTuple):
    """Leaves of a new tree, in terms of the regions of the old one.

    Attributes:
        order: The old regions, leaf after leaf.
        starts: Position in `order` where the regions of each leaf start.
    """

    order: Int[np.ndarray, "regions"]
    starts: Int[np.ndarray, "leaves"]

    @property
    def first(self) -> Int[np.ndarray, "leaves"]:
        """First region of each leaf."""
        return self.order if len(self.starts) == len(self.order) else self.order[self.starts]


def index_type(count: int) -> type[np.signedinteger[Any]]:
    """Return the smallest signed integer type that holds numbers up to `count`."""
    return np.int32 if count < 1 << 31 else np.int64


def balanced(partition: Partition, threads: int = 1) -> Partition:
    """Return the same regions under a tree with short paths.

    Within a cell where all earlier stages have one pattern, any neuron of the next stage that takes both signs may cut
    first: every region of the cell lies on one side of its hyperplane. The neuron that divides the regions most evenly
    is taken, and the first of several. So the tree and the numbering of the regions depend only on the set of patterns,
    not on the order in which regions were found or on the number of threads.

    If patterns occur twice, no other tree can tell them apart (`certify` reports this), and the tree is left unchanged.

    Time is proportional to the number of regions times the depth.
    """
    built = build(partition, threads=threads)
    # Regions are found in any order but numbered along the tree.
    return collapse(partition, np.arange(partition.num_regions))[0] if built is None else built[0]


def build(
    partition: Partition, kinds: Int[np.ndarray, "regions"] | None = None, *, threads: int = 1
) -> tuple[Partition, Leaves] | None:
    """Build a tree whose leaves have regions of one kind only, with as few leaves as a greedy choice of cuts finds.

    Args:
        partition: All activation regions.
        kinds: Kind of each region, numbered from 0, with fewer kinds than regions; by default each region is its own
            kind.
        threads: Number of threads; only one is used if there are kinds, for then the cells must be walked from left to
            right.

    Returns:
        The new tree and its leaves; None if patterns occur twice, which no tree can tell apart (`certify` reports
        this).
    """
    # Imported here because importing numba takes a while.
    from torch_shallow.search.order_cuts import START_STOP_STAGE_PARENT, order_cuts

    regions, depth = partition.num_regions, partition.program.num_neurons + 2
    width, index = partition.packed_patterns.shape[1], index_type(regions)
    order, starts = np.arange(regions, dtype=index), np.arange(regions, dtype=index)
    children, cut_neurons = np.empty((regions - 1, 2), dtype=np.int64), np.empty(regions - 1, dtype=np.int64)
    arrays = (
        partition.packed_patterns,
        np.array(partition.program.offsets),
        np.zeros(0, dtype=np.int64) if kinds is None else kinds,
        np.zeros(0 if kinds is None else regions, dtype=np.int64),
        order,
        np.empty(regions, dtype=index),
        children,
        cut_neurons,
        starts,
    )
    most = part_size(regions, threads if kinds is None else 1)

    def cut(cell: _Cell) -> tuple[int, list[_Cell]]:
        """Cut a small cell down to its leaves, and a large one in two."""
        large = cell.frame[1] - cell.frame[0] > most
        frames = np.empty((depth, START_STOP_STAGE_PARENT), dtype=np.int64)
        open_bits, counts = np.empty((depth, width), dtype=np.uint8), np.empty(8 * width, dtype=np.int64)
        frames[0], open_bits[0] = cell.frame, cell.open_bits
        cuts = order_cuts(*arrays, frames, open_bits, counts, cell.first_cut, 1 if large else -1)
        if cuts < 0 or not large:
            return cuts, []
        on_the_left = int(frames[1, 1] - frames[1, 0]) - 1  # cuts below the inactive child
        return cuts, [_Cell(frames[1], open_bits[1], cuts), _Cell(frames[0], open_bits[0], cuts + on_the_left)]

    root = _Cell(np.array([0, regions, 0, -1]), np.full(width, 255, dtype=np.uint8), 0)
    results = share_tree(threads, [root], cut)
    if min(results) < 0:
        return None
    cuts = max(results)
    leaves = Leaves(order, starts[: cuts + 1])
    return _renewed(
        partition, leaves, threads=threads, children=children[:cuts], cut_neurons=cut_neurons[:cuts]
    ), leaves


class _Cell(NamedTuple):
    """A cell to be cut: its row on the stack of `order_cuts`, and the number of its first cut."""

    frame: Int[np.ndarray, "4"]
    open_bits: UInt8[np.ndarray, "bytes"]
    first_cut: int


def collapse_open(
    children: Int[np.ndarray, "cuts 2"], regions: int
) -> tuple[Int[np.ndarray, "kept 2"], Int[np.ndarray, "kept"]]:
    """Remove the cuts without regions below them, merging the open cells there; also return which cuts are kept.

    Args:
        children: Children of each cut, as in `Tree`.
        regions: Number of regions, at least one.
    """
    # Imported here because importing numba takes a while.
    from torch_shallow.search.compose_maps import first_regions

    first = np.empty(len(children), dtype=index_type(regions))
    first_regions(children, first)
    kept = np.flatnonzero(first < regions)
    numbers = np.full(len(children), ~regions)
    numbers[kept] = np.arange(len(kept))
    new = children[kept]
    inner = new >= 0
    new[inner] = numbers[new[inner]]
    return new, kept


def collapse(tree: AnyTree, kinds: Int[np.ndarray, "regions"]) -> tuple[AnyTree, Leaves, Int[np.ndarray, "kept"]]:
    """Remove the cuts below which all regions are of one kind; also return which cuts are kept."""
    children, below = tree.children.tolist(), np.full(tree.num_cuts, -1)

    def kind(child: int) -> int:
        return int(kinds[~child] if child < 0 else below[child])

    for cut in range(tree.num_cuts - 1, -1, -1):
        inactive, active = kind(children[cut][0]), kind(children[cut][1])
        below[cut] = inactive if inactive == active else -1
    order: list[int] = []
    starts: list[int] = []
    kept: list[int] = []
    parents: list[tuple[int, int]] = []
    stack = [(0 if tree.num_cuts else ~0, -1, False)]  # a node, its parent's code, and whether it is inside a leaf
    while stack:
        node, parent, in_leaf = stack.pop()
        starts_leaf = not in_leaf and kind(node) >= 0
        if starts_leaf:
            starts.append(len(order))
            parents.append((parent, ~(len(starts) - 1)))
        elif not in_leaf:
            parents.append((parent, len(kept)))
            kept.append(node)
        code = 2 * (len(kept) - 1)
        if node < 0:
            order.append(~node)
        else:
            inside = in_leaf or starts_leaf
            stack += [(children[node][1], code + 1, inside), (children[node][0], code, inside)]
    new = np.zeros((len(kept), 2), dtype=np.int64)
    for parent, child in parents:
        if parent >= 0:
            new[parent // 2, parent % 2] = child
    leaves, cuts = Leaves(np.array(order), np.array(starts)), np.array(kept, dtype=np.int64)
    own: dict[str, Any] = {"cut_neurons": tree.cut_neurons[cuts]} if isinstance(tree, Partition) else {}
    return _renewed(tree, leaves, children=new, **own), leaves, cuts


def _renewed(tree: AnyTree, leaves: Leaves, *, threads: int = 1, **changes: Any) -> AnyTree:
    """Return the tree with changed fields; each leaf gets the point and the pattern of its first region."""
    first = leaves.first
    changes["points"] = _taken(tree.points, first, threads)
    if isinstance(tree, Partition):
        merged = tree.mixed is not None or len(leaves.starts) < tree.num_regions
        changes["packed_patterns"] = _taken(tree.packed_patterns, first, threads)
        changes["mixed"] = _mixed(tree, leaves) if merged else None
    return replace(cast("Any", tree), **changes)


def _taken(array: np.ndarray, rows: Int[np.ndarray, "some"], threads: int) -> np.ndarray:
    taken = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)

    def take(start: int, stop: int) -> None:
        np.take(array, rows[start:stop], axis=0, out=taken[start:stop], mode="clip")  # other modes make a copy

    share(threads, len(rows), take)
    return taken


def _mixed(partition: Partition, leaves: Leaves) -> UInt8[np.ndarray, "leaves bytes"]:
    """Return which neurons take both signs on each leaf, packed."""
    patterns = partition.packed_patterns[leaves.order]
    sizes = np.diff([*leaves.starts, len(leaves.order)])
    differs = patterns ^ np.repeat(patterns[leaves.starts], sizes, axis=0)
    if partition.mixed is not None:
        differs |= partition.mixed[leaves.order]
    return np.bitwise_or.reduceat(differs, leaves.starts, axis=0)
