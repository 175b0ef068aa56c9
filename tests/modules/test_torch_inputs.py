"""Inputs of any layout and precision; what is lost in lower precision is the rounding of the output alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.modules.torch_networks import NAMES, assert_same, network, points_and_outsiders, shared
from tests.zoo import chain
from torch_shallow import Box, transform

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "every other entry": lambda x: x.repeat_interleave(3, -1)[..., 1::3],
    "turned around": lambda x: x.flip(0).flip(0),
    "from the middle of another": lambda x: torch.cat([x, x, x])[len(x) : 2 * len(x)],
    "a subclass": lambda x: nn.Parameter(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_layouts_in_memory(name: str, layout: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name)
    given = LAYOUTS[layout](x)
    assert torch.equal(given.nan_to_num(), x.nan_to_num())
    before = given.detach().clone()
    assert_same(shallow(given), shallow(x))
    assert torch.equal(shallow.locate(given), shallow.locate(x))
    assert torch.equal(given.nan_to_num(), before.nan_to_num()), "the input was changed"


@pytest.mark.parametrize("name", NAMES)
def test_expanded_inputs(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name)
    expanded = x[3].expand(7, 5, *shallow.in_shape)
    assert_same(shallow(expanded), shallow(x[3]).expand(7, 5, *shallow.out_shape))
    one_value = torch.zeros((), dtype=torch.float64).expand(4, *shallow.in_shape)
    assert_same(shallow(one_value), shallow(torch.zeros(4, *shallow.in_shape, dtype=torch.float64)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_empty_batches(name: str, dtype: torch.dtype) -> None:
    shallow = shared(name)
    for batch in ((0,), (3, 0), (0, 2)):
        x = torch.zeros(*batch, *shallow.in_shape, dtype=dtype, requires_grad=True)
        y = shallow(x)
        assert y.shape == (*batch, *shallow.out_shape)
        assert y.dtype == dtype
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.shape == x.shape


@pytest.mark.parametrize(
    ("dtype", "loss"), [(torch.float32, 2.0**-24), (torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_what_lower_precision_loses(name: str, dtype: torch.dtype, loss: float) -> None:
    # Inputs are what they are; weights stay float64, also after .half(): what is rounded is the output.
    shallow = network(name).to(dtype)
    x = points_and_outsiders(name, 60).to(dtype)
    x = x[shallow.locate(x.double()) >= 0]
    found, exact = shallow(x).double(), shallow(x.double())
    assert len(found) >= 30
    smallest = torch.finfo(dtype).tiny
    assert ((found - exact).abs() <= loss * (1.0 + 1e-9) * exact.abs() + smallest).all()


def test_what_enters_a_head_is_not_rounded() -> None:
    shallow = network("head")
    for weight in (shallow.selection.weights, shallow.selection.biases):
        weight.mul_(100.0)  # so that the softmax would show it
    x = points_and_outsiders("head", 200, torch.float32)[:200]
    found, exact = shallow(x).double(), shallow(x.double())
    assert ((found - exact).abs() <= 2.0**-24 * (1.0 + 1e-9) * exact.abs() + torch.finfo(torch.float32).tiny).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_outputs_too_large_for_the_dtype_are_infinite(dtype: torch.dtype) -> None:
    shallow = transform(chain(1, 3, 2), domain=Box(-1.0, 1.0))
    shallow.selection.weights.copy_(
        torch.tensor([[[1e300], [-1e300]]], dtype=torch.float64).expand_as(shallow.selection.weights)
    )
    y = shallow(torch.tensor([[0.5], [-0.5]], dtype=dtype))
    assert torch.equal(y, torch.tensor([[torch.inf, -torch.inf], [-torch.inf, torch.inf]], dtype=dtype))
