"""The operators of ONNX, opset 18 and above, written in PyTorch.

A function takes the inputs of an operator as `Value`s (None where one is left out) and its attributes by keyword, and
gives its outputs: a proxy of a tensor, or an array where the result is known. Attributes that a function does not name
are refused. What an operator means is said at https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy
from torch.nn import functional

from torch_shallow.trace.onnx import rearrangements, windows
from torch_shallow.trace.onnx.sizes import shape
from torch_shallow.trace.onnx.value import FLOATS, NotRead, Value, axes_or_all, constant_or

# Entry by entry.


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda x: function(x.tensor)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda a, b: function(a.tensor, b.tensor)


def _many(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *values: reduce(function, [value.tensor for value in values])


def relu(x: Value) -> Proxy:
    return x.writer.call(nn.ReLU(), x.tensor)


def leaky_relu(x: Value, *, alpha: float = 0.01) -> Any:
    return functional.leaky_relu(x.tensor, alpha)


def prelu(x: Value, slope: Value) -> Any:
    return slope.tensor * x.tensor + (1 - slope.tensor) * torch.relu(x.tensor)


def clip(x: Value, low: Value | None = None, high: Value | None = None) -> Any:
    if low is None and high is None:
        return x.tensor
    return torch.clamp(x.tensor, None if low is None else low.array.item(), None if high is None else high.array.item())


def hard_sigmoid(x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return torch.clamp(alpha * x.tensor + beta, 0.0, 1.0)


def mean(*values: Value) -> Any:
    return reduce(operator.add, [value.tensor for value in values]) / len(values)


def cast(x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    if to not in FLOATS:
        raise NotRead(f"rounds to the type of number {to}")
    return x.tensor.to(FLOATS[to])


def dropout(x: Value, ratio: Value | None = None, training: Value | None = None, *, seed: int = 0) -> Any:
    if constant_or(training, False):
        raise NotRead("is in training mode; export the model in eval mode")
    return x.tensor


def where(condition: Value, a: Value, b: Value) -> Any:
    return torch.where(condition.tensor, a.tensor, b.tensor)


def softmax(x: Value, *, axis: int = -1) -> Any:
    return torch.softmax(x.tensor, axis)


def log_softmax(x: Value, *, axis: int = -1) -> Any:
    return torch.log_softmax(x.tensor, axis)


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
    return functional.batch_norm(x.tensor, mean.tensor, variance.tensor, scale.tensor, bias.tensor, eps=epsilon)


# Matrix products.


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
    left = a.tensor.t() if transA else a.tensor
    if alpha == beta == 1 and transB and c is not None and c.rank == 1:
        return functional.linear(left, b.tensor, c.tensor)
    product = torch.matmul(left, b.tensor.t() if transB else b.tensor)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c.tensor if beta == 1 else beta * c.tensor)


def einsum(*values: Value, equation: str) -> Any:
    return torch.einsum(equation, *(value.tensor for value in values))


# Reductions.


def global_average_pool(x: Value) -> Any:
    return torch.mean(x.tensor, tuple(range(2, x.rank)), keepdim=True)


def global_max_pool(x: Value) -> Any:
    return torch.amax(x.tensor, tuple(range(2, x.rank)), keepdim=True)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduction(x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        if (axes is None or axes.array.size == 0) and noop_with_empty_axes:
            return x.tensor
        given = None if axes is None or axes.array.size == 0 else axes
        return function(x.tensor, axes_or_all(given, x.rank), keepdim=bool(keepdims))

    return reduction


def arg_max(x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
    if select_last_index:
        raise NotRead("takes the last of equal entries")
    return torch.argmax(x.tensor, axis, keepdim=bool(keepdims))


OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: _unary(getattr(torch, name.lower())) for name in ("Abs", "Neg", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt")},
    "Add": _binary(operator.add),
    "ArgMax": arg_max,
    "AveragePool": windows.average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Clip": clip,
    "Concat": rearrangements.concat,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "DepthToSpace": rearrangements.depth_to_space,
    "Div": _binary(operator.truediv),
    "Dropout": dropout,
    "Einsum": einsum,
    "Expand": rearrangements.expand,
    "Flatten": rearrangements.flatten,
    "Gather": rearrangements.gather,
    "GatherND": rearrangements.gather_nd,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "HardSigmoid": hard_sigmoid,
    "Identity": lambda x: x.tensor,
    "LeakyRelu": leaky_relu,
    "LogSoftmax": log_softmax,
    "MatMul": _binary(torch.matmul),
    "Max": _many(torch.maximum),
    "MaxPool": windows.max_pool,
    "Mean": mean,
    "Min": _many(torch.minimum),
    "Mul": _binary(operator.mul),
    "PRelu": prelu,
    "Pad": rearrangements.pad,
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Relu": relu,
    "Reshape": rearrangements.reshape,
    "Resize": rearrangements.resize,
    "Shape": shape,
    "Slice": rearrangements.slice_,
    "Softmax": softmax,
    "Split": rearrangements.split,
    "Squeeze": rearrangements.squeeze,
    "Sub": _binary(operator.sub),
    "Sum": _many(operator.add),
    "Tile": rearrangements.tile,
    "Transpose": rearrangements.transpose,
    "Unsqueeze": rearrangements.unsqueeze,
    "Where": where,
}
"""Operators of values that depend on the input."""
