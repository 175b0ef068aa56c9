"""Every operation that is read from a module is read from the ONNX file that torch writes of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.cases import thinned
from tests.program import test_affine_operations as affine
from tests.program import test_every_module as modules
from tests.program import test_piecewise as piecewise
from tests.program import test_read_model as models
from torch_shallow import from_onnx
from torch_shallow.program.model import read_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def hidden(operation: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return models.Model(lambda m, x: operation(m, models.relu_of(m, x)))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"piecewise {name}": (lambda f=f: piecewise.Model(f), (4,)) for name, (f, _) in piecewise.OPERATIONS.items()},
    **{f"affine {name}": (lambda f=f: hidden(f), (4,)) for name, f in affine.OPERATIONS.items()},
    **{f"aten {name}": (lambda f=f: hidden(f), (4,)) for name, f in affine.ATEN_OPERATIONS.items()},
    **{
        f"module {name}": (lambda case=case: modules.ThenReLU(modules.made(case)), case.in_shape)
        for name, case in modules.SUPPORTED.items()
        if name in modules.classes()
    },
}
KEPT = (
    *("piecewise sort", "piecewise softshrink", "piecewise topk", "affine roll flip fliplr", "affine filled by slices"),
    *("affine sum mean cumsum diff", "affine scatter scatter_add", "module MaxPool2d", "module RNN"),
)
EXPORTERS = ("torchscript-11", "torchscript-20", "dynamo-18", "dynamo-23")
"""An exporter, and an opset that it writes."""
OLDEST, NEWEST = EXPORTERS[0], EXPORTERS[-1]

ROUNDED = {"affine casts"}  # the model rounds in between, the program does not


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The exporters warn and log of themselves."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def write(model: nn.Module, x: Tensor, path: Path, exporter: str) -> None:
    kind, opset = exporter.split("-")
    options: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    if kind == "dynamo":
        options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
    try:
        with torch.no_grad():
            torch.onnx.export(
                model, (x,), path, opset_version=int(opset), dynamo=kind == "dynamo", verbose=False, **options
            )
    except Exception as error:
        pytest.skip(f"torch does not write it: {type(error).__name__}")


def is_for_any_batch(path: Path) -> bool:
    """Whether the file is for any number of inputs, as it was asked for."""
    return bool(onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param)


ALL = [
    *(f"{exporter} {name}" for exporter in (OLDEST, NEWEST) for name in CASES),
    *(f"{exporter} {name}" for exporter in EXPORTERS if exporter not in (OLDEST, NEWEST) for name in KEPT),
]


@pytest.mark.parametrize(
    "case", thinned(ALL, *(f"{exporter} {name}" for exporter in (OLDEST, NEWEST) for name in KEPT))
)
def test_the_file_is_the_model(tmp_path: Path, case: str) -> None:
    exporter, name = case.split(" ", 1)
    make, in_shape = CASES[name]
    torch.manual_seed(0)
    model, path = make(), tmp_path / "model.onnx"
    with torch.no_grad():
        model(torch.randn(5, *in_shape))  # makes lazy modules, moves running statistics
    model.eval()
    write(model, torch.randn(3, *in_shape), path, exporter)
    if name == "aten index_put" and exporter.startswith("torchscript"):
        pytest.skip("torch writes an Add of one operand")
    if name == "affine data" and exporter.startswith("torchscript"):
        pytest.skip("torch writes .data as a constant")
    if not is_for_any_batch(path):
        pytest.skip("torch writes it for one number of inputs only")
    module, x = from_onnx(path), torch.randn(7, *in_shape)
    with torch.no_grad():
        expected = model(x.clone())
        torch.testing.assert_close(module(x.clone()), expected, rtol=1e-4, atol=1e-4)
    if name in ROUNDED:
        return
    found = read_model(module)(x.double().numpy().reshape(7, -1)).reshape(expected.shape)
    np.testing.assert_allclose(found, expected.double().numpy(), rtol=1e-3, atol=1e-3)


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        kind.__name__: kind()
        for kind in (
            *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Hardswish, nn.ELU, nn.CELU, nn.SELU),
            *(nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
        )
    },
    "GELU by tanh": nn.GELU("tanh"),
    "Softplus of another slope": nn.Softplus(2.0),
    "softmax": lambda y: y.softmax(1),
    "log_softmax": lambda y: y.log_softmax(1),
    "argmax": lambda y: y.argmax(1),
    "decision": lambda y: (y > 0).float(),
    "norm": lambda y: y / y.norm(dim=1, keepdim=True),
    "scaled action": lambda y: 2 * torch.tanh(y) + 0.5,
    "two classes": lambda y: torch.cat([1 - y[:, :1].sigmoid(), y[:, :1].sigmoid()], 1),
    "distribution": lambda y: torch.cat([y[:, :2], y[:, 2:].clamp(-2, 2).exp()], 1),
}


class WithHead(nn.Module):
    """A ReLU network with an end that is not piecewise linear."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize("exporter", thinned(EXPORTERS, "torchscript-20"))
@pytest.mark.parametrize("name", thinned(HEADS, "Softplus", "ELU", "GELU", "two classes", "argmax"))
def test_the_end_of_the_file_is_that_of_the_model(tmp_path: Path, name: str, exporter: str) -> None:
    torch.manual_seed(0)
    model, path, x = WithHead(HEADS[name]).eval(), tmp_path / "model.onnx", torch.randn(7, 4)
    write(model, torch.randn(3, 4), path, exporter)
    module = from_onnx(path)
    with torch.no_grad():
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5, check_dtype=False)
    assert read_model(module).num_neurons >= 5
