"""`torch.func`: batches of batches, Jacobians in both ways, Hessians, calls with other weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vjp, vmap

from tests.cases import thinned
from tests.modules.torch_networks import NAMES, assert_same, model_of, network, points, points_and_outsiders, shared

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


TRUNKS = tuple(name for name in NAMES if name != "head")


@pytest.mark.parametrize("name", NAMES)
def test_vmap(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name, 12)
    expected = shallow(x)
    assert_same(vmap(shallow)(x), expected)
    assert_same(vmap(shallow, chunk_size=5)(x), expected)
    assert_same(vmap(shallow, in_dims=-1, out_dims=-1)(x.movedim(0, -1)), expected.movedim(0, -1))
    pairs = x.unflatten(0, (2, 3, 4))
    assert_same(vmap(vmap(vmap(shallow)))(pairs), expected.unflatten(0, (2, 3, 4)))
    assert_same(vmap(shallow, in_dims=1, out_dims=1)(pairs), expected.unflatten(0, (2, 3, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_jacobians(name: str) -> None:
    shallow, model, x = shared(name), model_of(name), points(name, 5)
    expected = vmap(jacrev(lambda row: model(row[None])[0]))(x)
    tolerance = 1e-6 if name == "head" else 1e-9  # the model itself has a softmax in float32
    for jacobian in (jacrev(shallow), jacfwd(shallow)):
        found = vmap(jacobian)(x)
        assert_same(found, expected, tolerance)
        assert_same(torch.stack([jacobian(row) for row in x]), found)
    assert name == "head" or torch.equal(vmap(jacrev(shallow))(x), shallow.local_map(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_directional_derivatives(name: str) -> None:
    shallow, x = shared(name), points(name, 5)
    jacobian = vmap(jacrev(shallow))(x).flatten(1 + len(shallow.out_shape)).flatten(1, -2)
    direction, weights = torch.randn_like(x), torch.randn_like(shallow(x))
    y, along = jvp(shallow, (x,), (direction,))
    assert_same(y, shallow(x))
    assert_same(along.flatten(1), (jacobian @ direction.flatten(1)[..., None])[..., 0])
    y, pull_back = vjp(shallow, x)
    assert_same(y, shallow(x))
    (back,) = pull_back(weights)
    assert_same(back.flatten(1), (weights.flatten(1)[:, None] @ jacobian)[:, 0])


@pytest.mark.parametrize("name", TRUNKS)
def test_second_derivatives_are_zero_inside_of_regions(name: str) -> None:
    shallow, x = shared(name), points(name, 3)
    found = vmap(hessian(shallow))(x)
    assert found.shape == (3, *shallow.out_shape, *shallow.in_shape, *shallow.in_shape)
    assert not found.any()
    assert not vmap(jacfwd(jacfwd(shallow)))(x).any()


def test_the_second_derivative_behind_a_head_is_that_of_the_head() -> None:
    shallow, x = shared("head"), points("head", 3)

    def written_out(row: Tensor) -> Tensor:
        weight, bias = shallow.local_map(row.detach())
        return torch.softmax(weight @ row + bias, -1) * torch.tensor([0.1, 0.2, 0.7]).double()

    expected = torch.stack(
        [torch.autograd.functional.hessian(lambda r, o=o: written_out(r)[o], row) for row in x for o in range(3)]
    )
    assert_same(vmap(hessian(shallow))(x).flatten(0, 1), expected, 1e-6)


@pytest.mark.parametrize("name", TRUNKS)
def test_calls_with_other_weights(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name, 6)
    weights, biases = shallow.selection.weights, shallow.selection.biases
    other = {"selection.weights": 2.0 * weights, "selection.biases": 2.0 * biases}
    if shallow.selection.skip is not None:
        other["selection.skip"] = 2.0 * shallow.selection.skip
    assert_same(functional_call(shallow, other, (x,)), 2.0 * shallow(x))
    assert torch.equal(shallow.selection.weights, weights)


@pytest.mark.parametrize("name", ["dense", "descent in a box", "projected"])
def test_an_ensemble_over_weights(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name, 6)
    scales = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def scaled(scale: Tensor) -> Tensor:
        other = {f"selection.{key}": scale * getattr(shallow.selection, key) for key in ("weights", "biases")}
        return functional_call(shallow, other, (x,))

    expected = torch.stack([scale * shallow(x) for scale in scales])
    assert_same(vmap(scaled)(scales), expected)
    found = jacrev(scaled)(scales[0])[:6]
    assert_same(found, shallow(x)[:6])
    assert_same(jacfwd(scaled)(scales[0])[:6], shallow(x)[:6])


@pytest.mark.parametrize("name", ["dense", "descent in a box"])
def test_a_gradient_for_each_row(name: str) -> None:
    shallow, x = network(name), points(name, 6)

    def loss(weights: Tensor, row: Tensor) -> Tensor:
        return functional_call(shallow, {"selection.weights": weights}, (row[None],)).square().sum()

    found = vmap(torch.func.grad(loss), in_dims=(None, 0))(shallow.selection.weights, x)
    for row, gradient in zip(x, found, strict=True):
        weights = shallow.selection.weights.clone().requires_grad_()
        loss(weights, row).backward()
        assert_same(gradient, weights.grad)


@pytest.mark.parametrize("name", thinned(NAMES, "descent in a box", "head"))
def test_forward_mode_in_compiled_code(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow, x = network(name), points(name)
    direction = torch.ones_like(x)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, direction: jvp(shallow, (x,), (direction,))[1], backend="aot_eager")
    rounding = 1e-6 if name == "head" else 1e-9  # its own code names float32
    assert_same(compiled(x, direction), jvp(model_of(name), (x,), (direction,))[1], rounding)


@pytest.mark.parametrize("name", ["dense", "descent in a box", "projected", "skip", "head"])
def test_every_order_of_modes(name: str) -> None:
    shallow, deep, x = network(name), model_of(name), points(name)[0]

    def bent(network: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: network(x[None])[0].sum() if name == "head" else network((x + 0.01 * x.sin())[None])[0].sum()

    for outer, inner in itertools.product((jacfwd, jacrev), repeat=2):
        expected = outer(inner(bent(deep)))(x)
        assert expected.abs().max() > 0.0
        assert_same(outer(inner(bent(shallow)))(x), expected, 1e-9)
        assert_same(jacfwd(outer(inner(bent(shallow))))(x), jacfwd(outer(inner(bent(deep))))(x), 1e-9)
