"""Programs of torch.export, and models that only torch.export can trace."""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.nn import functional as F

import torch_shallow
from torch_shallow import TransformError, UnsupportedOperation
from torch_shallow.program.model import read_model, trace
from torch_shallow.program.relu_program import ReLUProgram

from .conftest import Reads


def exported(model: nn.Module, x: Tensor, dynamic: bool = True, decomposed: bool = False) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = export(model, (x,), dynamic_shapes=({0: Dim("batch")},) if dynamic else None)
        return program.run_decompositions() if decomposed else program


def equal_at_random_points(program: ReLUProgram, model: nn.Module) -> None:
    x = np.random.default_rng(0).standard_normal((50, program.num_inputs))
    with torch.no_grad():
        y = copy.deepcopy(model).double()(torch.from_numpy(x.copy()).reshape(-1, *program.in_shape))
    assert np.allclose(program(x), y.reshape(len(x), -1).numpy(), rtol=0.0, atol=1e-9)


class Convolutional(nn.Module):
    """Layers and functions, a shape, a cast, a constant of the code, and a region without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout()
        self.act, self.linear = nn.ReLU(inplace=True), nn.Linear(27, 4)
        nn.init.uniform_(self.bn.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.bn(self.conv(x)))
        h = F.adaptive_avg_pool2d(h, (3, 3)).reshape(x.shape[0], -1)
        with torch.no_grad():
            shift = torch.tensor([1.0, 2.0, 3.0, 4.0])
        return F.relu(self.linear(self.drop(h.to(self.linear.weight.dtype)))) + shift


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([F.relu(self.first(x)) + x, x[:, 1:2] - x[:, :1]], 1)[:, 1:])


class Pooling(nn.Module):
    """Operations that give values and places in a program."""

    def forward(self, x: Tensor) -> Tensor:
        parts = (F.max_pool2d(x, 2), F.adaptive_max_pool2d(x, 2), x.max(3).values, F.interpolate(x, scale_factor=2))
        return torch.cat([part.flatten(1) for part in parts], 1)


MODELS = [
    (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), (3,)),
    (Residual(), (4,)),
    (Convolutional().eval(), (1, 8, 8)),
    (Pooling(), (1, 4, 4)),
]


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(("model", "in_shape"), MODELS, ids=["mlp", "residual", "conv", "pooling"])
def test_a_program_is_its_model(model: nn.Module, in_shape: tuple[int, ...], decomposed: bool) -> None:
    program = read_model(exported(model, torch.randn(3, *in_shape), decomposed=decomposed))
    assert program.in_shape == in_shape
    equal_at_random_points(program, model)


def test_a_fixed_batch_will_do_where_the_graph_does_not_name_it() -> None:
    model = MODELS[0][0]
    equal_at_random_points(read_model(exported(model, torch.zeros(1, 3), dynamic=False)), model)


def test_a_graph_for_one_batch_size_is_refused() -> None:
    with pytest.raises(TransformError, match=r"exported for a batch of 3 .*dynamic_shapes=\(\{0: torch\.export\.Dim"):
        read_model(exported(Convolutional().eval(), torch.zeros(3, 1, 8, 8), dynamic=False))


def test_every_public_entry_takes_a_program() -> None:
    model = MODELS[0][0]
    program = exported(model, torch.zeros(2, 3))
    shallow, x = torch_shallow.transform(program), torch.randn(100, 3)
    assert torch.allclose(shallow(x), model(x), atol=1e-5)
    assert shallow.certify(program).passed
    assert shallow.certify(model).passed
    graph_module = torch_shallow.trace(program, x)
    assert torch.allclose(graph_module(x), model(x), atol=1e-6)


def test_names_of_modules_and_lines_of_code_survive() -> None:
    program = read_model(exported(Convolutional().eval(), torch.zeros(2, 1, 8, 8)))
    assert [stage.name.split(".")[0] for stage in program.stages] == ["act", "relu"]

    class Refused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x * x)

    with pytest.raises(UnsupportedOperation, match=r"mul at .*test_exported.py:\d+ multiplies two values"):
        read_model(exported(Refused(), torch.zeros(2, 3)))


def test_several_inputs_can_be_held() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.relu(x + y)

    batch = Dim("batch")
    program = export(Sum(), (torch.zeros(2, 3), torch.zeros(2, 3)), dynamic_shapes=({0: batch}, {0: batch}))
    with pytest.raises(TransformError, match=r"torch_shallow\.hold\(model, y=\.\.\.\)"):
        read_model(program)
    held = torch_shallow.hold(program, y=torch.ones(1, 3))
    x = torch.randn(7, 3)
    assert torch.allclose(torch_shallow.transform(held, x)(x), F.relu(x + 1))


class OnlyExport(nn.Module):
    """`torch.zeros` of as many rows as the input: torch.fx cannot follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(3, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        return start + self.act(self.linear(x.to(self.linear.weight.dtype)))


def test_torch_export_is_taken_where_torch_fx_cannot_trace(reads: Reads, caplog: pytest.LogCaptureFixture) -> None:
    model = OnlyExport()
    with caplog.at_level(logging.WARNING):
        program = reads(model, in_shape=(3,))
    assert [stage.name.split(".")[0] for stage in program.stages] == ["act"]
    (record,) = [record for record in caplog.records if record.name.startswith("torch_shallow")]
    assert "torch.export was used" in record.getMessage()
    assert "zeros()" in record.getMessage()
    with pytest.raises(TransformError, match=r"x\.new_zeros"):
        read_model(model)


def test_what_torch_export_traced_transforms_and_certifies() -> None:
    model, x = OnlyExport(), torch.randn(100, 3)
    shallow = torch_shallow.transform(model, x)
    assert torch.allclose(shallow(x), model(x), atol=1e-5)
    assert shallow.certify(model).passed
    assert torch.allclose(trace(model, x)(x), model(x), atol=1e-6)


def test_casts_are_raised_in_what_torch_export_traced() -> None:
    class Casts(OnlyExport):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).float() + torch.full((x.shape[0], 1), 0.1)

    model = Casts()
    program, x = read_model(model, in_shape=(3,)), torch.randn(20, 3)
    assert program.out_bias.dtype == np.float64
    assert np.allclose(program(x.double().numpy()), model(x).detach().numpy(), rtol=0.0, atol=1e-6)
    # More than float32 can say: the products were computed in float64.
    z = (
        x.double().numpy() @ model.linear.weight.detach().double().numpy().T
        + model.linear.bias.detach().double().numpy()
    )
    y = program(x.double().numpy())
    assert np.allclose(y - program.out_bias, np.maximum(z, 0.0), rtol=0.0, atol=1e-12)


