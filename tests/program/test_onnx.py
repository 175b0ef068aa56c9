"""ONNX files: read as modules that compute what ONNX's own reference implementation computes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.networks import ACAS_XU_FOLDER, read_onnx
from tests.data import ACAS_XU, needs_acas_xu
from torch_shallow import TransformError, UnsupportedOperation, from_onnx, transform
from torch_shallow.domain import Box
from torch_shallow.program.model import read_model

from .conftest import Reads

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402


def same_as_reference(path: Path, module: nn.Module, in_shape: tuple[int, ...], counts: tuple[int, ...]) -> None:
    reference = ReferenceEvaluator(str(path))
    constants = {tensor.name for tensor in onnx.load(path).graph.initializer}
    (name,) = (name for name in reference.input_names if name not in constants)
    for count in counts:
        x = torch.randn(count, *in_shape)
        (y,) = reference.run(None, {name: x.numpy()})
        with torch.no_grad():
            found = module(x).numpy()
        assert found.shape == y.shape
        assert np.allclose(found, y, rtol=1e-4, atol=1e-5)


def written(
    tmp_path: Path,
    nodes: list[Any],
    in_shape: tuple[int, ...] | None,
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 20,
    out: str = "y",
    batch: int | str = "n",
    inputs: tuple[str, ...] = ("x",),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A file of these operators from `x` to `y`."""
    shape = None if in_shape is None else [batch, *in_shape]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def node(kind: str, *inputs: str, out: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), [out], name=f"the_{kind}", **attributes)


rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


