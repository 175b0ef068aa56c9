"""Models of several arguments, all but one held constant."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from torch_shallow import TransformError, hold, transform
from torch_shallow.program.model import read_model

from .conftest import Reads


class Several(nn.Module):
    """Arguments of every kind: a batch, a matrix, numbers, by keyword alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act, self.out = nn.Linear(3, 4), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor, power: int = 1, *, mixing: Tensor, twice: bool = False) -> Tensor:
        h = self.act(self.a(x) + self.b(y))
        for _ in range(power):
            h = h @ mixing
        return self.out(h) * (2 if twice else 1)


@pytest.fixture
def model() -> Several:
    return Several()


def test_a_held_module_is_the_module_at_these_values(model: Several, reads: Reads) -> None:
    x, y, mixing = torch.randn(5, 3), torch.randn(1, 2), torch.randn(4, 4)
    held = hold(model, y=y, mixing=mixing, power=2, twice=True)
    assert torch.equal(held(x), model(x, y.expand(5, -1), 2, mixing=mixing, twice=True))
    program = reads(held)
    assert program.in_shape == (3,)
    assert [stage.name for stage in program.stages] == ["model.act"]
    assert "input=x, held=power, twice, y, mixing" in repr(held)


def test_the_input_is_the_first_argument_that_is_not_held(model: Several, reads: Reads) -> None:
    held = hold(model, x=torch.randn(3), mixing=torch.eye(4))
    assert reads(held, torch.zeros(1, 2)).in_shape == (2,)


def test_constants_move_with_the_module_and_are_saved_with_it(model: Several) -> None:
    held = hold(model, y=torch.ones(1, 2), mixing=torch.eye(4)).double()
    assert held(torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert {"held_y", "held_mixing"} <= held.state_dict().keys()
    assert held.model is model


def test_a_row_is_repeated_for_each_input_and_other_tensors_are_passed_as_they_are() -> None:
    class Shapes(nn.Module):
        def forward(self, x: Tensor, row: Tensor, vector: Tensor, matrix: Tensor, places: Tensor) -> Tensor:
            assert row.shape == (len(x), 2)
            assert vector.shape == (1,)
            assert matrix.shape == (3, 2)
            assert places.dtype == torch.int64
            return x + row[:, places[:, 0]]

    held = hold(
        Shapes(), row=torch.ones(1, 2), vector=torch.ones(1), matrix=torch.ones(3, 2), places=torch.ones(1, 1).long()
    )
    with pytest.raises(IndexError):
        held(torch.zeros(1, 2))[:, 5]
    assert held(torch.zeros(1, 2)).shape == (1, 2)


def test_layers_of_torch_can_be_held(reads: Reads) -> None:
    assert reads(hold(nn.Bilinear(2, 3, 4), input2=torch.randn(1, 3)), torch.zeros(1, 2)).out_shape == (4,)


def test_a_held_module_transforms_and_certifies(model: Several) -> None:
    held = hold(model, y=torch.ones(1, 2), mixing=torch.randn(4, 4))
    shallow, x = transform(held), torch.randn(50, 3)
    assert torch.allclose(shallow(x), held(x), atol=1e-5)
    assert shallow.certify(held).passed
    assert shallow.certify(copy.deepcopy(held)).passed


def test_what_is_said_of_wrong_names(model: Several) -> None:
    with pytest.raises(TransformError, match=r"which are x, y, power, mixing, twice, found zoom"):
        hold(model, zoom=1)
    with pytest.raises(TransformError, match=r"one argument .* found x, y, mixing"):
        hold(model)
    with pytest.raises(TransformError, match="all are held"):
        hold(nn.Linear(2, 2), input=torch.zeros(1, 2))
    with pytest.raises(TransformError, match=r"torch_shallow\.hold\(model, y=\.\.\., mixing=\.\.\.\)"):
        read_model(model)
