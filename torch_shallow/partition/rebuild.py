"""The tree of a set of regions, built again: shorter, or with leaves that unite several regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from jaxtyping import Int, UInt8

from torch_shallow.partition.partition import Partition
from torch_shallow.partition.tree import Tree

AnyTree = TypeVar("AnyTree", bound=Tree)


class Leaves(NamedTuple):
    """The leaves of a new tree, as regions of the former one.

    Attributes:
        order: the former regions, leaf after leaf.
        starts: where each leaf's regions start in `order`.
    """

    order: Int[np.ndarray, "regions"]
    starts: Int[np.ndarray, "leaves"]

    @property
    def first(self) -> Int[np.ndarray, "leaves"]:
        """The first region of each leaf."""
        return self.order[self.starts]


def balanced(partition: Partition) -> Partition:
    """The same regions under another tree, on which the way down is short.

    Within a cell of one pattern of the stages before, each neuron of the next stage that takes both signs may cut
    first: every region of the cell lies on one side of its hyperplane. Of these neurons the one is taken that divides
    the regions most evenly, the first if there are several. So tree and numbers of regions follow from the set of
    patterns alone, in whatever order regions were found.

    Takes time in proportion to regions times depth.
    """
    built = build(partition)
    return partition if built is None else built[0]


def build(partition: Partition, kinds: Int[np.ndarray, "regions"] | None = None) -> tuple[Partition, Leaves] | None:
    """A tree whose leaves have regions of one kind only, of as few leaves as a greedy choice of cuts finds.

    Args:
        partition: activation regions.
        kinds: numbers from 0 on, fewer than regions; each region is a kind of its own if None.

    Returns:
        The new tree and its leaves; None if patterns occur twice, which no tree can tell apart (certify says so).
    """
    # Imported here because numba takes a while.
    from torch_shallow.partition.order_cuts import START_STOP_STAGE_PARENT, order_cuts

    regions, neurons = partition.num_regions, partition.program.num_neurons
    width = partition.packed_patterns.shape[1]
    order, starts = np.arange(regions), np.zeros(regions, dtype=np.int64)
    children, cut_neurons = np.zeros_like(partition.children), np.zeros_like(partition.cut_neurons)
    cuts = order_cuts(
        partition.packed_patterns,
        np.array(partition.program.offsets),
        np.zeros(0, dtype=np.int64) if kinds is None else kinds,
        np.zeros(0 if kinds is None else regions, dtype=np.int64),
        order,
        np.zeros(regions, dtype=np.int64),
        children,
        cut_neurons,
        starts,
        np.zeros((neurons + 2, START_STOP_STAGE_PARENT), dtype=np.int64),
        np.zeros((neurons + 2, width), dtype=np.uint8),
        np.zeros(8 * width, dtype=np.int64),
    )
    if cuts < 0:
        return None
    leaves = Leaves(order, starts[: cuts + 1])
    return _renewed(partition, leaves, children=children[:cuts], cut_neurons=cut_neurons[:cuts]), leaves


def collapse(tree: AnyTree, kinds: Int[np.ndarray, "regions"]) -> tuple[AnyTree, Leaves, Int[np.ndarray, "kept"]]:
    """The tree without the cuts below which all regions are of one kind; and which cuts are left."""
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
    own = {"cut_neurons": tree.cut_neurons[cuts]} if isinstance(tree, Partition) else {}
    return _renewed(tree, leaves, children=new, **own), leaves, cuts


def _renewed(tree: AnyTree, leaves: Leaves, **changes: np.ndarray | None) -> AnyTree:
    """The tree with these changes; each leaf has the point, and the pattern, of its first region."""
    changes["points"] = tree.points[leaves.first]
    if isinstance(tree, Partition):
        merged = tree.mixed is not None or len(leaves.starts) < tree.num_regions
        changes["packed_patterns"] = tree.packed_patterns[leaves.first]
        changes["mixed"] = _mixed(tree, leaves) if merged else None
    return replace(cast("Any", tree), **changes)


def _mixed(partition: Partition, leaves: Leaves) -> UInt8[np.ndarray, "leaves bytes"]:
    """Which neurons take both signs on each leaf, packed."""
    patterns = partition.packed_patterns[leaves.order]
    sizes = np.diff([*leaves.starts, len(leaves.order)])
    differs = patterns ^ np.repeat(patterns[leaves.starts], sizes, axis=0)
    if partition.mixed is not None:
        differs |= partition.mixed[leaves.order]
    return np.bitwise_or.reduceat(differs, leaves.starts, axis=0)
