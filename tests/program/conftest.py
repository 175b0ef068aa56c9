"""Law of reading: a program equals its model at every point."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torch_shallow.program.model import read_model
from torch_shallow.program.relu_program import ReLUProgram

Reads = Callable[..., ReLUProgram]


@pytest.fixture
def reads() -> Reads:
    """Return a function that reads a model, compares the program with it in float64, and returns the program."""

    def read(model: nn.Module, *args: Any, **kwargs: Any) -> ReLUProgram:
        program = read_model(model, *args, **kwargs)
        rng = np.random.default_rng(1)
        reference = copy.deepcopy(model).double()
        for scale in (1e-3, 1.0, 1e3, 1e6):
            x = scale * rng.standard_normal((50, program.num_inputs))
            with torch.no_grad():
                expected = reference(torch.from_numpy(x.copy()).reshape(-1, *program.in_shape))
            assert expected.shape[1:] == program.out_shape
            y = expected.reshape(len(x), -1).numpy()
            assert np.all(np.abs(program(x) - y) <= 1e-9 * (1.0 + np.abs(y)))
        return program

    return read
