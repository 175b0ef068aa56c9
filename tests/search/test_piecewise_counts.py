"""Region counts after rewriting are those that mathematics knows for the operation itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from tests.arrangements import ARRANGEMENTS, Arrangement
from tests.reference import brute_force_patterns
from tests.zoo import PIECEWISE, Specimen
from torch_shallow.domain import WholeSpace
from torch_shallow.program.model import read_model
from torch_shallow.search.enumerate import METHODS, enumerate_regions
from torch_shallow.search.partition import Partition

SMALL = tuple(arrangement for arrangement in ARRANGEMENTS if arrangement.regions <= 200)


class Lambda(nn.Module):
    """A linear layer, or none, and an operation of its result."""

    def __init__(self, first: nn.Module, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.operation = first, operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(self.first(x))


def partition_of(model: nn.Module, in_shape: tuple[int, ...] | None = None) -> Partition:
    return enumerate_regions(read_model(model, in_shape=in_shape), WholeSpace())


ACTIVATIONS = (nn.LeakyReLU(0.3), nn.LeakyReLU(-0.7), nn.RReLU(), nn.PReLU(1, 0.5))


@pytest.mark.parametrize(
    ("arrangement", "activation"),
    [
        pytest.param(arrangement, activation, marks=[pytest.mark.slow] * ((row - column) % len(ACTIVATIONS) != 0))
        for row, arrangement in enumerate(SMALL)
        for column, activation in enumerate(ACTIVATIONS)
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_leaky_relu_has_the_regions_of_relu(arrangement: Arrangement, activation: nn.Module) -> None:
    model = arrangement.module()
    model[1] = activation.double().eval()
    assert partition_of(model.eval()).num_regions == arrangement.regions


@pytest.mark.parametrize("arrangement", SMALL, ids=lambda a: a.name)
def test_abs_of_a_linear_layer_has_the_regions_of_its_hyperplanes(arrangement: Arrangement) -> None:
    assert partition_of(Lambda(arrangement.module()[0], torch.abs)).num_regions == arrangement.regions


@pytest.mark.parametrize("kernel", [2, 3])
def test_clamps_cut_space_into_slabs(kernel: int) -> None:
    model = nn.Sequential(nn.Identity(), nn.Hardtanh(-1.0, 2.0))
    assert partition_of(model, (kernel,)).num_regions == 3**kernel


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sorting_has_a_region_for_each_order(size: int) -> None:
    """The braid arrangement: as many regions as permutations; comparisons may add some."""
    partition = partition_of(Lambda(nn.Identity(), lambda x: x.sort(1).values), (size,))
    points = partition.interior_points()
    assert len({tuple(np.argsort(point)) for point in points}) == int(np.prod(range(1, size + 1)))
    assert partition.num_regions >= int(np.prod(range(1, size + 1)))


def test_pairs_are_compared_along_the_braid_arrangement() -> None:
    model = Lambda(nn.Identity(), lambda x: torch.stack([torch.maximum(x[:, i], x[:, j]) for i, j in PAIRS], 1))
    assert partition_of(model, (4,)).num_regions == 24


PAIRS = list(combinations(range(4), 2))


def largest_entries(planes: np.ndarray, offsets: np.ndarray, windows: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Which entry is the largest of each window, for all choices that an open set of points has: by linear programs."""
    for choice in product(*windows):
        others = [(i, j) for i, window in zip(choice, windows, strict=True) for j in window if j != i]
        rows = np.array([np.append(planes[j] - planes[i], 1.0) for i, j in others])
        bounds = [(None, None)] * planes.shape[1] + [(0.0, 1.0)]
        right = np.array([offsets[i] - offsets[j] for i, j in others])
        result = linprog(np.append(np.zeros(planes.shape[1]), -1.0), rows, right, bounds=bounds, method="highs")
        if result.status == 0 and result.x[-1] > 1e-7:
            yield choice


