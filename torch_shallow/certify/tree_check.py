"""Is the tree of cuts a tree: one path to each region, one pattern for each region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.functions import TreeFunction
from torch_shallow.search.partition import activation_partition


@dataclass(frozen=True)
class Paths:
    """The way up from each cut and each region.

    Attributes:
        cuts: parent of each cut, coded `2 * cut + side` (side 1: active); -1 for the root.
        regions: parent of each region, likewise.
        longest: number of cuts on the longest path.
    """

    cuts: Int[np.ndarray, "cuts"]
    regions: Int[np.ndarray, "regions"]
    longest: int


def check_tree(function: TreeFunction) -> tuple[Check, Paths | None]:
    """Count cuts, leaves and patterns, and follow the tree that the network descends.

    Returns:
        The check; and the paths, if all arrays fit together so that other checks can follow them.
    """
    partition, tally = activation_partition(function.tree), Tally()
    children = function.indicator.tree.cpu().numpy()
    num_cuts, num_regions = len(children), function.indicator.num_regions
    open_cells = int((children == ~num_regions).sum())
    counts = {
        "leaves": (num_regions + open_cells, num_cuts + 1),
        "half-spaces": (len(function.half_spaces.offsets), num_cuts),
        "cuts with a neuron": (len(partition.cut_neurons), num_cuts),
        "local models": (len(function.selection), num_regions),
        "patterns": (len(partition.packed_patterns), num_regions),
        "interior points": (len(partition.points), num_regions),
    }
    for name, (found, expected) in counts.items():
        if found != expected:
            tally.add(Failure(f"expected {expected} {name} for a tree of {num_cuts} cuts, found {found}"))
    sound = tally.count == 0
    paths = _follow(children, num_regions, tally)
    if sound:
        _compare_tree(children, partition.children, tally)
        if paths is not None and len(function.indicator.must_be_active):
            _compare_masks(function, paths, tally)
        _look_for_twins(partition.packed_patterns, tally)
    check = Check(
        "tree",
        "P leaves, P - 1 cuts, one path to every region, and no activation pattern twice",
        "regions",
        num_regions,
        num_regions,
        failures=tuple(tally.kept),
        num_failures=tally.count,
        note=f"of {num_cuts + 1:,} leaves {open_cells:,} are unexplored cells, of which nothing is claimed"
        * (open_cells > 0),
    )
    return check, paths if sound else None


def _follow(children: Int[np.ndarray, "cuts 2"], num_regions: int, tally: Tally) -> Paths | None:
    """Walk down level by level; None unless every cut and every region is met exactly once."""
    num_cuts = len(children)
    cuts, regions = np.full(num_cuts, -1), np.full(num_regions, -1)
    met_cuts, met_regions = np.zeros(num_cuts, dtype=np.int64), np.zeros(num_regions, dtype=np.int64)
    outside = np.any((children >= num_cuts) | (children < ~num_regions), axis=1)
    tally.add_all(outside, lambda cut: Failure(f"children {children[cut].tolist()} do not exist", cut=cut))
    if outside.any():
        return None
    level, depth = np.zeros(min(num_cuts, 1), dtype=np.int64), 0
    met_cuts[level] = 1
    if num_cuts == 0:
        met_regions[0] = 1
    while len(level):
        depth += 1
        below = children[level].reshape(-1)
        codes = (2 * level[:, None] + np.arange(2)).reshape(-1)
        inner, known = below >= 0, (below < 0) & (below > ~num_regions)
        np.add.at(met_regions, ~below[known], 1)
        regions[~below[known]] = codes[known]
        level = below[inner]
        np.add.at(met_cuts, level, 1)
        cuts[level] = codes[inner]
        level = np.unique(level[met_cuts[level] == 1])
    tally.add_all(
        met_cuts != 1, lambda cut: Failure(f"expected one path from the root, found {met_cuts[cut]}", cut=cut)
    )
    tally.add_all(
        met_regions != 1,
        lambda region: Failure(f"expected one path from the root, found {met_regions[region]}", region=region),
    )
    return Paths(cuts, regions, depth) if (met_cuts == 1).all() and (met_regions == 1).all() else None


def _compare_tree(found: Int[np.ndarray, "cuts 2"], expected: Int[np.ndarray, "cuts 2"], tally: Tally) -> None:
    tally.add_all(
        (found != expected).any(axis=1),
        lambda cut: Failure(
            f"the network goes on to {found[cut].tolist()}, the partition to {expected[cut].tolist()}", cut=cut
        ),
    )


def _compare_masks(function: TreeFunction, paths: Paths, tally: Tally) -> None:
    expected = np.zeros((2, len(paths.regions), len(paths.cuts)))
    for region, code in enumerate(paths.regions):
        while code >= 0:
            expected[code % 2, region, code // 2] = 1.0
            code = paths.cuts[code // 2]
    for side, name in enumerate(("must_be_inactive", "must_be_active")):
        mask = getattr(function.indicator, name).cpu().numpy()
        wrong = np.any(mask != expected[side], axis=1)
        tally.add_all(wrong, lambda region: Failure("its mask is not its path in the tree", region=region))


def _look_for_twins(packed: UInt8[np.ndarray, "regions bytes"], tally: Tally) -> None:
    if packed.shape[1] == 0:
        same, order = np.ones(len(packed) - 1, dtype=bool), np.arange(len(packed))
    else:
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
    tally.add_all(
        same,
        lambda at: Failure(f"its activation pattern is that of region {order[at]} too", region=int(order[at + 1])),
    )
