"""Functions: what a network holds is what it computes, wherever its tensors are and whatever they have become."""

from __future__ import annotations

import pytest
import torch

from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, VisitedReLU, transform
from torch_shallow.certify import certify
from torch_shallow.errors import TransformError
from torch_shallow.functions import PiecewiseAffine, TreeFunction, VisitedFunction, require_all_regions

pytestmark = pytest.mark.quick


def networks() -> list[ShallowReLU | VisitedReLU]:
    torch.manual_seed(0)
    model = chain(2, 8, 3).double()
    data = torch.rand(200, 2, dtype=torch.float64)
    head = torch.nn.Sequential(*model, torch.nn.Softmax(-1))
    return [
        transform(model),
        transform(model, domain=Box(-1.0, 1.0), store_maps=False),
        transform(head),
        transform(model, data=data),
    ]


@pytest.mark.parametrize("number", range(4), ids=["tree", "maps on demand", "head", "visited"])
def test_a_network_is_its_function(number: int) -> None:
    network = networks()[number]
    function, x = network.function, torch.rand(4, 50, 2, dtype=torch.float64)
    assert isinstance(function, PiecewiseAffine)
    assert isinstance(function, VisitedFunction if number == 3 else TreeFunction)
    assert torch.equal(torch.nan_to_num(function(x)), torch.nan_to_num(network.trunk(x)))
    assert torch.equal(function.locate(x), network.locate(x))
    assert (function.in_shape, function.out_shape) == (network.in_shape, network.trunk_shape)
    assert (function.num_regions, function.complete) == (network.num_regions, network.complete)
    known = function.locate(x[0]) >= 0
    weight, bias = function.affine_maps(function.locate(x[0])[known])
    by_maps = torch.einsum("poi,pi->po", weight, x[0][known]) + bias
    assert torch.allclose(by_maps, function(x[0])[known], rtol=0.0, atol=1e-12)


def test_a_function_follows_the_tensors_of_its_network() -> None:
    network = networks()[0]
    function, x = network.function, torch.rand(50, 2, dtype=torch.float64)
    with torch.no_grad():
        network.unfreeze().selection.biases += 1.0
    assert torch.equal(function(x), network(x))
    assert network.function.may_be_discontinuous
    assert network.function == function


def test_a_function_of_visited_regions_grows_with_its_network() -> None:
    model, data = chain(2, 8, 3).double(), torch.rand(200, 2, dtype=torch.float64)
    network = transform(model, data=data[:3])
    function, region = network.function, network.regions[0]
    assert network.grow(data) > 0
    assert function.num_regions == network.num_regions == len(function.points)
    assert f"of {network.num_regions} visited" in repr(region)
    certify(function, model).require()


def test_what_needs_a_tree_says_so_of_visited_regions() -> None:
    with pytest.raises(
        AttributeError,
        match="merge: expected a network with a tree of cuts, found a VisitedReLU: this network knows only the regions",
    ):
        networks()[3].merge()


@pytest.mark.parametrize("other", [None, torch.zeros(2), networks()[0].regions[0], torch.nn.Linear(2, 2)], ids=str)
def test_only_networks_of_regions_are_certified(other: object, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--typecheck"):
        pytest.skip("types are checked before")
    with pytest.raises(TypeError, match="shallow: expected a shallow network, found"):
        certify(other, chain(2, 8, 3))


def test_functions_of_two_networks_differ() -> None:
    one, other = networks()[0], networks()[0]
    assert one.function == one.function
    assert one.function != other.function
    assert one.regions[0] == one.regions[0] != other.regions[0]


def test_what_needs_all_regions_says_what_is_missing() -> None:
    with pytest.raises(TransformError, match="a proof: it needs all, but this network knows only the regions that"):
        require_all_regions(networks()[3].function, "a proof", "it needs all")
