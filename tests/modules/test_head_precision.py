"""A head computes by itself, without a context, what its code computes inside `InFloat64`."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from tests.zoo import chain
from torch_shallow import TransformError, transform
from torch_shallow.modules.network import in_float64
from torch_shallow.program.precision import InFloat64


class Casts(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.float().exp() + torch.softmax(y, -1, torch.float32) + y.to(torch.bfloat16) + y.half().tanh()


class Types(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.type(torch.float16).sin() + y.type("torch.FloatTensor") * y.to(dtype=torch.float32).type(torch.double)


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.1, 0.2, 0.3]))
        self.plain = torch.tensor([0.1, 0.2, 0.3], dtype=torch.bfloat16)

    def forward(self, y: Tensor) -> Tensor:
        total = torch.zeros(3).add_(0.1) + torch.linspace(0.1, 0.3, 3, dtype=torch.float32)
        return y.exp() * self.scale.half() + self.plain + total + torch.full((3,), 0.1)


class WholeNumbers(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        order = y.argsort(-1) + 2
        return torch.where(y > 0.0, 0.1, 0.7) * order / 7 + order.sqrt().log() + (y > 0.1).float() / 3


class InPlace(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        weights = (y.argsort(-1) + 1) / 7
        weights += 0.1
        weights.mul_(y.float())
        values, _ = torch.max(weights.sigmoid_(), -1, keepdim=True)
        first = torch.split(values / 3, 1, 0)[0]
        return torch.cat([first, values[1:]])


class Exponential(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.LayerNorm(3), nn.Sequential(nn.Softplus(), nn.GELU())

    def forward(self, y: Tensor) -> Tensor:
        return self.last(self.norm(y).double())


HEADS = [Casts, Types, Constants, WholeNumbers, InPlace, Exponential, lambda: nn.Softmax(-1), lambda: nn.LayerNorm(3)]


@pytest.mark.parametrize("make", HEADS)
def test_the_same_without_the_context(make: type[nn.Module]) -> None:
    y = torch.randn(50, 3, dtype=torch.float64)
    head, given = make(), make()
    names = {name: tensor.dtype for name, tensor in given.state_dict().items()}
    found = in_float64(given, (3,))
    head.double()
    with InFloat64():
        expected = head(y.clone())
    assert expected.dtype == torch.float64
    assert torch.equal(found(y), expected)
    assert torch.equal(in_float64(found, (3,))(y), expected), "a second time"
    assert all(tensor.dtype == torch.float64 for tensor in found.state_dict().values())
    assert {name: tensor.dtype for name, tensor in given.state_dict().items()} == names, "it was changed"


@pytest.mark.parametrize("make", [Casts, WholeNumbers])
def test_heads_of_models(make: type[nn.Module]) -> None:
    trunk = chain(2, 6, 3)
    shallow = transform(nn.Sequential(trunk, make()))
    assert isinstance(shallow.head, GraphModule)
    x = torch.randn(50, 2, dtype=torch.float64)
    values = trunk.double()(x)
    with InFloat64():
        expected = make()(values)
    assert (shallow(x) - expected).abs().max() <= 1e-12


def test_code_that_torch_fx_cannot_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    class Chooses(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return y.exp() if y.sum() > 0.0 else y

    with pytest.raises(
        TransformError, match=r"head: expected code that torch.fx can trace.*; write it without control flow"
    ):
        in_float64(Chooses(), (3,))
