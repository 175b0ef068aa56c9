"""Data and models that cannot be visited exactly are refused, by name."""

from __future__ import annotations

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from tests.modules.visiting import visited_of
from tests.zoo import chain
from torch_shallow import Box, TransformError, transform
from torch_shallow.modules.visited_relu import visited_network
from torch_shallow.program.model import Model


def test_rows_that_lie_elsewhere_in_the_precision_of_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(chain(2, 100, 3), nn.Softmax(-1))
    scale = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    x = 1.0 + torch.rand(20, 2, dtype=torch.float64) * scale
    assert (transform(model, data=x).locate(x) >= 0).all()


def test_data_are_called_data() -> None:
    with pytest.raises(TransformError, match=r"data: expected a floating-point tensor, found torch\.int64"):
        transform(chain(2, 3, 1), data=torch.zeros(3, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[0.0, 0.0]], "data: expected a floating-point tensor, found list"),
        (torch.zeros(3, 2, dtype=torch.int64), "data: expected a floating-point tensor, found torch.int64"),
        (torch.zeros(3, 4), r"data: expected a tensor of shape \(rows, 2\) with one or more rows, found \(3, 4\)"),
        (torch.zeros(0, 2), r"one or more rows, found \(0, 2\)"),
        (torch.zeros(2), r"one or more rows, found \(2,\)"),
        (
            torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [0.0, torch.inf]]),
            r"data: 2 of 3 rows are not finite \(NaN or inf\), the first at row 1",
        ),
        (torch.zeros(3, 2).to_sparse(), "data: expected a dense tensor with values, found layout torch.sparse_coo"),
        (torch.zeros(3, 2, device="meta"), "data: expected a dense tensor with values, found a tensor on the meta"),
        (torch.tensor([[0.0, 0.0], [0.0, 3.0]]), "data: 1 of 2 rows lie outside the domain, the first at row 1"),
    ],
    ids=["list", "integers", "shape", "no row", "no batch", "not finite", "sparse", "meta", "outside"],
)
def test_bad_data(monkeypatch: pytest.MonkeyPatch, data: Tensor, message: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    read = Model.of(chain(2, 3, 1))
    with pytest.raises(TransformError, match=message):
        visited_network(read, data, Box(-1.0, 1.0))
    shallow = visited_of(chain(2, 3, 1), torch.zeros(1, 2), Box(-1.0, 1.0))
    with pytest.raises(TransformError, match=message.replace("data:", "x:")):
        shallow.grow(data)


class Sly(nn.Module):
    """Looks at what torch.fx does not see."""

    def __init__(self, wrong: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.wrong, self.traced = chain(2, 4, 2), wrong, False

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y if isinstance(x, torch.fx.Proxy) else self.wrong(y)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(lambda y: y + 1e-6, "torch.fx does not see"), (lambda y: y - y.mean(0), "treat each row of a batch separately")],
)
def test_a_model_that_is_not_its_graph(wrong: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        visited_of(Sly(wrong), torch.randn(10, 2))


def test_a_model_that_does_something_else_in_float64_is_refused() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).relu() + (1.0 if self.layer.weight.dtype == torch.float32 else 0.0)

    with pytest.raises(TransformError, match=r"in torch\.float32"):
        transform(Chooses(), data=torch.randn(5, 2))
    assert transform(Chooses().double(), data=torch.randn(5, 2)).num_regions > 0


def test_bad_arguments_of_transform() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    for wrong in ({"method": "lp"}, {"solver": "CLARABEL"}):
        with pytest.raises(TransformError, match="data: expected no search arguments together with data"):
            transform(model, data=torch.randn(5, 2), **wrong)
    with pytest.raises(TransformError, match="data"):
        transform(model, torch.zeros(1, 2), data=torch.randn(5, 3))
