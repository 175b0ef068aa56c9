"""Hardening gives a shallow network with the trained numbers, whose regions can all be looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import examples, thinned
from tests.modules.laws import assert_equal, corner_points, put_into
from tests.modules.tuned import TUNED, shaken, shallow_of
from tests.zoo import ALL, Specimen, chain, tent
from torch_shallow import Box, ShallowReLU, transform
from torch_shallow.errors import TransformError
from torch_shallow.geometry.tree import FreeTree
from torch_shallow.modules.soft_relu import SoftReLU

SOME = thinned(TUNED, "2-5-4-1", "image", "30-5-4-2", "PReLU", "shortcut")
KNOWN = tuple(s for s in ALL if s.regions is not None and s.regions <= 100)


def points_of(shallow: ShallowReLU, count: int = 400, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    size = int(np.prod(shallow.in_shape))
    points = np.concatenate([scale * rng.standard_normal((count // 4, size)) for scale in (0.1, 1.0, 10.0, 1000.0)])
    return torch.from_numpy(put_into(points, shallow.domain, shallow)).reshape(-1, *shallow.in_shape)


def descend(soft: SoftReLU, x: Tensor) -> tuple[Tensor, Tensor]:
    """Region and output of each point by the tree and the numbers of a soft network, one cut after the other."""
    flat, regions, outputs = x.flatten(1), [], []
    u = flat if soft.projection is None else flat @ soft.projection.T
    for row, point in zip(flat, u, strict=True):
        node = 0 if len(soft.offsets) else ~0
        while node >= 0:
            number = soft.half_space_of[node]
            node = int(soft.partition.children[node, int(soft.normals[number] @ point + soft.offsets[number] > 0)])
        y = soft.weights[~node] @ point + soft.biases[~node]
        regions.append(~node)
        outputs.append(y if soft.skip is None else y + soft.skip @ row)
    return torch.tensor(regions), torch.stack(outputs).detach()


@pytest.mark.parametrize("specimen", [*SOME, *thinned(KNOWN, *map(str, KNOWN[::4]))], ids=str)
def test_hardened_at_once_it_is_the_same_network(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    hard = shallow.soften(3.0).harden()
    x = torch.cat([points_of(shallow), corner_points(shallow, most=10)])
    assert torch.equal(hard(x), shallow(x))
    assert torch.equal(hard.locate(x), shallow.locate(x))
    assert np.array_equal(hard.partition.points, shallow.partition.points)
    assert isinstance(hard.partition, FreeTree)
    assert hard.may_be_discontinuous
    assert "may be discontinuous" in repr(hard)
    assert hard.continuity_gap().value <= 1e-9 * (1.0 + float(shallow.trunk(x).abs().max()))


def assert_sound(hard: ShallowReLU) -> None:
    """Every region has an interior point, where the network finds it, inside of its half-spaces."""
    inside = torch.from_numpy(hard.partition.interior_points()).reshape(-1, *hard.in_shape)
    assert torch.equal(hard.locate(inside), torch.arange(hard.num_regions))
    assert hard.num_regions == hard.partition.num_cuts + 1 == len(hard.selection.biases)
    children = hard.partition.children
    if len(children):
        assert sorted(children[children < 0]) == list(range(-hard.num_regions, 0))
        assert sorted(children[children >= 0]) == list(range(1, hard.partition.num_cuts))
    assert all(child < 0 or child > cut for cut, row in enumerate(children) for child in row)


@pytest.mark.parametrize("specimen", SOME, ids=str)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 1.0]))
@examples(3)
def test_it_is_the_descent_of_the_tree_with_the_trained_numbers(specimen: Specimen, seed: int, size: float) -> None:
    original = shallow_of(specimen)
    soft = original.soften(3.0)
    shaken(soft, size, seed)
    hard = soft.harden()
    assert_sound(hard)
    assert hard.num_regions <= original.num_regions
    x = points_of(original, 200, seed)
    region, expected = descend(soft, x)
    assert_equal(hard.trunk(x).flatten(1), expected, 1e-9)
    kept = hard.locate(x)
    assert len(set(zip(region.tolist(), kept.tolist(), strict=True))) == len(region.unique()) == len(kept.unique())
    if hard.head is not None:
        assert_equal(hard(x), hard.head(hard.trunk(x)), 1e-12)


def test_regions_are_removed_exactly_where_they_are_empty() -> None:
    # In one dimension regions are intervals between breakpoints: count those that are left.
    for seed in range(20):
        soft = transform(tent(4).double(), domain=Box(0.0, 1.0)).soften(3.0)
        shaken(soft, 0.3, seed)
        hard = soft.harden()
        edges = (-soft.offsets / soft.normals[:, 0]).detach()
        edges = edges[(edges > 0.0) & (edges < 1.0)].sort().values
        edges = torch.cat([torch.zeros(1), edges, torch.ones(1)])
        middle = (edges[1:] + edges[:-1])[:, None] / 2
        assert hard.num_regions == len(descend(soft, middle)[0].unique())


def test_regions_can_be_looked_at() -> None:
    soft = shallow_of("2-5-4-1").soften(3.0)
    shaken(soft, 0.3)
    hard = soft.harden()
    for region in hard.regions:
        assert all(
            name.startswith("cut ") and name.endswith(("positive", "negative")) for name in region.half_spaces.names
        )
        assert (region.half_spaces.neurons == -1).all()
        assert bool(region.contains(region.interior_point))
        assert region.contains(region.vertices(), 1e-7).all()
        assert 0 < len(region.facets()) <= len(region.half_spaces)
        centre, radius = region.chebyshev()
        assert radius > 0.0
        assert int(hard.locate(centre)) == region.index
        with pytest.raises(TransformError, match="belong to no deep network"):
            _ = region.pattern
    with pytest.raises(TransformError, match="belong to no deep network"):
        hard.certify(shallow_of("2-5-4-1"))


def test_areas_of_hardened_regions_add_up_to_the_domain() -> None:
    from scipy.spatial import ConvexHull

    torch.manual_seed(0)
    soft = transform(chain(2, 6, 5, 1).double(), domain=Box(-1.0, 1.0)).soften(3.0)
    shaken(soft, 0.5)
    hard = soft.harden()
    areas = [ConvexHull(region.vertices().numpy()).volume for region in hard.regions]
    assert sum(areas) == pytest.approx(4.0, rel=1e-9)


@pytest.mark.parametrize("specimen", SOME, ids=str)
def test_a_hardened_network_is_softened_and_hardened_again(specimen: Specimen) -> None:
    soft = shallow_of(specimen).soften(3.0)
    shaken(soft, 0.2)
    hard = soft.harden()
    again = hard.soften(5.0).harden()
    x = points_of(hard)
    assert torch.equal(again(x), hard(x))
    if hard.num_regions == len(soft.biases):
        assert_equal(hard.soften(3.0).trunk(x), soft.trunk(x), 1e-9)
    trained = hard.unfreeze()
    shaken(trained, 0.1)
    assert torch.equal(trained.soften(2.0).harden()(x), trained(x))


def test_a_fixed_input_and_constant_cuts() -> None:
    """Cuts that read only a fixed input are constant in the domain."""
    torch.manual_seed(0)
    soft = transform(chain(2, 8, 6, 1).double(), domain=Box([-2.0, 0.5], [2.0, 0.5])).soften(3.0)
    assert len(soft.offsets) > 2
    with torch.no_grad():
        soft.normals[0, 0] = 0.0
        soft.normals[1], soft.offsets[1] = 0.0, 0.0
    hard = soft.harden()
    assert_sound(hard)
    x = torch.stack([torch.linspace(-2, 2, 101, dtype=torch.float64), torch.full((101,), 0.5, dtype=torch.float64)], 1)
    assert_equal(hard(x), descend(soft, x)[1], 1e-9)


def test_slivers_are_removed_and_their_neighbour_takes_their_place() -> None:
    soft = transform(tent(2).double(), domain=Box(0.0, 1.0)).soften(3.0)
    with torch.no_grad():
        # Move the second breakpoint to within 1e-13 of the first.
        edges = -soft.offsets / soft.normals[:, 0]
        soft.offsets[1] = -(edges[0] - 1e-13) * soft.normals[1, 0]
    hard = soft.harden()
    assert_sound(hard)
    assert hard.num_regions < len(soft.biases)


def test_parameters_that_are_no_numbers() -> None:
    soft = shallow_of("2-5-4-1").soften(3.0)
    with torch.no_grad():
        soft.normals[0, 0], soft.biases[1] = torch.nan, torch.inf
    with pytest.raises(
        TransformError, match="harden: expected finite parameters, found NaN or infinity in normals, biases"
    ):
        soft.harden()


def test_the_soft_network_goes_on_training_by_itself() -> None:
    soft = shallow_of("shortcut").soften(3.0)
    hard = soft.harden()
    x = points_of(hard)
    before = hard(x)
    shaken(soft, 1.0)
    assert torch.equal(hard(x), before)
    assert not list(hard.parameters())
