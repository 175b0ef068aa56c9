"""Read ONNX operators that are layers, and those of the domain `ai.onnx.ml` as exported from scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from torch_shallow.program.onnx.value import NotRead, Value, constant_or


def gemm(
    a: Value,
    b: Value,
    c: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Any:
    left = a.weight.t() if transA else a.weight
    if alpha == beta == 1 and transB and c is not None and c.rank == 1:
        return functional.linear(left, b.weight, c.weight)
    product = torch.matmul(left, b.weight.t() if transB else b.weight)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c.weight if beta == 1 else beta * c.weight)


def batch_normalization(
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Any:
    if training_mode:
        raise NotRead("is in training mode; export the model in eval mode")
    return functional.batch_norm(x.tensor, mean.tensor, variance.tensor, scale.weight, bias.weight, eps=epsilon)


def layer_normalization(
    x: Value, scale: Value, bias: Value | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    shape = [x.size(i) for i in range(x.axis(axis), x.rank)]
    return functional.layer_norm(x.tensor, shape, scale.weight, None if bias is None else bias.weight, epsilon)


def group_normalization(
    x: Value, scale: Value, bias: Value, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    if scale.size(0) != x.size(1):  # in opset 18, there is one for each group
        raise NotRead("has one weight for each group; export with opset 21 or above")
    return functional.group_norm(x.tensor, num_groups, scale.weight, bias.weight, epsilon)


def dequantize(x: Value, scale: Value, zero: Value | None = None, *, axis: int = 1, block_size: int = 0) -> Any:
    if block_size:
        raise NotRead("has one scale for each block; write the weights in floating point")
    along = [-1 if k == axis % x.rank else 1 for k in range(x.rank)] if scale.rank == 1 else []
    entries, scales = x.array.astype(scale.array.dtype), scale.array.reshape(along)
    return (entries if zero is None else entries - zero.array.reshape(along).astype(entries.dtype)) * scales


def rnn(
    x: Value,
    weight: Value,
    recurrence: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    start: Value | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[Any] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> Any:
    """Read a recurrent layer of one or two directions as the module of PyTorch."""
    kinds = {kind.decode() if isinstance(kind, bytes) else str(kind) for kind in activations or ["Tanh"]}
    if lengths is not None or clip is not None or kinds - {"Relu", "Tanh"} or len(kinds) > 1:
        raise NotRead("has sequence lengths, a clip, or activations other than Relu or Tanh alone")
    directions, size, inputs = weight.array.shape
    module = nn.RNN(inputs, size, nonlinearity=kinds.pop().lower(), bidirectional=directions == 2)
    biases = constant_or(bias, np.zeros((directions, 2 * size), weight.array.dtype))
    for k, suffix in zip(range(directions), ("", "_reverse"), strict=False):
        parts = {"weight_ih": weight.array[k], "weight_hh": recurrence.array[k]}
        parts |= {"bias_ih": biases[k, :size], "bias_hh": biases[k, size:]}
        for name, array in parts.items():
            setattr(module, f"{name}_l0{suffix}", nn.Parameter(torch.from_numpy(np.array(array))))
    steps = x.tensor.transpose(0, 1) if layout else x.tensor
    steps = steps.flip(0) if direction == "reverse" else steps
    states = [] if start is None else [start.tensor.transpose(0, 1) if layout else start.tensor]
    found: Any = x.writer.call(module, steps, *states)
    values, last = found[0].unflatten(2, (directions, size)).transpose(1, 2), found[1]
    values = values.flip(0) if direction == "reverse" else values
    return (values.permute(2, 0, 1, 3), last.transpose(0, 1)) if layout else (values, last)


LAYERS: dict[str, Callable[..., Any]] = {
    "BatchNormalization": batch_normalization,
    "DequantizeLinear": dequantize,
    "Einsum": lambda *values, equation: torch.einsum(equation, *(value.weight for value in values)),
    "Gemm": gemm,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": lambda x, scale, bias, *, epsilon=1e-5: functional.instance_norm(
        x.tensor, None, None, scale.weight, bias.weight, eps=epsilon
    ),
    "LRN": lambda x, *, size, alpha=1e-4, beta=0.75, bias=1.0: functional.local_response_norm(
        x.tensor, size, alpha, beta, bias
    ),
    "LayerNormalization": layer_normalization,
    "LpNormalization": lambda x, *, axis=-1, p=2: functional.normalize(x.tensor, float(p), axis, 0.0),
    "MatMul": lambda a, b: torch.matmul(a.weight, b.weight),
    "RNN": rnn,
}


def _row(x: Value, name: str, numbers: Sequence[float]) -> Any:
    """Return numbers given as an attribute, in the precision of a value."""
    kind = np.float64 if x.kind == torch.float64 else np.float32
    return x.writer.constant(f"{x.writer.place[0]}_{name}", np.array(numbers, kind))


def normalizer(x: Value, *, norm: str = "MAX") -> Any:
    norms = {"MAX": float("inf"), "L1": 1.0, "L2": 2.0}
    if norm not in norms:
        raise NotRead(f"has the norm {norm!r}")
    if norm == "MAX":
        raise NotRead("divides by the largest entry with its sign; use the norm L1 or L2")
    return functional.normalize(x.tensor, norms[norm], 1, 0.0)


def linear_regressor(
    x: Value,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> Any:
    if post_transform != "NONE":
        raise NotRead(f"has the post_transform {post_transform!r}")
    return _linear(x, coefficients, intercepts, targets)


def linear_classifier(
    x: Value,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[bytes] | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> Any:
    ends = {"NONE": lambda z: z, "LOGISTIC": torch.sigmoid, "SOFTMAX": lambda z: functional.softmax(z, 1)}
    if post_transform not in ends:
        raise NotRead(f"has the post_transform {post_transform!r}")
    labels = np.array(classlabels_ints or classlabels_strings or (), object if classlabels_strings else np.int64)
    if len(labels) < 2 or len(labels) * x.size(1) != len(coefficients):
        raise NotRead(
            f"has {len(coefficients)} coefficients for {len(labels)} classes; give coefficients for each class"
        )
    linear = _linear(x, coefficients, intercepts, len(labels))
    scores = ends[post_transform](linear)
    if classlabels_strings:
        return labels, scores  # text labels are refused where they are used
    known = x.writer.constant(f"{x.writer.place[0]}_labels", labels)
    return torch.index_select(known, 0, torch.argmax(linear, 1)), scores


def _linear(x: Value, coefficients: Sequence[float], intercepts: Sequence[float] | None, rows: int) -> Any:
    weight = x.writer.constant(f"{x.writer.place[0]}_weight", np.array(coefficients, np.float32).reshape(rows, -1))
    x.writer.learn(weight)
    found = functional.linear(x.tensor, weight)
    return found if intercepts is None else found + _row(x, "bias", intercepts)


def imputer(
    x: Value,
    *,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Any:
    if not np.isnan(replaced_value_float):
        raise NotRead(
            f"treats {replaced_value_float:g} as a missing value, and jumps there; write missing values as NaN"
        )
    return x.tensor  # the inputs of a network are never missing


def array_feature_extractor(x: Value, places: Value) -> Any:
    if places.is_constant:
        chosen = x.writer.constant(places.name, places.array.reshape(-1).astype(np.int64))
    else:
        chosen = places.tensor.reshape((-1,))
    found = torch.index_select(x.tensor, x.rank - 1, chosen)
    return found.unsqueeze(0) if x.rank == 1 else found


LEARNING: dict[str, Callable[..., Any]] = {
    "ai.onnx.ml.ArrayFeatureExtractor": array_feature_extractor,
    "ai.onnx.ml.FeatureVectorizer": lambda *values, inputdimensions=None: torch.cat(
        [value.tensor for value in values], 1
    ),
    "ai.onnx.ml.Imputer": imputer,
    "ai.onnx.ml.LinearClassifier": linear_classifier,
    "ai.onnx.ml.LinearRegressor": linear_regressor,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.Scaler": lambda x, *, offset=(0.0,), scale=(1.0,): (
        (x.tensor - _row(x, "offset", offset)) * _row(x, "scale", scale)
    ),
}
