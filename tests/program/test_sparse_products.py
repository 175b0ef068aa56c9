"""Products with matrices that are nearly all zeros are those of the matrices, and networks of them are read right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.cases import examples
from torch_shallow.domain import Box
from torch_shallow.program.affine_forms import preactivation_bounds
from torch_shallow.program.extraction import read_program
from torch_shallow.program.model import Model
from torch_shallow.program.sparse_products import MANY_ENTRIES, MANY_ROWS, SkippingZeros, sparse_product

pytestmark = pytest.mark.quick


def sparse_matrix(height: int, width: int, most: int, generator: torch.Generator) -> Tensor:
    """A matrix of small integers, so that sums in any order are equal, with at most so many entries in a column."""
    matrix = torch.zeros(height, width, dtype=torch.float64)
    for column in range(width):
        entries = int(torch.randint(0, most + 1, (), generator=generator))
        places = torch.randperm(height, generator=generator)[:entries]
        matrix[places, column] = torch.randint(-9, 10, (entries,), generator=generator).double()
    return matrix


@examples(30)
@given(seed=st.integers(0, 2**32 - 1), most=st.integers(0, 12), width=st.integers(1, 150))
def test_the_product_is_that_of_the_matrix(seed: int, most: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    height = max(200, -(-MANY_ENTRIES // width))
    matrix = sparse_matrix(height, width, most, generator)
    rows = torch.randint(-9, 10, (MANY_ROWS, height), generator=generator).double()
    found = sparse_product(rows, matrix)
    assert found is not None
    assert torch.equal(found, rows @ matrix)
    bias = torch.arange(width).double()
    with SkippingZeros():
        assert torch.equal(torch.matmul(rows, matrix), found)
        assert torch.equal(rows @ matrix, found)
        assert torch.equal(nn.functional.linear(rows, matrix.T.contiguous(), bias), found + bias)


def test_other_products_are_left_to_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = sparse_matrix(256, 128, 2, generator)
    rows = torch.randn(MANY_ROWS, 256, dtype=torch.float64, generator=generator)
    assert sparse_product(rows, matrix) is not None
    assert sparse_product(rows[1:], matrix) is None
    assert sparse_product(rows, matrix + 1.0) is None
    assert sparse_product(rows[:, :64], matrix[:64]) is None
    with SkippingZeros():
        assert torch.equal(rows @ (matrix + 1.0), torch.matmul(rows, matrix + 1.0))


def test_a_network_of_sparse_layers_is_read_right() -> None:
    generator = torch.Generator().manual_seed(1)
    wide, few = sparse_matrix(256, 128, 3, generator), sparse_matrix(128, 256, 3, generator)
    layers = nn.Linear(4, 256), nn.Linear(256, 128), nn.Linear(128, 256), nn.Linear(256, 2)
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.ReLU(), layers[3]).double()
    with torch.no_grad():
        layers[1].weight.copy_(wide.T)
        layers[2].weight.copy_(few.T)
    traced, box = Model.of(model).traced, Box(-np.ones(4), np.ones(4))
    x = torch.rand(500, 4, dtype=torch.float64, generator=generator) * 2 - 1
    expected = model(x).detach().numpy()
    for program in (read_program(traced), read_program(traced, preactivation_bounds(traced, *box.bounds((4,))))):
        assert np.allclose(program(x.numpy()), expected, rtol=1e-12, atol=1e-9)
    program = read_program(traced)
    for stage, matrix in zip(program.stages[1:], (wide, few), strict=True):  # exactly as the layers store them
        assert np.array_equal(stage.weight[:, -matrix.shape[0] :], matrix.T.numpy())
        assert not stage.weight[:, : -matrix.shape[0]].any()
