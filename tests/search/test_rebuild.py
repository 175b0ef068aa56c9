"""Trees built anew: compared with a slow and obvious way to build them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.programs import draw_domain, draw_program, mlp
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.errors import IncompleteWarning
from torch_shallow.geometry import sharing as sharing
from torch_shallow.search.balance import Leaves, balanced, build, collapse
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.partition import Partition


def obvious(partition: Partition, kinds: np.ndarray) -> list[object]:
    """The tree as nested lists: `[neuron, inactive, active]`, and sets of regions for leaves."""
    patterns, offsets = partition.patterns(), partition.program.offsets

    def tree(regions: np.ndarray) -> object:
        if len(set(kinds[regions])) == 1:
            return set(regions.tolist())
        for first, last in pairwise(offsets):
            active = patterns[regions, first:last]
            both = np.flatnonzero(active.any(0) & ~active.all(0))
            if both.size:
                break

        def price(neuron: int) -> tuple[int, int]:
            on = active[:, neuron]
            left = len(set(kinds[regions[on]])) + len(set(kinds[regions[~on]]))
            return left, abs(2 * int(on.sum()) - len(on))

        best = min(both, key=price)
        on = active[:, best]
        return [first + int(best), tree(regions[~on]), tree(regions[on])]

    return [tree(np.arange(partition.num_regions))]


def as_lists(partition: Partition, leaves: Leaves) -> list[object]:
    groups = np.split(leaves.order, leaves.starts[1:])

    def tree(node: int) -> object:
        if node < 0:
            return set(groups[~node].tolist())
        inactive, active = (int(child) for child in partition.children[node])
        return [int(partition.cut_neurons[node]), tree(inactive), tree(active)]

    return [tree(0 if partition.num_cuts else ~0)]


@given(st.data())
def test_the_tree_is_that_of_the_obvious_way(data: st.DataObject) -> None:
    program = draw_program(data)
    partition = enumerate_regions(program, draw_domain(data, program.num_inputs))
    count = partition.num_regions
    kinds = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, data.draw(st.integers(1, count)), count)
    for found, of in ((build(partition), np.arange(count)), (build(partition, kinds), kinds)):
        assert found is not None
        assert as_lists(*found) == obvious(partition, of)


@given(st.data())
def test_tree_and_numbers_follow_from_the_set_of_patterns(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    partition = enumerate_regions(program, domain)
    order = np.random.default_rng(0).permutation(partition.num_regions)
    shuffled = replace(partition, packed_patterns=partition.packed_patterns[order], points=partition.points[order])
    for other in (balanced(shuffled), enumerate_regions(program, domain, method="lp")):
        assert np.array_equal(other.children, partition.children)
        assert np.array_equal(other.cut_neurons, partition.cut_neurons)
        assert np.array_equal(other.packed_patterns, partition.packed_patterns)
    assert np.array_equal(balanced(shuffled).points, partition.points)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", [(3, 8, 8, 2), (2, 40, 1), (2, 5, 6, 7, 1), (1, 1, 1)], ids=str)
def test_the_tree_is_the_same_for_any_number_of_threads(
    sizes: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = enumerate_regions(mlp(*sizes), WholeSpace())
    order = np.random.default_rng(0).permutation(partition.num_regions)
    shuffled = replace(partition, packed_patterns=partition.packed_patterns[order], points=partition.points[order])
    patterns = partition.packed_patterns.copy()
    patterns[-1] = patterns[0]
    wrong = replace(partition, packed_patterns=patterns)
    monkeypatch.setattr(sharing, "LEAST", 1)
    found = balanced(shuffled, threads)
    for name in ("children", "cut_neurons", "packed_patterns", "points"):
        assert getattr(found, name).tobytes() == getattr(partition, name).tobytes()
    built = build(shuffled, threads=threads)
    assert built is not None
    assert np.array_equal(order[built[1].order], np.arange(partition.num_regions))
    assert np.array_equal(built[1].starts, np.arange(partition.num_regions))
    assert build(wrong, threads=threads) is None


@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0)], ids=str)
def test_paths_and_patterns_agree(domain: WholeSpace | Box) -> None:
    partition = enumerate_regions(mlp(3, 8, 8, 2), domain)
    patterns = partition.patterns()
    lengths = []
    for region in range(partition.num_regions):
        path = partition.path(region)
        lengths.append(len(path))
        for cut, side in path:
            assert patterns[region, partition.cut_neurons[cut]] == side
    # As short as halving could make it, up to a third.
    assert np.log2(partition.num_regions) <= np.mean(lengths) <= 4 / 3 * np.log2(partition.num_regions)


def test_patterns_that_occur_twice_leave_the_tree_as_it_is() -> None:
    partition = enumerate_regions(mlp(2, 4, 1), WholeSpace())
    patterns = partition.packed_patterns.copy()
    patterns[1] = patterns[0]
    wrong = replace(partition, packed_patterns=patterns)
    assert build(wrong) is None
    same = balanced(wrong)
    assert sorted(map(bytes, same.packed_patterns)) == sorted(map(bytes, patterns))
    assert (same.num_cuts, same.points.shape) == (wrong.num_cuts, wrong.points.shape)


@given(st.data())
def test_collapsed_trees_send_points_to_the_kind_they_had(data: st.DataObject) -> None:
    program = draw_program(data)
    partition = enumerate_regions(program, draw_domain(data, program.num_inputs))
    count = partition.num_regions
    kinds = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, data.draw(st.integers(1, 3)), count)
    found, leaves, cuts = collapse(partition, kinds)
    assert sorted(leaves.order.tolist()) == list(range(count))
    assert found.num_cuts == len(cuts) == found.num_regions - 1
    for leaf, regions in enumerate(np.split(leaves.order, leaves.starts[1:])):
        assert len(set(kinds[regions])) == 1
        steps = [(int(cuts[cut]), side) for cut, side in found.path(leaf)]
        # A leaf has all regions below some node of the former tree, and the way there is the former one.
        assert all(partition.path(int(region))[: len(steps)] == steps for region in regions)
        below = [r for r in range(count) if partition.path(r)[: len(steps)] == steps]
        assert sorted(regions.tolist()) == below
    for inactive, active in found.children:
        assert inactive >= 0 or active >= 0 or kinds[leaves.first[~inactive]] != kinds[leaves.first[~active]]
    patterns, mixed = partition.patterns(), found.mixed
    bits = np.zeros((found.num_regions, 0)) if mixed is None else np.unpackbits(mixed, axis=1)
    for leaf, regions in enumerate(np.split(leaves.order, leaves.starts[1:])):
        both = patterns[regions].any(0) & ~patterns[regions].all(0)
        assert np.array_equal(bits[leaf, : both.size] == 1, both[: bits.shape[1]])


def test_the_depth_is_that_of_the_deepest_leaf() -> None:
    for regions in (1, 2, 20, None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IncompleteWarning)
            partition = enumerate_regions(mlp(3, 6, 6, 1), WholeSpace(), max_regions=regions)

        def below(node: int, partition: Partition = partition) -> int:
            return 0 if node < 0 else 1 + max(below(int(child)) for child in partition.children[node])

        assert partition.depth == below(0 if partition.num_cuts else ~0)
