"""ONNX operators of sizes: integers that are known when the module runs, in arrays of at most one dimension."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.fx import Proxy

from torch_shallow.trace.onnx.value import NotRead, Value


def shape(x: Value, *, start: int = 0, end: int | None = None) -> np.ndarray:
    found = np.empty(x.rank, dtype=object)
    for i, size in enumerate(x.dimensions):
        # The first dimension may be the batch, whatever the file says.
        found[i] = x.tensor.size(i) if i == 0 or size is None else size
    return found[start:end]


def constant_of_shape(sizes: Value, *, value: np.ndarray | None = None) -> Any:
    fill = np.zeros(1, np.float32) if value is None else value
    return torch.full(sizes.sizes, fill.item(), dtype=torch.from_numpy(fill).dtype)


def _gather_sizes(x: Value, indices: Value, *, axis: int = 0) -> np.ndarray:
    return np.take(x.array, indices.array.reshape(-1), axis).reshape(indices.array.shape)


def _concat_sizes(*values: Value, axis: int) -> np.ndarray:
    return np.concatenate([value.array.astype(object) for value in values], axis)


def _slice_sizes(x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None) -> Any:
    step = 1 if steps is None else steps.sizes[0]
    return x.array[starts.sizes[0] : ends.sizes[0] : step]


def _unsqueeze_sizes(x: Value, axes: Value) -> np.ndarray:
    return x.array.reshape(-1)


def _squeeze_sizes(x: Value, axes: Value | None = None) -> np.ndarray:
    return x.array.reshape(())


def _reshape_sizes(x: Value, shape: Value, *, allowzero: int = 0) -> np.ndarray:
    return x.array.reshape(shape.sizes)


def _where_sizes(condition: Value, a: Value, b: Value) -> np.ndarray:
    return np.where(condition.array.astype(bool), a.array.astype(object), b.array.astype(object))


def _equal(a: Any, b: Any) -> bool:
    if any(isinstance(value, Proxy) for value in (a, b)) and not any(
        isinstance(value, int) and value < 0 for value in (a, b)
    ):
        raise NotRead("compares the number of inputs")
    return bool(not isinstance(a, Proxy) and not isinstance(b, Proxy) and a == b)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def compute(a: Value, b: Value) -> np.ndarray:
        left, right = np.broadcast_arrays(a.array, b.array)
        found = np.empty(left.size, dtype=object)
        for i, (p, q) in enumerate(zip(left.reshape(-1), right.reshape(-1), strict=True)):
            p, q = (v if isinstance(v, Proxy) else int(v) for v in (p, q))
            found[i] = function(p, q)
        return found.reshape(left.shape)

    return compute


SIZE_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _arithmetic(operator.add),
    "Cast": lambda x, *, to, saturate=1: x.array,
    "Concat": _concat_sizes,
    "ConstantOfShape": constant_of_shape,
    "Div": _arithmetic(operator.floordiv),
    "Equal": _arithmetic(_equal),
    "Gather": _gather_sizes,
    "Identity": lambda x: x.array,
    "Mul": _arithmetic(operator.mul),
    "Reshape": _reshape_sizes,
    "Shape": lambda x: np.array(x.array.shape),
    "Slice": _slice_sizes,
    "Squeeze": _squeeze_sizes,
    "Sub": _arithmetic(operator.sub),
    "Unsqueeze": _unsqueeze_sizes,
    "Where": _where_sizes,
}
"""Operators of sizes: arrays of at most one dimension."""
