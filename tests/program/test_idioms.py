"""How people write forward(): sizes of the batch, constants, states of zeros, and a last squeeze."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_shallow._transform import transform
from torch_shallow.errors import TransformError
from torch_shallow.program.model import read_model

pytestmark = pytest.mark.quick


class Network(nn.Module):
    """Two layers with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.view(len(x), -1)).relu()).squeeze()


class Scaled(Network):
    """Constants that are computed in forward()."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu()) * (torch.ones(1) / 3) + torch.tensor(2.0).sqrt()


class Recurrent(Network):
    """A state of zeros, for as many rows as the batch has."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(2, 6, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6)
        for t in range(2):
            h = self.cell(x.view(-1, 2, 2)[:, t], h)
        return self.last(h)


@pytest.mark.parametrize("kind", [Network, Scaled, Recurrent])
def test_idioms(kind: type[Network]) -> None:
    torch.manual_seed(0)
    model, x = kind(), torch.randn(50, 4)
    program = read_model(model, torch.zeros(2, 4))
    assert program.num_neurons == (12 if kind is Recurrent else 6)
    with torch.no_grad():
        y = torch.from_numpy(program(x.double().numpy())).reshape(50, *program.out_shape)
        torch.testing.assert_close(y.float(), model(x), rtol=1e-5, atol=1e-6)


def test_an_example_is_asked_for() -> None:
    with pytest.raises(TransformError, match=r"example_input: needed.*pass a batch of inputs"):
        read_model(Recurrent())


class Bounded(Network):
    """Some bounds are infinite."""

    def __init__(self) -> None:
        super().__init__()
        inf = float("inf")
        self.register_buffer("lower", torch.tensor([0.0, -0.1, -inf, -0.2, -inf, -0.3]))
        self.register_buffer("upper", torch.tensor([inf, 0.1, 0.2, inf, inf, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.maximum(torch.clamp(self.first(x), self.lower, self.upper), self.lower))


class Pooled(Network):
    """The largest of some values and a constant, for each of three groups."""

    def forward(self, x: Tensor) -> Tensor:
        index = torch.tensor([[0, 2, 2, 1, 0, 2]]).expand(x.shape[0], 6)
        groups = x.new_zeros(x.shape[0], 6).scatter_reduce(1, index, self.first(x), "amax", include_self=self.training)
        return self.last(groups - self.first(x).scatter_reduce(-1, index, self.first(x).flip(1), "amin"))


@pytest.mark.parametrize("kind", [Bounded, Pooled])
def test_bounds_and_groups(kind: type[Network]) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(200, 4)
    program = read_model(model, torch.zeros(2, 4))
    with torch.no_grad():
        y = torch.from_numpy(program(x.double().numpy()))
        torch.testing.assert_close(y.float(), model(x), rtol=1e-5, atol=1e-6)


def test_infinite_bounds_make_no_regions() -> None:
    torch.manual_seed(0)
    model = Bounded()
    model.forward = lambda x: model.last(torch.clamp(model.first(x), model.lower))  # type: ignore[method-assign]
    assert read_model(model, torch.zeros(2, 4)).num_neurons == 6
    assert transform(model, torch.zeros(2, 4)).num_regions == 2**4


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (lambda m, h: h + m.upper, r"contains inf and is not only a bound"),
        (lambda m, h: torch.clamp(h, m.upper), "infinite bound, which leaves no finite value"),
        (lambda m, h: h.scatter_reduce(1, torch.zeros_like(h, dtype=torch.int64), h, "mean"), "'amax', 'amin'"),
    ],
    ids=["added", "wrong side", "mean"],
)
def test_what_is_no_bound_and_no_group(code: Callable[[Bounded, Tensor], Tensor], message: str) -> None:
    model = Bounded()
    model.forward = lambda x: model.last(code(model, model.first(x)).relu())  # type: ignore[method-assign]
    with pytest.raises(TransformError, match=message):
        read_model(model, torch.zeros(2, 4))


def test_fake_quantisation_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model.insert(1, torch.ao.quantization.FakeQuantize())
    with pytest.raises(TransformError, match=r"1 is a FakeQuantize, which rounds.*as it was before prepare_qat"):
        read_model(model)


class Sampling(nn.Module):
    """A policy: what it gives is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.action = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(x, Tensor)
        if float(self.action(self.body(x).relu()).sum()) > 0.0:
            return x
        return -x


def test_what_cannot_be_traced_names_its_parts() -> None:
    with pytest.raises(TransformError, match=r"forward\(\) calls some of body, action, without drawing"):
        read_model(Sampling(), torch.zeros(2, 4))
