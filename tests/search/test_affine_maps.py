"""Half-spaces and affine maps of whole partitions, compared with those that the program composes for one pattern."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.programs import dense_program, draw_domain, draw_program, mlp
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.geometry import sharing as sharing
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.affine_maps import AffineMaps, affine_maps
from torch_shallow.search.balance import collapse_open
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.partition import Partition
from torch_shallow.search.problem import pack


def with_open_cells(partition: Partition, known: np.ndarray) -> tuple[Partition, np.ndarray]:
    """What is left of a partition if only some of its regions are known, and which of its cuts."""
    count = int(known.sum())
    numbers = np.where(known, ~(np.cumsum(known) - 1), ~count)
    children = partition.children.copy()
    leaf = children < 0
    children[leaf] = numbers[~children[leaf]]
    children, kept = collapse_open(children, count)
    return (
        replace(
            partition,
            children=children,
            cut_neurons=partition.cut_neurons[kept],
            packed_patterns=partition.packed_patterns[known],
            points=partition.points[known],
        ),
        kept,
    )


def check(partition: Partition, maps: AffineMaps) -> None:
    """Every map is that of the program, under the pattern of every region that it is for."""
    program = partition.program
    for region, pattern in enumerate(partition.patterns()):
        normals, offsets, weight, bias = program.affine_maps(pattern)
        found = maps.weights[region]
        if maps.projection is not None:
            found = found @ maps.projection
        np.testing.assert_allclose(found + (0.0 if maps.skip is None else maps.skip), weight, atol=1e-9)
        np.testing.assert_allclose(maps.biases[region], bias, atol=1e-9)
        for cut, _ in partition.path(region):
            normal, neuron = maps.normals[cut], partition.cut_neurons[cut]
            normal = normal if maps.projection is None else normal @ maps.projection
            np.testing.assert_allclose(normal, normals[neuron], atol=1e-9)
            np.testing.assert_allclose(maps.offsets[cut], offsets[neuron], atol=1e-9)


@given(st.data())
def test_maps_are_those_of_the_program(data: st.DataObject) -> None:
    program = draw_program(data)
    partition = enumerate_regions(program, draw_domain(data, program.num_inputs))
    check(partition, affine_maps(partition))


@pytest.mark.parametrize("sizes", [(3, 9, 7, 2), (2, 5, 6, 7, 1), (6, 2, 3, 4)], ids=str)
def test_maps_of_chains_are_those_of_the_program(sizes: tuple[int, ...]) -> None:
    partition = enumerate_regions(mlp(*sizes), WholeSpace())
    check(partition, affine_maps(partition))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_maps_have_the_same_bits_for_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = enumerate_regions(mlp(3, 9, 7, 2), Box(-1.0, 1.0))
    alone = affine_maps(partition)
    monkeypatch.setattr(sharing, "LEAST", 1)
    shared = affine_maps(partition, threads)
    for name in ("rows", "weights", "biases"):
        assert getattr(shared, name).tobytes() == getattr(alone, name).tobytes()
        assert getattr(shared, name).flags.c_contiguous
    rows_only = affine_maps(partition, threads, local_models=False)
    assert rows_only.rows.tobytes() == alone.rows.tobytes()
    assert rows_only.weights.shape == (0, *alone.weights.shape[1:])
    assert rows_only.biases.shape == (0, *alone.biases.shape[1:])


@given(st.data())
def test_trees_with_open_cells_have_the_maps_of_the_whole_tree(data: st.DataObject) -> None:
    program = draw_program(data)
    whole = enumerate_regions(program, draw_domain(data, program.num_inputs))
    known = np.array(data.draw(st.lists(st.booleans(), min_size=whole.num_regions, max_size=whole.num_regions)))
    known[data.draw(st.integers(0, whole.num_regions - 1))] = True
    partition, kept = with_open_cells(whole, known)
    everything = affine_maps(whole)
    for threads in (1, 2):
        maps = affine_maps(partition, threads)
        assert maps.rows.tobytes() == everything.rows[kept].tobytes()
        assert maps.weights.tobytes() == everything.weights[known].tobytes()
        assert maps.biases.tobytes() == everything.biases[known].tobytes()


@given(st.data())
def test_only_cuts_with_regions_below_are_left_of_a_tree_with_open_cells(data: st.DataObject) -> None:
    program = draw_program(data)
    whole = enumerate_regions(program, draw_domain(data, program.num_inputs))
    known = np.array(data.draw(st.lists(st.booleans(), min_size=whole.num_regions, max_size=whole.num_regions)))
    known[data.draw(st.integers(0, whole.num_regions - 1))] = True
    partition, kept = with_open_cells(whole, known)
    paths = [whole.path(int(region)) for region in np.flatnonzero(known)]
    assert set(kept.tolist()) == {cut for path in paths for cut, _ in path}
    assert [[(int(kept[cut]), side) for cut, side in partition.path(k)] for k in range(len(paths))] == paths
    assert partition.num_cuts - (partition.num_regions - 1) == len(partition.open_cells)
    inner = partition.children[partition.children >= 0]
    assert sorted(inner.tolist()) == list(range(1, partition.num_cuts))
    assert (partition.children > np.arange(partition.num_cuts)[:, None])[partition.children >= 0].all()
    again, all_kept = collapse_open(partition.children, partition.num_regions)
    assert np.array_equal(again, partition.children)
    assert len(all_kept) == partition.num_cuts


def sparse_program(kinds: str, seed: int = 0) -> ReLUProgram:
    """Stages of 12 neurons over two inputs; those that are "s" read two neurons before each, those that are "d" all."""
    rng, weights, biases = np.random.default_rng(seed), [], []
    for number, kind in enumerate(kinds):
        weight = rng.standard_normal((12, 2 + 12 * number))
        if kind == "s":
            read = rng.random((12, 12 * number)).argsort(axis=1) < 2
            weight[:, 2:] *= read
            weight[:, :2] *= rng.random((12, 1)) < 0.5
        weights.append(weight)
        biases.append(0.3 * rng.standard_normal(12))
    return dense_program(2, weights, biases)


@pytest.mark.parametrize("kinds", ["ds", "dss", "dsds", "ddss"])
@pytest.mark.parametrize("is_output_sparse", [False, True])
def test_maps_of_sparse_stages(kinds: str, is_output_sparse: bool) -> None:
    program = sparse_program(kinds)
    if is_output_sparse:
        weight = np.zeros_like(program.out_weight)
        weight[0, [0, 3, -2, -1]] = [1.0, 2.0, -1.0, 0.5]
        program = replace(program, out_weight=weight)
    domain = Box(-1.0, 1.0)
    partition = enumerate_regions(program, domain)
    assert partition.num_regions > 100
    network = pack(program, partition.chart)
    assert network.sparse.tolist() == [int(kind == "s") for kind in kinds]
    check(partition, affine_maps(partition))
    one, four = affine_maps(partition, 1), affine_maps(partition, 4)
    assert np.array_equal(one.rows, four.rows)
    assert np.array_equal(one.weights, four.weights)
    known = np.random.default_rng(0).random(partition.num_regions) < 0.3
    part, kept = with_open_cells(partition, known)
    assert np.array_equal(affine_maps(part).weights, one.weights[known])
    assert np.array_equal(affine_maps(part, local_models=False).rows, one.rows[kept])