POOLS = {
    "pairs": (nn.MaxPool1d(2), [[0, 1], [2, 3], [4, 5]]),
    "threes": (nn.MaxPool1d(3), [[0, 1, 2], [3, 4, 5]]),
    "overlapping": (nn.MaxPool1d(3, 2), [[0, 1, 2], [2, 3, 4]]),
    "padded": (nn.MaxPool1d(3, 2, padding=1), [[0, 1], [1, 2, 3], [3, 4, 5]]),
    "dilated": (nn.MaxPool1d(2, 1, dilation=3), [[0, 3], [1, 4], [2, 5]]),
    "all": (nn.MaxPool1d(6), [[0, 1, 2, 3, 4, 5]]),
    "adaptive": (nn.AdaptiveMaxPool1d(4), [[0, 1], [1, 2], [3, 4], [4, 5]]),
}


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize(("pool", "windows"), POOLS.values(), ids=POOLS.keys())
def test_max_pooling_has_the_arg_max_arrangement(pool: nn.Module, windows: list[list[int]], inputs: int) -> None:
    """The largest entries are the same all over a region, all choices of them occur, and each is one affine map.

    Three cells of an arg-max arrangement that meet like the arms of a Y are no binary space partition: any first cut
    splits one of them. So a window of k > 2 entries may have more regions than cells, and never more than 2^(k - 1).
    """
    torch.manual_seed(inputs)
    linear = nn.Linear(inputs, 6).double()
    planes, offsets = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    program = read_model(nn.Sequential(linear, nn.Unflatten(1, (1, 6)), pool, nn.Flatten()))
    partition = enumerate_regions(program, WholeSpace())
    values = partition.interior_points() @ planes.T + offsets
    chosen = [tuple(window[np.argmax(row[window])] for window in windows) for row in values]
    assert set(chosen) == set(largest_entries(planes, offsets, windows))
    maps = {tuple(np.round(program.affine_maps(p)[2].ravel(), 9)) for p in partition.patterns()}
    assert len(maps) == len(set(chosen))
    for choice, pattern in zip(chosen, partition.patterns(), strict=True):
        np.testing.assert_allclose(program.affine_maps(pattern)[2], planes[list(choice)], atol=1e-12)
    if max(map(len, windows)) == 2:
        assert partition.num_regions == len(maps)
    assert partition.num_regions <= len(maps) * 2 ** (program.num_neurons - len(windows))


SLOW = {
    "U-Net", "recurrent module", "GroupSort", "graph convolution", "Hardtanh", "PReLU", "LeakyReLU",
    "overlapping pools", "autoencoder", "decoder", "recurrent cell", "functional", "pooled image",
}  # fmt: skip
REFERENCE = [pytest.param(s, marks=[pytest.mark.slow] * (s.name in SLOW), id=s.name) for s in PIECEWISE]


@pytest.mark.parametrize("specimen", REFERENCE)
def test_all_engines_and_brute_force_find_the_same_patterns(specimen: Specimen) -> None:
    program = read_model(specimen.model(), specimen.example().double())
    expected = brute_force_patterns(program, specimen.domain)
    for method in METHODS:
        partition = enumerate_regions(program, specimen.domain, method=method)
        assert {tuple(pattern) for pattern in partition.patterns().tolist()} == expected


@pytest.mark.parametrize("specimen", [s for s in PIECEWISE if s.name in SLOW], ids=str)  # the others are above
def test_all_engines_find_the_same_patterns(specimen: Specimen) -> None:
    program = read_model(specimen.model(), specimen.example().double())
    found = [enumerate_regions(program, specimen.domain, method=method).patterns() for method in METHODS]
    sets = [{tuple(pattern) for pattern in patterns.tolist()} for patterns in found]
    assert sets[0] == sets[1] == sets[2]
    assert len(sets[0]) == len(found[0]) == len(found[1]) == len(found[2])
