"""The end of a model that is not piecewise linear is kept apart; in the middle it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.program.model import Model as ReadModel
from torch_shallow.program.model import read_model, trace

pytestmark = pytest.mark.quick


class Model(nn.Module):
    """A ReLU network with an end of the test's making."""

    def __init__(self, end: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.end = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), end
        self.other, self.scale = nn.Linear(3, 3), nn.Parameter(torch.rand(3))
        self.register_buffer("temperature", torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self, self.body(x), x)


# An end, and the shape of the trunk's output.
HEADS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "softmax": (lambda m, y, x: y.softmax(-1), (3,)),
    "log_softmax": (lambda m, y, x: F.log_softmax(y / m.temperature, dim=1), (3,)),
    "sigmoid": (lambda m, y, x: torch.sigmoid(y), (3,)),
    "sigmoid in place": (lambda m, y, x: y.sigmoid_(), (3,)),
    "a chain in place": (lambda m, y, x: y.sub_(1).sigmoid_().mul_(2)[:, :2].neg_(), (3,)),
    "piecewise linear in place, then read": (lambda m, y, x: torch.cat([y.clamp_(max=50), y.exp()], 1), (6,)),
    "tanh, scaled by constants": (lambda m, y, x: 2 * torch.tanh(y) + m.temperature, (3,)),
    "argmax": (lambda m, y, x: y.argmax(1), (3,)),
    "index of the maximum": (lambda m, y, x: y.max(1)[1], (3,)),
    "maximum and its index": (lambda m, y, x: y.max(1)[1] + y.max(1)[0], (4,)),
    "norm": (lambda m, y, x: y / y.norm(dim=1, keepdim=True), (3,)),
    "square": (lambda m, y, x: (y**2).sum(1), (3,)),
    "layer norm": (lambda m, y, x: F.layer_norm(y, (3,)), (3,)),
    "comparison": (lambda m, y, x: (y > 0).float(), (3,)),
    "two parts": (lambda m, y, x: torch.cat([y[:, :1], F.softplus(y[:, 1:])], 1), (3,)),
    "two values of two shapes": (lambda m, y, x: y.exp().sum(1) + m.other(y)[:, :2].exp().prod(1), (5,)),
    "the input too": (lambda m, y, x: y.sum(1, keepdim=True) * x, (5,)),
    "maximum, then softmax": (lambda m, y, x: torch.maximum(y, m.other(y)).softmax(1), (3,)),
    "shape of the input": (lambda m, y, x: y.exp().view(x.shape[0], 1, 3), (7,)),
    "scaled by parameters": (lambda m, y, x: y.tanh() * m.scale + m.scale, (3,)),
    "clamped": (lambda m, y, x: y.softmax(1).clamp(1e-7, 1 - 1e-7), (3,)),
    "largest probability": (lambda m, y, x: y.softmax(1).max(1)[0], (3,)),
    "normalised": (lambda m, y, x: F.normalize(y), (3,)),
    "dead end": (lambda m, y, x: (y.exp(), y)[1], (3,)),
}


@pytest.mark.parametrize(("end", "shape"), HEADS.values(), ids=HEADS.keys())
def test_heads(end: Callable[[Any, Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Model(end).double(), torch.randn(50, 4).double()
    traced = ReadModel.of(model).traced
    assert traced.out_shape == shape
    with torch.no_grad():
        expected = model(x)
        logits = torch.from_numpy(read_model(model)(x.numpy())).reshape(50, *shape)
        found = logits if traced.head is None else traced.head(logits)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert trace(model, x)(x).shape == (50, *shape)
    assert (traced.head is None) == (end is HEADS["dead end"][0])


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (lambda m, y, x: m.other(y.sigmoid()), "sigmoid"),
        (lambda m, y, x: m.other(F.relu(torch.tanh(y))), "tanh"),
        (lambda m, y, x: y.softmax(1) @ m.other.weight, "softmax"),
        (lambda m, y, x: y[:, 1:] + y.exp_()[:, 1:], "exp"),
        (lambda m, y, x: y[:, 1:] + y[:, :2].exp_(), "exp"),
        (lambda m, y, x: torch.cat([y.exp(), y.clamp_(max=1e4), y], 1), "exp"),
        (lambda m, y, x: torch.cat([y.exp(), y.add_(1.0)], 1), "exp"),
        (lambda m, y, x: F.layer_norm(m.other(y).quantile(0.5, 1), (1,)), "quantile"),
        (lambda m, y, x: m.body(F.pad(y, (0, 1)).tanh()), "tanh"),
        (lambda m, y, x: y.softmax(1) + torch.rand(3), "rand"),
    ],
)
def test_in_the_middle_it_is_refused(middle: Callable[[Any, Tensor, Tensor], Tensor], named: str) -> None:
    with pytest.raises(UnsupportedOperation, match=named):
        read_model(Model(middle))


@pytest.mark.parametrize("end", [lambda m, y, x: y.softmax(0), lambda m, y, x: y * y.exp().mean()])
def test_a_head_that_mixes_rows_is_refused(end: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(TransformError, match="each row of a batch separately"):
        read_model(Model(end))


def test_the_error_names_the_node_and_the_parts_that_could_be_transformed() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.ReLU())
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), inner, nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)))
    with pytest.raises(UnsupportedOperation) as caught:
        read_model(model)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  2.3: GELU")
    assert lines[2].endswith("on their own: model[0:2], model[2][0:3], model[2][4:6], model[3].")
    for part, size in ((model[0:2], 4), (model[2][0:3], 3), (model[2][4:6], 3), (model[3], 3)):
        assert read_model(part).in_shape == (size,)


def test_a_model_that_is_all_head_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="Softmax"):
        read_model(nn.Softmax(-1), torch.zeros(1, 3))