def test_both_reasons_are_said_where_neither_can_trace(capfd: pytest.CaptureFixture[str]) -> None:
    class Chooses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(TransformError, match=r"control flow depends on the input.*torch\.export cannot either: \w+"):
        read_model(Chooses(), in_shape=(3,))
    assert "def forward" not in "".join(capfd.readouterr())


def test_randomness_is_refused() -> None:
    class Draws(OnlyExport):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.rand(x.shape[0], 4)

    model, state = Draws(), torch.get_rng_state()
    with pytest.raises(UnsupportedOperation, match="random"):
        read_model(model, in_shape=(3,))
    assert torch.equal(torch.get_rng_state(), state)


OUTPUTS: list[Any] = [lambda y: (y, y), lambda y: {"logits": y}]


@pytest.mark.parametrize("of", OUTPUTS)
def test_programs_of_several_outputs_are_refused(of: Any) -> None:
    class Several(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return of(x.relu())

    with pytest.raises(TransformError, match="expected one tensor as its output"):
        read_model(exported(Several(), torch.zeros(2, 3)))


class ByRow(nn.Module):
    """Calls a function of one row by `torch.vmap`."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], in_dims: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.function, self.in_dims = function, in_dims

    def forward(self, x: Tensor) -> Tensor:
        of_row = functools.partial(self.function, self.net)
        return torch.vmap(of_row, self.in_dims)(x if self.in_dims == 0 else x.T)


OF_ROWS = {
    "layers": lambda net, row: net(row),
    "sum": lambda net, row: torch.relu(net(row)).sum(0, keepdim=True) - row.amax(),
    "rearranged": lambda net, row: torch.stack([net(row.flip(0)), net(row).clamp(-0.1, 0.1)]).flatten(),
}


@pytest.mark.parametrize("in_dims", [0, 1])
@pytest.mark.parametrize("function", OF_ROWS.values(), ids=OF_ROWS)
def test_vmap_is_read(function: Callable[[nn.Module, Tensor], Tensor], in_dims: int) -> None:
    model = ByRow(function, in_dims)
    equal_at_random_points(read_model(model, torch.zeros(1, 3)), model)
    with pytest.raises(TransformError, match=r"^example_input: needed"):
        read_model(model)
    program = export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: Dim("batch")},))
    equal_at_random_points(read_model(program), model)
