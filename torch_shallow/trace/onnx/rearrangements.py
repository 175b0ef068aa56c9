"""ONNX operators of shapes: the same entries in other dimensions, repeated or padded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.fx import Proxy
from torch.nn import functional

from torch_shallow.trace.onnx.value import NotRead, Value, axes_or_all, constant_or


def reshape(x: Value, shape: Value, *, allowzero: int = 0) -> Any:
    sizes = shape.sizes
    fixed = x.writer.batch
    for i, size in enumerate(sizes):
        keeps = not isinstance(size, Proxy) and size == 0 and not allowzero
        # A file for a fixed number of inputs says that number where others say the size of the batch.
        is_batch = i == 0 and fixed is not None and not isinstance(size, Proxy) and size == fixed and _is_batch(x)
        if keeps or is_batch:
            sizes[i] = x.tensor.size(i)
    return torch.reshape(x.tensor, sizes)


def _is_batch(x: Value) -> bool:
    """Whether the first dimension may be the batch."""
    return x.rank > 0 and x.dimensions[0] in (None, x.writer.batch)


def flatten(x: Value, *, axis: int = 1) -> Any:
    # For one input, whatever joins the batch with dimensions of one entry leaves it alone.
    alone = x.writer.batch == 1 and _is_batch(x)
    axis = axis % x.rank if axis < 0 else axis
    if axis == 1 or (axis == 0 and alone):
        return torch.flatten(x.tensor, 1)
    if axis > 1 and alone and all(size == 1 for size in x.dimensions[1:axis]):
        return torch.flatten(x.tensor, 1)
    raise NotRead(f"joins the batch with other dimensions (axis={axis}), so that inputs are mixed; use axis=1")


def squeeze(x: Value, axes: Value | None = None) -> Any:
    if axes is not None:
        return torch.squeeze(x.tensor, tuple(axes.sizes))
    sizes = x.dimensions
    if None in sizes[1:] or (x.writer.batch == 1 and _is_batch(x)):
        raise NotRead(
            "does not say which dimensions it leaves out, and some have a size that is not known, or that of the "
            "batch; name its axes"
        )
    return torch.squeeze(x.tensor, tuple(axis for axis, size in enumerate(sizes) if size == 1))


def unsqueeze(x: Value, axes: Value) -> Any:
    result = x.tensor
    for axis in sorted(int(axis) % (x.rank + axes.array.size) for axis in axes.array.reshape(-1)):
        result = torch.unsqueeze(result, axis)
    return result


def transpose(x: Value, *, perm: Sequence[int] | None = None) -> Any:
    return torch.permute(x.tensor, tuple(perm or range(x.rank)[::-1]))


def concat(*values: Value, axis: int) -> Any:
    return torch.cat([value.tensor for value in values], axis)


def split(x: Value, split: Value | None = None, *, axis: int = 0, num_outputs: int | None = None) -> Any:
    if split is not None:
        return torch.split(x.tensor, split.sizes, axis)
    if num_outputs is None:
        raise NotRead("does not say the sizes of its parts")
    return torch.split(x.tensor, math.ceil(x.size(axis) / num_outputs), axis)


def expand(x: Value, shape: Value) -> Any:
    sizes = shape.sizes
    new = max(len(sizes) - x.rank, 0)
    sizes = [1] * (x.rank - len(sizes)) + sizes
    kept = [-1 if i >= new and not isinstance(size, Proxy) and size == 1 else size for i, size in enumerate(sizes)]
    if x.is_constant:  # a tensor of the module cannot be followed to a size that is known when it runs
        zeros = torch.full(sizes, 0, dtype=cast(torch.dtype, x.kind))
        return torch.logical_or(zeros, x.tensor) if x.kind is torch.bool else zeros + x.tensor
    return x.tensor.expand(*kept)


def tile(x: Value, repeats: Value) -> Any:
    return x.tensor.repeat(*repeats.sizes)


def pad(x: Value, pads: Value, value: Value | None = None, axes: Value | None = None, *, mode: str = "constant") -> Any:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise NotRead(f"has mode {mode!r}; use one of {', '.join(modes)}")
    amounts = [(0, 0)] * x.rank
    sizes, places = pads.sizes, axes_or_all(axes, x.rank)
    for i, axis in enumerate(places):
        amounts[axis] = (sizes[i], sizes[i + len(places)])
    while len(amounts) > 1 and amounts[0] == (0, 0) and (mode == "constant" or len(amounts) > max(x.rank - 2, 1)):
        amounts = amounts[1:]
    flat = [size for pair in reversed(amounts) for size in pair]
    if mode == "constant":
        return functional.pad(x.tensor, flat, value=float(constant_or(value, np.zeros(())).item()))
    return functional.pad(x.tensor, flat, modes[mode])


REARRANGEMENTS: dict[str, Callable[..., Any]] = {
    "Concat": concat,
    "Expand": expand,
    "Flatten": flatten,
    "Pad": pad,
    "Reshape": reshape,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
