"""`torch.fx.symbolic_trace` shows a network as its three layers."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from tests.modules.torch_networks import NAMES, assert_same, network, points, points_and_outsiders
from torch_shallow import ShallowReLU, trace
from torch_shallow.functions.layers import Selection


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a proxy is no tensor


def layers_of(traced: torch.fx.GraphModule) -> list[str]:
    """The layers that are called, or whose weights are used, in this order."""
    nodes = [node for node in traced.graph.nodes if node.op in ("call_module", "get_attr")]
    owners = [str(node.target).split(".")[0] for node in nodes if node.op == "call_module" or "." in str(node.target)]
    return list(dict.fromkeys(owners))


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
    assert [node for node in traced.graph.nodes if not node.users and node.op != "output"] == []


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_graph(name: str) -> None:
    shallow, x = network(name), points(name).requires_grad_()
    (found,) = torch.autograd.grad(torch.fx.symbolic_trace(shallow)(x).sum(), x)
    (expected,) = torch.autograd.grad(shallow(x).sum(), x)
    assert_same(found, expected)


@pytest.mark.parametrize("dense", [True, False])
def test_the_graph_in_its_own_words(dense: bool) -> None:
    traced = torch.fx.symbolic_trace(ShallowReLU(network("descent in a box").partition, dense=dense))
    nodes = {node.name: node for node in traced.graph.nodes}
    assert {"half_spaces_rows", "selection", "flatten_points", "unflatten"} <= set(nodes)
    assert isinstance(traced.selection, Selection)
    assert ("indicator" in nodes) == (not dense)
    assert ("indicator_must_be_active" in nodes) == dense
    assert dense or nodes["half_spaces_rows"] in nodes["indicator"].all_input_nodes
    assert dense or nodes["indicator"] in nodes["selection"].all_input_nodes
    # Numbers have names: the rest of the arguments are other nodes.
    assert dense or not any(isinstance(value, int | float | tuple) for node in nodes.values() for value in node.args)


@pytest.mark.parametrize("name", ["descent", "projected", "head"])
def test_a_network_in_a_network(name: str) -> None:
    outer = torch.nn.Sequential(network(name), torch.nn.Identity())
    traced = torch.fx.symbolic_trace(outer)
    assert {"0.indicator", "0.selection"} <= {str(node.target) for node in traced.graph.nodes}
    x = points_and_outsiders(name)
    assert_same(traced(x), outer(x))
    assert_same(torch.fx.symbolic_trace(traced)(x), outer(x))


def test_hooks_of_the_layers_see_what_goes_through_them() -> None:
    shallow, x, seen = network("descent in a box"), points_and_outsiders("descent in a box"), {}
    for name in ("indicator", "selection"):
        shallow.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    y = shallow(x)
    assert torch.equal(seen["indicator"], shallow.locate(x))
    assert_same(seen["selection"], y)


def test_the_theorem_in_plain_layers() -> None:
    literal = network("dense in a box").to_sequential()
    nodes = [node for node in trace(literal).graph.nodes if node.op == "call_module"]
    assert [node.name for node in nodes] == ["half_spaces", "indicator", "selection", "total"]
