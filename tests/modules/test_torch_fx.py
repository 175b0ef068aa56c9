"""`torch.fx.symbolic_trace` shows a network as its three layers."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from tests.modules.torch_networks import NAMES, assert_same, network, points, points_and_outsiders
from torch_shallow import ShallowReLU


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a proxy is no tensor


def layers_of(traced: torch.fx.GraphModule) -> list[str]:
    """The layers whose weights are used, in this order."""
    owners = [str(node.target).split(".") for node in traced.graph.nodes if node.op == "get_attr"]
    return list(dict.fromkeys(owner for owner, *weight in owners if weight))


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_the_network(name: str) -> None:
    shallow = network(name)
    traced = torch.fx.symbolic_trace(shallow)
    assert isinstance(traced, torch.fx.GraphModule)
    x = points_and_outsiders(name)
    for given in (x, x[:3].float(), x[0], x[:0], x[None]):
        assert_same(traced(given), shallow(given))
    assert layers_of(traced)[:3] == ["half_spaces", "indicator", "selection"]
    assert set(layers_of(traced)[3:]) <= {"head"}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_graph(name: str) -> None:
    shallow, x = network(name), points(name).requires_grad_()
    (found,) = torch.autograd.grad(torch.fx.symbolic_trace(shallow)(x).sum(), x)
    (expected,) = torch.autograd.grad(shallow(x).sum(), x)
    assert_same(found, expected)


@pytest.mark.parametrize("dense", [True, False])
def test_the_graph_in_its_own_words(dense: bool) -> None:
    traced = torch.fx.symbolic_trace(ShallowReLU(network("descent in a box").partition, dense=dense))
    calls = [getattr(node.target, "__name__", "") for node in traced.graph.nodes if node.op == "call_function"]
    assert ("locate" in calls) == (not dense)
    assert "flatten_points" in calls
    assert "unflatten" in calls
    assert "select" in calls
