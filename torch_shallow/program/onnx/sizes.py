"""Read ONNX operators on sizes: numbers that are known at run time, in arrays of at most one dimension."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.fx import Proxy

from torch_shallow.program.onnx.value import FLOATS, INTEGERS, NotRead, Value


def shape(x: Value, *, start: int = 0, end: int | None = None) -> np.ndarray:
    found = np.empty(x.rank, dtype=object)
    certain = isinstance(x.content, np.ndarray) or x.writer.rehearsal.dimensions(x.tensor.node) is not None
    for i, size in enumerate(x.dimensions):
        # If only the file gives the shape, its first dimension may be the batch, whatever the file says.
        found[i] = x.tensor.size(i) if size is None or (i == 0 and not certain) else size
    return found[start:end]


def size(x: Value) -> np.ndarray:
    found = np.empty((), dtype=object)
    found[()] = math.prod(shape(x).tolist())
    return found


def filled(sizes: list[Any], fill: float, dtype: torch.dtype) -> Any:
    known = next((size for size in sizes if isinstance(size, Proxy)), None)
    if known is None:
        return torch.full(sizes, fill, dtype=dtype)
    # Older versions of torch do not see by themselves that a size is known only when the module runs.
    return known.tracer.create_proxy("call_function", torch.full, (sizes, fill), {"dtype": dtype})


def constant_of_shape(sizes: Value, *, value: np.ndarray | None = None) -> Any:
    fill = np.zeros(1, np.float32) if value is None else value
    return filled(sizes.sizes, fill.item(), torch.from_numpy(fill.copy()).dtype)


def number_range(start: Value, limit: Value, delta: Value) -> Any:
    bounds = [value.array.reshape(-1)[0] for value in (start, limit, delta)]
    return start.writer.apply(torch.arange, *(bound if isinstance(bound, Proxy) else bound.item() for bound in bounds))


def eye_like(x: Value, *, dtype: int | None = None, k: int = 0) -> Any:
    kind = {**FLOATS, **INTEGERS}.get(dtype, x.kind) if dtype is not None else x.kind
    if not isinstance(kind, torch.dtype):
        raise NotRead("does not give the type of its entries")
    sizes = shape(x).tolist()
    return torch.diagonal_scatter(torch.zeros(sizes, dtype=kind), torch.ones(_diagonal(sizes, k), dtype=kind), k)


def _diagonal(sizes: list[Any], k: int) -> int:
    if any(isinstance(size, Proxy) for size in sizes):
        raise NotRead("creates a diagonal matrix of the size of the batch")
    return max(min(sizes[0] + min(k, 0), sizes[1] - max(k, 0)), 0)


OF_SIZES: dict[str, Callable[..., Any]] = {
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": number_range,
    "Shape": shape,
    "Size": size,
}
"""Operators that convert between tensors and sizes."""


def _gather_sizes(x: Value, indices: Value, *, axis: int = 0) -> np.ndarray:
    return np.take(x.array, indices.array.reshape(-1).astype(int), axis).reshape(indices.array.shape)


def _slice_sizes(x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None) -> Any:
    step = 1 if steps is None else steps.sizes[0]
    return x.array[starts.sizes[0] : ends.sizes[0] : step]


def _scatter_sizes(x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> np.ndarray:
    if reduction != "none":
        raise NotRead(f"has reduction {reduction!r}, of sizes")
    found = x.array.astype(object)
    found[indices.array.reshape(-1).astype(int)] = updates.array.reshape(-1)
    return found


def _product_of_sizes(x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
    found = np.empty(1, dtype=object)
    found[0] = math.prod(x.array.reshape(-1).tolist())
    return found if keepdims else found.reshape(())


def _cast_sizes(x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> np.ndarray:
    if to not in FLOATS and to not in INTEGERS:
        raise NotRead("converts the number of inputs to a boolean")
    return _each(x, lambda entry: _converted(x, entry, to in FLOATS))


def _converted(x: Value, entry: Any, to_float: bool) -> Any:
    if not isinstance(entry, Proxy):
        return (float if to_float else int)(entry)
    if to_float:
        return operator.mul(entry, 1.0)
    return x.writer.apply(int, entry) if x.writer.rehearsal.kind(entry.node) is float else entry


def _rounded(function: Callable[[Any], int]) -> Callable[..., Any]:
    def compute(x: Value) -> np.ndarray:
        return _each(
            x, lambda entry: x.writer.apply(function, entry) if isinstance(entry, Proxy) else float(function(entry))
        )

    return compute


def _each(x: Value, function: Callable[[Any], Any]) -> np.ndarray:
    found = np.empty(x.array.size, dtype=object)
    for i, entry in enumerate(x.array.reshape(-1).tolist()):
        found[i] = function(entry)
    return found.reshape(x.array.shape)


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
        for i, (p, q) in enumerate(zip(left.reshape(-1).tolist(), right.reshape(-1).tolist(), strict=True)):
            found[i] = function(p, q)
        return found.reshape(left.shape)

    return compute


def _quotient(a: Value, b: Value) -> np.ndarray:
    whole = all(_is_whole(value, entry) for value in (a, b) for entry in value.array.reshape(-1).tolist())
    return _arithmetic(operator.floordiv if whole else operator.truediv)(a, b)


def _is_whole(value: Value, entry: Any) -> bool:
    return value.writer.rehearsal.kind(entry.node) is not float if isinstance(entry, Proxy) else isinstance(entry, int)


SIZE_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _arithmetic(operator.add),
    "Cast": _cast_sizes,
    "Ceil": _rounded(math.ceil),
    "Concat": lambda *values, axis: np.concatenate([value.array.astype(object) for value in values], axis),
    "ConstantOfShape": constant_of_shape,
    "Div": _quotient,
    "Equal": _arithmetic(_equal),
    "Floor": _rounded(math.floor),
    "Gather": _gather_sizes,
    "Identity": lambda x: x.array,
    "Mod": _arithmetic(operator.mod),
    "Mul": _arithmetic(operator.mul),
    "ReduceProd": _product_of_sizes,
    "Reshape": lambda x, shape, *, allowzero=0: x.array.reshape(shape.sizes),
    "ScatterElements": _scatter_sizes,
    "Shape": lambda x: np.array(x.array.shape),
    "Size": lambda x: np.array(x.array.size),
    "Slice": _slice_sizes,
    "Squeeze": lambda x, axes=None: x.array.reshape(()),
    "Sub": _arithmetic(operator.sub),
    "Unsqueeze": lambda x, axes: x.array.reshape(-1),
    "Where": lambda condition, a, b: np.where(condition.array.astype(bool), *(v.array.astype(object) for v in (a, b))),
}
"""Operators on sizes: arrays of at most one dimension."""
