"""The first layer has each half-space once, however many cuts use it, and nothing else changes by that."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.modules.laws import random_points
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, transform
from torch_shallow.functions.layers import HalfSpaces
from torch_shallow.geometry.distinct import distinct
from torch_shallow.geometry.row_numbers import MIXING, key
from torch_shallow.search.affine_maps import affine_maps

WIDTHS = [(1, 7, 1), (2, 8, 2), (3, 9, 1)]


def deep(*widths: int) -> nn.Sequential:
    torch.manual_seed(sum(widths))
    return chain(*widths).double()


def of_each_cut(shallow: ShallowReLU) -> ShallowReLU:
    """The same network with a row for each cut, as the theorem's proof makes one."""
    maps, other = affine_maps(shallow.partition), copy.deepcopy(shallow)
    other.half_spaces = HalfSpaces(maps.rows, maps.projection)
    other.indicator = type(shallow.indicator)(shallow.partition, np.arange(shallow.num_cuts))
    return other


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_one_hidden_layer_has_as_many_half_spaces_as_neurons(widths: tuple[int, ...]) -> None:
    model = deep(*widths)
    shallow = transform(model)
    assert shallow.num_half_spaces == len(shallow.half_spaces) == widths[1]
    assert shallow.num_cuts == shallow.num_regions - 1
    assert shallow.num_cuts > widths[1] or widths[0] == 1
    rows = torch.cat([model[0].weight, model[0].bias[:, None]], 1).detach()
    found = {tuple(row) for row in shallow.half_spaces.rows.tolist()}
    assert found == {tuple(row) for row in rows.tolist()}


@pytest.mark.parametrize("widths", [(2, 8, 8, 1), (3, 6, 6, 2), (2, 5, 5, 4, 1)], ids=str)
def test_a_neuron_has_a_half_space_for_each_pattern_before_it(widths: tuple[int, ...]) -> None:
    shallow = transform(deep(*widths))
    tree, rows = shallow.partition, shallow.function.half_space_of().tolist()
    program = tree.program
    first: dict[int, int] = {}
    for region in range(shallow.num_regions):
        for cut, _ in tree.path(region):
            first.setdefault(cut, region)
    offsets = [*program.offsets]
    used: dict[int, tuple[int, bytes]] = {}
    made: dict[tuple[int, bytes], int] = {}
    for cut, region in first.items():
        neuron = int(tree.cut_neurons[cut])
        start = max(offset for offset in offsets if offset <= neuron)  # of the neuron's layer
        key = neuron, tree.patterns(np.array([region]))[0, :start].tobytes()
        assert made.setdefault(key, rows[cut]) == rows[cut], "one neuron, one pattern, two half-spaces"
        assert used.setdefault(rows[cut], key)[0] == neuron
    assert shallow.num_half_spaces <= len(made) < shallow.num_cuts
    assert sorted(set(rows)) == list(range(shallow.num_half_spaces))
    assert len(np.unique(shallow.half_spaces.rows.numpy(), axis=0)) == shallow.num_half_spaces


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("domain", [None, Box(-2.0, 2.0)], ids=["space", "box"])
def test_outputs_are_those_of_a_row_for_each_cut(dense: bool, domain: Box | None) -> None:
    shallow = transform(deep(3, 6, 6, 2), domain=domain)
    shallow = ShallowReLU(shallow.partition, dense=dense)
    other, x = of_each_cut(shallow), random_points(shallow, 2000)
    on_cuts = torch.from_numpy(np.round(x.numpy()))
    for points in (x, on_cuts, x.float()):
        assert torch.equal(other(points).nan_to_num(7.0), shallow(points).nan_to_num(7.0))
    assert np.array_equal(other.function.cut_rows(), shallow.function.cut_rows())
    assert len(other.half_spaces) == shallow.num_cuts > shallow.num_half_spaces


def test_nearly_the_same_is_not_the_same() -> None:
    rows = np.array([[1.0, 2.0], [1.0, np.nextafter(2.0, 3.0)], [0.0, -0.0], [1.0, 2.0], [-1.0, -2.0], [-0.0, 0.0]])
    found, which = distinct(rows)
    assert which.tolist() == [0, 1, 2, 0, 3, 2]
    assert np.array_equal(found, rows[[0, 1, 2, 4]])


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (1, 2), (4, 2, 3)], ids=str)
def test_distinct_entries_of_any_shape(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(float)
    found, which = distinct(array)
    assert found.shape[1:] == shape[1:]
    assert np.array_equal(found[which], array)
    assert len({entry.tobytes() for entry in found}) == len(found)


def test_rows_with_the_same_key_are_told_apart() -> None:
    def mixed(number: float) -> int:
        word = int(np.float64(number).view(np.uint64)) * int(MIXING) % (1 << 64)
        return word ^ (word >> 29)

    # The key mixes in one number after another, so the second number of a row can make up for the first.
    other = (np.uint64(mixed(1.0) ^ mixed(3.0)) ^ np.float64(2.0).view(np.uint64)).view(np.float64)
    rows = np.array([[1.0, 2.0], [3.0, other], [1.0, 2.0]])
    assert key(rows, rows.view(np.uint64), 0) == key(rows, rows.view(np.uint64), 1)
    found, which = distinct(rows)
    assert (found.tolist(), which.tolist()) == ([[1.0, 2.0], [3.0, other]], [0, 1, 0])


def test_a_file_has_each_half_space_once(tmp_path: Path) -> None:
    shallow = transform(deep(3, 6, 6, 2))
    shallow.save(tmp_path / "network.safetensors")
    again = ShallowReLU.load(tmp_path / "network.safetensors")
    assert again.num_half_spaces == shallow.num_half_spaces
    assert all(map(torch.equal, again.state_dict().values(), shallow.state_dict().values()))


def test_a_half_space_is_trained_as_one() -> None:
    """The gradient of a half-space is the sum of those of the rows that each cut would have of its own."""
    shallow = transform(deep(2, 5, 4, 1))
    x = random_points(shallow, 40)
    gradients: list[Tensor] = []
    for network in (shallow, of_each_cut(shallow)):
        soft = network.soften(2.0)
        soft(x).sum().backward()
        assert soft.normals.grad is not None
        gradients.append(soft.normals.grad)
    summed = torch.zeros_like(gradients[0]).index_add(0, shallow.function.half_space_of(), gradients[1])
    assert torch.allclose(gradients[0], summed, rtol=1e-9, atol=1e-12)
    assert len(gradients[1]) > len(gradients[0])


def test_an_optimiser_moves_a_half_space_at_all_its_cuts() -> None:
    soft = transform(deep(2, 6, 1)).soften(2.0)
    optimizer = torch.optim.Adam(soft.parameters(), lr=1e-3)
    soft(torch.randn(100, 2, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    hard = soft.harden()
    assert hard.num_half_spaces <= 6 < hard.num_cuts
