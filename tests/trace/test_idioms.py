"""How people write forward(): sizes of the batch, constants, states of zeros, and a last squeeze."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.trace.reader import read_model

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