IMAGE = (3, 7, 6)
OPERATORS: list[tuple[Any, tuple[int, ...], dict[str, np.ndarray]]] = [
    *((node(kind, "x"), (4,), {}) for kind in ("Relu", "Abs", "Neg", "Identity", "Sigmoid", "Tanh", "Exp")),
    (node("LeakyRelu", "x", alpha=0.3), (4,), {}),
    (node("PRelu", "x", "s"), IMAGE, {"s": floats(3, 1, 1)}),
    (node("HardSigmoid", "x", alpha=0.3, beta=0.4), (4,), {}),
    (node("Clip", "x", "a", "b"), (4,), {"a": np.float32(-0.5), "b": np.float32(0.25)}),
    (node("Clip", "x", "", "b"), (4,), {"b": np.float32(0.25)}),
    (node("Clip", "x"), (4,), {}),
    *((node(kind, "x", "c"), (2, 4), {"c": floats(4)}) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean")),
    *((node(kind, "c", "x"), (2, 4), {"c": floats(4)}) for kind in ("Add", "Sub", "Mul", "Sum", "Max", "Min")),
    (node("Where", "m", "x", "c"), (4,), {"m": np.array([True, False, True, True]), "c": floats(4)}),
    (node("Softmax", "x"), (2, 4), {}),
    (node("LogSoftmax", "x", axis=1), (2, 4), {}),
    (node("ArgMax", "x", axis=1, keepdims=0), (5,), {}),
    (node("Cast", "x", to=TensorProto.DOUBLE), (4,), {}),
    (node("Dropout", "x"), (4,), {}),
    (node("MatMul", "x", "w"), (4,), {"w": floats(4, 3)}),
    (node("Gemm", "x", "w", "b", transB=1), (4,), {"w": floats(3, 4), "b": floats(3)}),
    (node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0), (4,), {"w": floats(4, 3), "b": floats(1, 3)}),
    (node("Gemm", "x", "w"), (4,), {"w": floats(4, 3)}),
    (node("Einsum", "x", "w", equation="nij,jk->nik"), (2, 4), {"w": floats(4, 3)}),
    (
        node("BatchNormalization", "x", "s", "b", "m", "v", epsilon=1e-3),
        IMAGE,
        {"s": floats(3), "b": floats(3), "m": floats(3), "v": np.abs(floats(3))},
    ),
    (node("Conv", "x", "w", "b"), IMAGE, {"w": floats(2, 3, 3, 2), "b": floats(2)}),
    (node("Conv", "x", "w", pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]), IMAGE, {"w": floats(2, 3, 3, 2)}),
    (node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2]), IMAGE, {"w": floats(2, 3, 3, 2)}),
    (node("Conv", "x", "w", group=3), IMAGE, {"w": floats(6, 1, 3, 3)}),
    (node("Conv", "x", "w", pads=[1, 1]), (3, 7), {"w": floats(2, 3, 3)}),
    (
        node("ConvTranspose", "x", "w", "b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0]),
        IMAGE,
        {"w": floats(3, 2, 3, 3), "b": floats(2)},
    ),
    (node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]), IMAGE, {}),
    (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), IMAGE, {}),
    (node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), IMAGE, {}),
    (node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 0, 0, 1], count_include_pad=1), IMAGE, {}),
    (node("GlobalAveragePool", "x"), IMAGE, {}),
    (node("GlobalMaxPool", "x"), IMAGE, {}),
    *((node(f"Reduce{kind}", "x", "a"), IMAGE, {"a": ints(1, -1)}) for kind in ("Sum", "Mean", "Max", "Min")),
    (node("ReduceMean", "x", "a", keepdims=0), IMAGE, {"a": ints(2)}),
    (node("Reshape", "x", "s"), IMAGE, {"s": ints(0, -1, 6)}),
    (node("Reshape", "x", "s"), IMAGE, {"s": ints(-1, 126)}),
    *((node("Flatten", "x", axis=axis), IMAGE, {}) for axis in (1, -3)),
    (node("Squeeze", "x", "a"), (1, 4, 1), {"a": ints(1, -1)}),
    (node("Unsqueeze", "x", "a"), (4,), {"a": ints(1, -1)}),
    (node("Transpose", "x", perm=[0, 3, 1, 2]), IMAGE, {}),
    (node("Concat", "x", "x", axis=-1), (4,), {}),
    (
        node("Slice", "x", "s", "e", "a", "t"),
        IMAGE,
        {"s": ints(1, -4), "e": ints(99, 5), "a": ints(2, 3), "t": ints(2, 1)},
    ),
    (node("Gather", "x", "i", axis=2), IMAGE, {"i": ints(3, 0, -1)}),
    (node("Gather", "x", "i", axis=1), IMAGE, {"i": np.array(-2)}),
    (node("Gather", "x", "i", axis=1), IMAGE, {"i": np.array([[0, 1], [2, 2]])}),
    (node("Expand", "x", "s"), (3, 1), {"s": ints(1, 3, 4)}),
    (node("Tile", "x", "r"), (3, 2), {"r": ints(1, 2, 3)}),
    (node("Pad", "x", "p", "v"), (3, 4), {"p": ints(0, 1, 0, 0, 0, 2), "v": np.float32(1.5)}),
    (node("Pad", "x", "p", mode="reflect"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    (node("Pad", "x", "p", mode="edge"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    (
        node("Resize", "x", "", "s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        IMAGE,
        {"s": np.array([1, 1, 2, 3], np.float32)},
    ),
    (node("Resize", "x", "", "s", mode="nearest"), IMAGE, {"s": np.array([1, 1, 3, 2], np.float32)}),
    (node("Resize", "x", "", "s", mode="linear"), IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}),
    (
        node("Resize", "x", "", "s", mode="linear", coordinate_transformation_mode="align_corners"),
        IMAGE,
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    *((node(kind, "x", blocksize=2, mode="CRD"), (8, 2, 4), {}) for kind in ("DepthToSpace",)),
    (node("DepthToSpace", "x", blocksize=2), (8, 2, 3), {}),
    (node("SpaceToDepth", "x", blocksize=2), (2, 4, 6), {}),
    (
        node("Resize", "x", "", "s", mode="cubic"),
        (1, 5, 6),
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    # Activations and functions that may end a network.
    *(
        (node(kind, "x"), (5,), {})
        for kind in (
            *("Softplus", "Softsign", "Elu", "Celu", "Selu", "Gelu", "Mish", "HardSwish", "Sign", "Floor", "Ceil"),
            *(
                "Round",
                "Erf",
                "Sin",
                "Atan",
                "Shrink",
                "ThresholdedRelu",
                "Hardmax",
                "LpNormalization",
            ),
        )
    ),
    (node("Shrink", "x", bias=0.2, lambd=0.2), (5,), {}),
    (node("Elu", "x", alpha=0.7), (5,), {}),
    (node("Pow", "x", "c"), (5,), {"c": np.float32(2.0)}),
    (node("Mod", "x", "c", fmod=1), (5,), {"c": np.float32(0.7)}),
    (node("LayerNormalization", "x", "s", "b", axis=-1), (3, 4), {"s": floats(4), "b": floats(4)}),
    (node("InstanceNormalization", "x", "s", "b"), IMAGE, {"s": floats(3), "b": floats(3)}),
    *(
        (node(f"Reduce{kind}", "x", "a"), (3, 4), {"a": ints(1)})
        for kind in ("L1", "L2", "Prod", "SumSquare", "LogSumExp")
    ),
    (node("ArgMin", "x", axis=1), (5,), {}),
    # Asymmetric paddings, as of Keras.
    *(
        (node(kind, "x", kernel_shape=[k, 2], strides=[s, s], auto_pad=pad), IMAGE, {})
        for kind in ("MaxPool", "AveragePool")
        for k, s, pad in ((2, 2, "SAME_UPPER"), (3, 2, "SAME_UPPER"), (2, 1, "SAME_UPPER"), (4, 1, "SAME_LOWER"))
    ),
    (node("MaxPool", "x", kernel_shape=[3, 2], pads=[0, 0, 2, 1], strides=[1, 3]), IMAGE, {}),
    (node("MaxPool", "x", kernel_shape=[3], pads=[2, 0], dilations=[2], strides=[2]), (2, 9), {}),
    (node("AveragePool", "x", kernel_shape=[3], pads=[2, 1], strides=[2]), (2, 8), {}),
    *(
        (node("ConvTranspose", "x", "w", "b", strides=[2, 2], **more), IMAGE, {"w": floats(3, 2, 3, 3), "b": floats(2)})
        for more in (
            {"auto_pad": "SAME_UPPER"},
            {"auto_pad": "SAME_LOWER"},
            {"pads": [0, 1, 2, 1]},
            {"pads": [1, 0, 0, 2], "output_padding": [1, 0]},
        )
    ),
    # Orders, indices, and what is written to them.
    (node("CumSum", "x", "a"), (3, 4), {"a": np.array(1)}),
    (node("CumSum", "x", "a", exclusive=1, reverse=1), (3, 4), {"a": np.array(-1)}),
    (node("Slice", "x", "s", "e", "a", "t"), (5, 4), {"s": ints(-1), "e": ints(-99), "a": ints(1), "t": ints(-1)}),
    (node("Slice", "x", "s", "e", "a", "t"), (5, 4), {"s": ints(3), "e": ints(0), "a": ints(1), "t": ints(-2)}),
    (node("Trilu", "x", "k", upper=0), (4, 4), {"k": np.array(1)}),
    (node("Pad", "x", "p", mode="wrap"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    (node("Einsum", "x", "x", equation="ni,nj->nij"), (4,), {}),
    (helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0, 2.0], scale=[0.5, 3.0]), (2,), {}),
    (helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L2"), (3,), {}),
    (
        helper.make_node(
            *("LinearRegressor", ["x"], ["y"]),
            domain="ai.onnx.ml",
            coefficients=[1.0, 2.0, 3.0, 4.0],
            intercepts=[0.5, 0.25],
            targets=2,
        ),
        (2,),
        {},
    ),
    (node("ArrayFeatureExtractor", "x", "i", domain="ai.onnx.ml"), (4,), {"i": ints(2, 0)}),
]


@pytest.mark.parametrize(
    ("operator", "in_shape", "constants"), OPERATORS, ids=[f"{i}-{row[0].op_type}" for i, row in enumerate(OPERATORS)]
)
def test_every_operator_is_that_of_the_reference(
    tmp_path: Path, operator: Any, in_shape: tuple[int, ...], constants: dict[str, np.ndarray]
) -> None:
    path = written(tmp_path, [operator], in_shape, constants)
    same_as_reference(path, from_onnx(path), in_shape, (1, 2, 5) if operator.op_type != "Expand" else (1, 3))


@pytest.mark.parametrize(("attributes", "constants"), [({}, {"s": ints(1, 3)}), ({"num_outputs": 2}, {})])
def test_parts_of_a_split(tmp_path: Path, attributes: dict[str, int], constants: dict[str, np.ndarray]) -> None:
    split = helper.make_node("Split", ["x", *constants], ["a", "b"], axis=1, **attributes)
    path = written(tmp_path, [split, node("Neg", "b")], (4,), constants)
    same_as_reference(path, from_onnx(path), (4,), (1, 3))


@needs_acas_xu
def test_acas_xu_is_the_reference_and_the_program_of_the_module() -> None:
    assert sorted(ACAS_XU_FOLDER.glob("*.onnx")) == sorted(ACAS_XU.values())
    for path in ACAS_XU.values():
        same_as_reference(path, from_onnx(path, verify=False), (1, 1, 5), (1,))
    path = ACAS_XU["1_1"]
    program, x = read_model(from_onnx(path)), torch.randn(20, 5, dtype=torch.float64)
    assert (program.in_shape, program.num_neurons) == ((1, 1, 5), 300)
    with torch.no_grad():
        assert np.allclose(program(x.numpy()), read_onnx(path)(x).numpy(), rtol=0.0, atol=1e-9)


@needs_acas_xu
@pytest.mark.slow
@pytest.mark.parametrize("name", ACAS_XU)
def test_acas_xu_transforms(name: str) -> None:
    model = from_onnx(ACAS_XU[name])
    shallow, x = transform(model, domain=Box(-1e-3, 1e-3)), 1e-3 * (2 * torch.rand(50, 1, 1, 5) - 1)
    assert torch.allclose(shallow(x), model(x), atol=1e-5)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)) + x)


class Shapes(nn.Module):
    """Computes with the shape of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.row = nn.Linear(8, 3), nn.Parameter(torch.randn(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        h = x.view(count, 2, x.shape[1] // 2).transpose(1, 2).reshape(count, -1)[:, [0, 2, 1, 3, 4, 5, 6, 7]]
        return torch.cat([self.linear(h).relu(), self.row.expand(count, -1)], 1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def convolutional() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.running_mean)
    layers = [nn.Conv2d(1, 3, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 2)]
    return nn.Sequential(*layers).eval()


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (mlp, (4,)),
    (Residual, (4,)),
    (convolutional, (1, 8, 8)),
    (Shapes, (8,)),
]


@pytest.mark.parametrize("dynamic", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["dynamic", "fixed"])
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("make", "in_shape"),
    [pytest.param(*row, marks=[] if row[0] in (convolutional, Shapes) else [pytest.mark.slow]) for row in MODELS],
    ids=[row[0].__name__ for row in MODELS],
)
def test_files_of_torch(
    tmp_path: Path,
    reads: Reads,
    make: Callable[[], nn.Module],
    in_shape: tuple[int, ...],
    dynamo: bool,
    dynamic: bool,
) -> None:
    if dynamo:
        pytest.importorskip("onnxscript")
    if make is Shapes and not dynamic:
        pytest.skip("the number of rows that are joined is in the file")
    model, x, path = make().eval(), torch.randn(3, *in_shape), tmp_path / "model.onnx"
    options: dict[str, Any] = {}
    if dynamic and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif dynamic:
        options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        torch.onnx.export(model, (x,), path, dynamo=dynamo, verbose=False, **options)
    module = from_onnx(path)
    z = torch.randn(7, *in_shape)
    with torch.no_grad():
        assert torch.allclose(module(z), model(z), atol=1e-5)
    assert reads(module).in_shape == in_shape
    same_as_reference(path, module, in_shape, (3,))


def test_stages_are_named_as_in_the_file(tmp_path: Path, reads: Reads) -> None:
    path = written(tmp_path, [node("Gemm", "x", "w", out="h"), node("Relu", "h")], (4,), {"w": floats(4, 3)})
    module = from_onnx(path)
    assert [stage.name for stage in reads(module).stages] == ["the_Relu"]
    assert dict(module.named_parameters()).keys() == {"w"}


def test_old_opsets_are_upgraded(tmp_path: Path) -> None:
    squeeze = node("Squeeze", "x", axes=[1])
    path = written(tmp_path, [squeeze], (1, 4), opset=11)
    same_as_reference(path, from_onnx(path), (1, 4), (1, 3))


def test_a_file_for_a_fixed_batch_runs_on_any(tmp_path: Path) -> None:
    reshape = node("Reshape", "x", "s")
    path = written(tmp_path, [reshape], (2, 3), {"s": ints(4, 6)}, batch=4)
    x = torch.randn(7, 2, 3)
    assert torch.equal(from_onnx(path)(x), x.reshape(7, 6))
    path = written(tmp_path, [node("Add", "x", "c")], (2,), {"c": floats(4, 2)}, batch=4)
    with pytest.raises(TransformError, match=r"exported for a batch of 4 and cannot run on another .*dynamic_shapes"):
        from_onnx(path)


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransformError, match="no file at"):
        from_onnx(tmp_path / "missing.onnx")
    for content in (b"", b"not a model"):
        (tmp_path / "text.onnx").write_bytes(content)
        with pytest.raises(TransformError, match=r"expected (a complete|an) ONNX file"):
            from_onnx(tmp_path / "text.onnx")
    with pytest.raises(TransformError, match="float32, float16 or float64"):
        from_onnx(written(tmp_path, [node("Neg", "x")], (2,), kind=TensorProto.INT64))
    nodes = [node("LpPool", "x", out="h", kernel_shape=[1, 1]), node("Det", "x", out="d"), node("Add", "h", "d")]
    with pytest.raises(UnsupportedOperation, match=r"LpPool \(at the_LpPool\), Det \(at the_Det\)\. .* as output="):
        from_onnx(written(tmp_path, nodes, (2, 2)))
    with pytest.raises(TransformError, match=r"Reshape .* needs a constant as its input"):
        from_onnx(written(tmp_path, [node("Reshape", "x", "x")], (4,)))
    with pytest.raises(TransformError, match="joins the batch"):
        from_onnx(written(tmp_path, [node("Flatten", "x", axis=2)], (4, 2)))
    with pytest.raises(TransformError, match=r"has unsupported attributes: antialias_more"):
        from_onnx(written(tmp_path, [node("Relu", "x", antialias_more=1)], (4,)))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(TransformError, match=r"pip install 'torch_shallow\[onnx\]'"):
        from_onnx(tmp_path / "model.onnx")
