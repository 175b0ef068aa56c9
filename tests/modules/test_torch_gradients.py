"""Gradients of a network in all the ways in which torch takes them or is told not to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.modules.torch_networks import NAMES, assert_same, network, points, points_and_outsiders, shared
from torch_shallow import ShallowReLU

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself


def inner(name: str, count: int = 4) -> Tensor:
    """Points that stay in their regions while a check moves them."""
    shallow, x = shared(name), points(name, 200)
    steps = [1e-5 * torch.randn_like(x) for _ in range(8)] + [torch.zeros_like(x)]
    same = torch.stack([shallow.locate(x + step) == shallow.locate(x) for step in steps]).all(0)
    return x[same][:count].clone().requires_grad_()


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_inside_of_regions(name: str) -> None:
    x = inner(name)
    shallow = shared(name)
    assert gradcheck(shallow, (x,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(shallow, (x,), check_fwd_over_rev=True)


@pytest.mark.parametrize("name", ["dense", "descent in a box", "skip"])
def test_derivatives_by_weights(name: str) -> None:
    shallow, x = network(name), inner(name)

    def call(weights: Tensor, biases: Tensor, x: Tensor) -> Tensor:
        other = {"selection.weights": weights, "selection.biases": biases}
        return torch.func.functional_call(shallow, other, (x,))

    weights, biases = (part.clone().requires_grad_() for part in (shallow.selection.weights, shallow.selection.biases))
    assert gradcheck(call, (weights, biases, x), check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(call, (weights, biases, x), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_outside_of_the_domain(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name).requires_grad_()
    (found,) = torch.autograd.grad(shallow(x)[: len(x) // 2].sum(), x)
    assert found.isfinite().all()
    assert not found[len(x) // 2 :].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dense", "descent in a box", "projected", "skip"])
def test_the_gradient_has_the_dtype_of_the_input(name: str, dtype: torch.dtype) -> None:
    shallow, x = shared(name), points(name, 5).to(dtype).requires_grad_()
    (found,) = torch.autograd.grad(shallow(x).sum(), x)
    weight, _ = shallow.local_map(x.detach().double())
    assert found.dtype == dtype
    assert_same(found.double(), weight.sum(1), 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", NAMES)
def test_without_gradients(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name)
    expected = shallow(x)
    assert not expected.requires_grad
    asked = x.clone().requires_grad_()
    assert shallow(asked).requires_grad
    with torch.no_grad():
        assert not shallow(asked).requires_grad
        assert_same(shallow(asked), expected)
    with torch.inference_mode():
        assert shallow(x).is_inference()
        assert_same(shallow(x).clone(), expected)
        made_here = x.clone()
        assert_same(shallow(made_here).clone(), expected)
    assert_same(shallow(made_here), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_the_precision(name: str, dtype: torch.dtype) -> None:
    shallow = shared(name)
    for x in (points_and_outsiders(name), points_and_outsiders(name).float()):
        expected = shallow(x)
        with torch.autocast("cpu", dtype=dtype):
            found = shallow(x)
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_trained_unless_asked(name: str) -> None:
    shallow = network(name)
    assert not any(parameter.requires_grad for parameter in shallow.parameters())
    shallow.requires_grad_()
    assert list(shallow.parameters()) == []
    x = points(name)
    assert not shallow(x).requires_grad


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("dense", [True, False])
def test_the_gradient_of_a_sum_over_a_large_batch(dense: bool) -> None:
    # Rows in many threads, each with the gradient of its own region.
    shallow = ShallowReLU(shared("descent in a box").partition, dense=dense)
    x = (3.0 * torch.rand(20_000, 2, dtype=torch.float64) - 1.0).requires_grad_()
    (found,) = torch.autograd.grad(shallow(x)[:, 1].sum(), x)
    assert torch.equal(found, shallow.local_map(x.detach())[0][:, 1])
