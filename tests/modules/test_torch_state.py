"""A network as a module among modules: its state, its copies, its parent."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.modules.torch_networks import NAMES, assert_same, model_of, network, points, points_and_outsiders, shared
from torch_shallow import ShallowReLU, transform
from torch_shallow.errors import TransformError

LAYERS = ("half_spaces", "indicator", "selection")


def emptied(name: str) -> ShallowReLU:
    """The same network with other numbers, and without a tree that could be descended."""
    shallow = network(name)
    for key, buffer in shallow.state_dict().items():
        buffer.fill_(0)
        if key == "indicator.tree":
            buffer[:, :2] = -1
    return shallow


@pytest.mark.parametrize("name", NAMES)
def test_state_dicts(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name)
    expected, state = shallow(x), shallow.state_dict()
    assert {key.split(".")[0] for key in state} <= {*LAYERS, "first_limit", "second_limit", "head"}
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    for strict in (True, False):
        other = emptied(name)
        assert not torch.equal(other(x).nan_to_num(), expected.nan_to_num())
        assert list(other.load_state_dict(loaded, strict=strict)) == [[], []]
        assert_same(other(x), expected)
    other = emptied(name).to("meta")
    other.load_state_dict(loaded, assign=True)
    if not other.dense:  # whose masks are made from the tree, not loaded
        assert_same(other(x), expected)


def test_the_state_of_another_network_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"size mismatch for half_spaces\.rows"):
        network("descent").load_state_dict(shared("descent in a box").state_dict(), strict=False)
    with pytest.raises(RuntimeError, match=r'Missing key.*"selection\.skip"'):
        network("skip").load_state_dict({k: v for k, v in shared("skip").state_dict().items() if "skip" not in k})


@pytest.mark.parametrize("wrong", ["another", "cycle", "out of range"])
def test_another_tree_is_refused_and_nothing_of_it_loaded(wrong: str) -> None:
    shallow, x = network("descent in a box"), points_and_outsiders("descent in a box")
    expected, state = shallow(x), {key: value.clone() for key, value in shallow.state_dict().items()}
    tree = state["indicator.tree"]
    if wrong == "another":
        at = (tree >= 0).all(1).nonzero()[0, 0]
        tree[at, :2] = tree[at, :2].flip(0)
    else:
        tree.fill_(0 if wrong == "cycle" else -(10**12))
    with pytest.raises(RuntimeError, match=r"indicator\.tree: expected the tree of cuts of this network"):
        shallow.load_state_dict(state)
    assert_same(shallow(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_copies(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name)
    expected = shallow(x)
    for copied in (copy.deepcopy(shallow), pickle.loads(pickle.dumps(shallow))):
        assert type(copied) is ShallowReLU
        assert_same(copied(x), expected)
        assert repr(copied) == repr(shallow)
        for buffer in copied.selection.buffers():
            buffer.zero_()
        assert_same(shallow(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_shared_memory(name: str) -> None:
    shallow, x = network(name), points_and_outsiders(name)
    assert shallow.share_memory() is shallow
    assert all(tensor.is_shared() for tensor in shallow.state_dict().values())
    assert_same(shallow(x), shared(name)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_its_weights_stay_float64(name: str, dtype: torch.dtype) -> None:
    shallow, x = network(name), points_and_outsiders(name)
    before = {key: (tensor.dtype, tensor.clone()) for key, tensor in shallow.named_buffers()}
    for moved in (shallow.to(dtype), shallow.type(dtype), shallow.to("cpu", dtype), shallow.to(x.to(dtype))):
        assert moved is shallow
        assert all(torch.equal(buffer, before[key][1]) for key, buffer in shallow.named_buffers())
        assert all(buffer.dtype == before[key][0] for key, buffer in shallow.named_buffers())
    assert_same(shallow(x), shared(name)(x))


@pytest.mark.parametrize("name", NAMES)
def test_on_the_meta_device_shapes_are_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shallow = network(name).to("meta")
    assert all(buffer.is_meta for buffer in shallow.buffers())
    y = shallow(torch.zeros(5, *shallow.in_shape, device="meta"))
    assert y.is_meta
    assert y.shape == (5, *shallow.out_shape)
    assert y.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_child_of_another_module(name: str) -> None:
    shallow, x = network(name), points_and_outsiders(name)
    expected, size = shallow(x), shallow.out_shape[-1]
    parent = nn.ModuleDict({"first": shallow, "last": nn.Linear(size, 1)})
    assert [key for key, _ in parent.named_parameters()] == ["last.weight", "last.bias"]
    assert {key for key in parent.state_dict() if key.startswith("first.")} == {
        f"first.{key}" for key in shallow.state_dict()
    }
    parent.half().double().train()
    assert shallow.training
    assert_same(shallow(x), expected)
    assert not parent.eval()["first"].training
    seen: list[nn.Module] = []
    parent.apply(seen.append)
    assert shallow in seen
    assert all(getattr(shallow, layer) in seen for layer in LAYERS)
    other = copy.deepcopy(parent)
    other["first"] = emptied(name)
    other.load_state_dict(parent.state_dict())
    assert_same(other["last"](other["first"](x)), parent["last"](expected))
    optimizer = torch.optim.SGD(parent.parameters(), 0.1)
    parent["last"](parent["first"](x[: len(x) // 2])).sum().backward()
    optimizer.step()
    assert_same(shallow(x), expected)
    assert not torch.equal(parent["last"].weight, other["last"].weight)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * weight


@pytest.mark.parametrize("name", ["dense", "descent in a box", "projected"])
def test_parametrized_weights(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow, x = network(name), points_and_outsiders(name)
    expected = shallow(x)
    for layer, weight in (("half_spaces", "rows"),):
        parametrize.register_parametrization(getattr(shallow, layer), weight, Doubled())
    assert_same(shallow(x), expected)  # the same half-spaces, twice as steep
    for weight in ("weights", "biases"):
        parametrize.register_parametrization(shallow.selection, weight, Doubled())
    assert_same(shallow(x), 2.0 * expected)
    assert_same(torch.compile(shallow, fullgraph=True, backend="aot_eager")(x), 2.0 * expected)
    shallow.selection.parametrizations.weights.original.mul_(0.5)
    shallow.selection.parametrizations.biases.original.mul_(0.5)
    assert_same(shallow(x), expected)
    for layer, weight in (("half_spaces", "rows"), ("selection", "weights")):
        parametrize.remove_parametrizations(getattr(shallow, layer), weight)
    assert_same(shallow(x), expected)


def test_hooks_see_every_layer_that_is_called() -> None:
    shallow, seen = network("dense"), []
    for name in LAYERS:
        getattr(shallow, name).register_forward_hook(lambda *_, name=name: seen.append(name))
    shallow(points_and_outsiders("dense"))
    assert seen == list(LAYERS)


def test_a_new_network_is_in_eval_mode_and_so_stay_its_parts() -> None:
    shallow = network("head")
    assert not any(module.training for module in shallow.modules())
    assert shallow.train() is shallow
    assert shallow.training
    assert not any(module.training for child in shallow.children() for module in child.modules())


def test_made_in_inference_mode_it_still_has_gradients() -> None:
    name = "descent in a box"
    with torch.inference_mode():
        shallow = transform(model_of(name), domain=shared(name).domain)
    x = points(name).requires_grad_()
    assert torch.autograd.gradcheck(shallow, (x,), eps=1e-9, atol=1e-5)


def test_weights_that_are_computed_from_others_cannot_be_unfrozen() -> None:
    shallow = network("dense")
    parametrize.register_parametrization(shallow.selection, "weights", Doubled())
    with pytest.raises(TransformError, match="unfreeze: expected weights as a buffer"):
        shallow.unfreeze()


def test_the_half_spaces_of_another_model_with_the_same_tree_are_refused() -> None:
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    shallow, other = transform(model), copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(2.0)
        other[0].bias.mul_(2.0)
        other[0].bias[0] += 1e-3
    x = torch.randn(20, 1)
    expected, state = shallow(x), transform(other).state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in shallow.state_dict().items()
    }
    with pytest.raises(RuntimeError, match=r"half_spaces\.rows: expected the half-spaces of this network"):
        shallow.load_state_dict({key: value for key, value in state.items() if "half" in key}, strict=False)
    assert torch.equal(shallow(x), expected)


def test_a_network_with_loaded_local_models_knows_that_they_are_others() -> None:
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    shallow, other = transform(model), copy.deepcopy(model)
    same = {k: v.float() if v.is_floating_point() else v for k, v in transform(model).state_dict().items()}
    shallow.load_state_dict(same)
    assert not shallow.may_be_discontinuous
    assert shallow.made_from(model)
    with torch.no_grad():
        other[2].weight.mul_(3.0)  # the half-spaces are the same
    shallow.load_state_dict(transform(other).state_dict())
    assert shallow.may_be_discontinuous
    assert not shallow.made_from(model)
