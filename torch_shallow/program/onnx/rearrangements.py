"""Read ONNX operators that rearrange entries, select them by position, or write to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch.fx import Proxy
from torch.nn import functional

from torch_shallow.program.onnx.sizes import filled
from torch_shallow.program.onnx.value import NotRead, Value, axes_or_all, constant_or


def reshape(x: Value, shape: Value, *, allowzero: int = 0) -> Any:
    sizes = shape.sizes
    fixed = x.writer.batch
    for i, size in enumerate(sizes):
        keeps = not isinstance(size, Proxy) and size == 0 and not allowzero
        # A file for a fixed number of inputs has that number where others have the size of the batch.
        is_batch = i == 0 and fixed is not None and not isinstance(size, Proxy) and size == fixed and _is_batch(x)
        if keeps or is_batch:
            sizes[i] = x.tensor.size(i)
    return x.tensor.reshape(sizes)


def _is_batch(x: Value) -> bool:
    """Tell whether the first dimension may be the batch."""
    return x.rank > 0 and x.dimensions[0] in (None, x.writer.batch)


def flatten(x: Value, *, axis: int = 1) -> Any:
    # For one input, joining the batch with dimensions of size 1 leaves it unchanged.
    alone = x.writer.batch == 1 and _is_batch(x)
    axis = axis % x.rank if axis < 0 else axis
    if axis == 1 or (axis == 0 and alone):
        return torch.flatten(x.tensor, 1)
    if axis > 1 and alone and all(size == 1 for size in x.dimensions[1:axis]):
        return torch.flatten(x.tensor, 1)
    raise NotRead(f"joins the batch with other dimensions (axis={axis}), which mixes inputs; use axis=1")


def squeeze(x: Value, axes: Value | None = None) -> Any:
    if axes is not None:
        return torch.squeeze(x.tensor, tuple(axes.sizes))
    sizes = x.dimensions
    if None in sizes[1:] or (x.writer.batch == 1 and _is_batch(x)):
        raise NotRead(
            "does not name the dimensions that it removes, and some have an unknown size, or that of the batch; name "
            "its axes"
        )
    return torch.squeeze(x.tensor, tuple(axis for axis, size in enumerate(sizes) if size == 1))


def unsqueeze(x: Value, axes: Value) -> Any:
    result = x.tensor
    for axis in sorted(int(axis) % (x.rank + axes.array.size) for axis in axes.array.reshape(-1)):
        result = torch.unsqueeze(result, axis)
    return result


def split(x: Value, split: Value | None = None, *, axis: int = 0, num_outputs: int | None = None) -> Any:
    if split is not None:
        return torch.split(x.tensor, split.sizes, axis)
    if num_outputs is None:
        raise NotRead("does not give the sizes of its parts")
    return torch.split(x.tensor, math.ceil(x.size(axis) / num_outputs), axis)


def expand(x: Value, shape: Value) -> Any:
    sizes = shape.sizes
    new = max(len(sizes) - x.rank, 0)
    sizes = [1] * (x.rank - len(sizes)) + sizes
    kept = [-1 if i >= new and not isinstance(size, Proxy) and size == 1 else size for i, size in enumerate(sizes)]
    if x.is_constant:  # a tensor of the module cannot be expanded symbolically to a size that is known only at run time
        zeros = filled(sizes, 0, cast(torch.dtype, x.kind))
        return torch.logical_or(zeros, x.tensor) if x.kind is torch.bool else zeros + x.tensor
    return x.tensor.expand(*kept)


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
    "Concat": lambda *values, axis: torch.cat([value.tensor for value in values], axis),
    "Expand": expand,
    "Flatten": flatten,
    "Pad": pad,
    "Reshape": reshape,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": lambda x, repeats: x.tensor.repeat(*repeats.sizes),
    "Transpose": lambda x, *, perm=None: torch.permute(x.tensor, tuple(perm or range(x.rank)[::-1])),
    "Unsqueeze": unsqueeze,
}


def slice_(x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None) -> Any:
    index = [slice(None)] * x.rank
    places = axes_or_all(axes, x.rank) if axes is not None else tuple(range(starts.array.size))
    strides = steps.sizes if steps is not None else [1] * len(places)
    result = x.tensor
    for axis, start, end, step in zip(places, starts.sizes, ends.sizes, strides, strict=True):
        if step < 0:
            result = _backwards(result, x, axis, range(x.size(axis))[start : _before(end, x.size(axis)) : step])
        else:
            index[axis] = slice(start, end, step)
    return result if all(part == slice(None) for part in index) else result[tuple(index)]


def _before(end: int, size: int) -> int | None:
    """Return the end of a slice that runs backwards; None if it includes the first entry."""
    return None if end < -size else end


def _backwards(tensor: Any, x: Value, axis: int, places: range) -> Any:
    if places == range(x.size(axis))[::-1]:
        return torch.flip(tensor, [axis])
    return torch.index_select(tensor, axis, x.writer.constant(f"{x.name}_places", np.array(places, np.int64)))


def gather(x: Value, indices: Value, *, axis: int = 0) -> Any:
    if not indices.is_constant:
        return x.tensor[(slice(None),) * x.axis(axis) + (indices.tensor,)]  # positions are known at run time
    if indices.array.ndim == 0:
        return torch.select(x.tensor, axis, int(indices.array))
    places = indices.array if (indices.array >= 0).all() else indices.array % x.size(axis)
    chosen = torch.index_select(x.tensor, axis, _indices(indices, places.reshape(-1)))
    return chosen if places.ndim == 1 else chosen.unflatten(axis, places.shape)


def _indices(like: Value, places: np.ndarray) -> Any:
    return like.writer.constant(like.name, places.astype(np.int64))


def scatter_elements(x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Any:
    if reduction not in ("none", "add"):
        raise NotRead(f"has reduction {reduction!r}; only 'add' is supported")
    function = torch.scatter if reduction == "none" else torch.scatter_add
    return function(x.tensor, axis, _in_range(x, indices, axis), updates.tensor)


def _in_range(x: Value, indices: Value, axis: int) -> Any:
    """Return positions counted from the first entry, if they are constant."""
    if not indices.is_constant:
        return indices.tensor
    return _indices(indices, indices.array if (indices.array >= 0).all() else indices.array % x.size(axis))


def gather_nd(x: Value, indices: Value, *, batch_dims: int = 0) -> Any:
    # For each entry of the leading dimensions, its position in these.
    own = [
        x.writer.apply(torch.arange, x.tensor.size(k)).reshape((-1, *(1,) * (indices.rank - 2 - k)))
        for k in range(batch_dims)
    ]
    places = (*own, *_coordinates(indices))
    return x.tensor[places]


def scatter_nd(x: Value, indices: Value, updates: Value, *, reduction: str = "none") -> Any:
    if reduction not in ("none", "add"):
        raise NotRead(f"has reduction {reduction!r}; only 'add' is supported")
    return torch.index_put(x.tensor, _coordinates(indices), updates.tensor, accumulate=reduction == "add")


def _coordinates(indices: Value) -> tuple[Any, ...]:
    """Return one tensor of positions for each of the leading dimensions."""
    count = indices.size(-1)
    if indices.is_constant:
        return tuple(_indices(indices, indices.array[..., k]) for k in range(count))
    return tuple(torch.select(indices.tensor, -1, k) for k in range(count))


def trilu(x: Value, k: Value | None = None, *, upper: int = 1) -> Any:
    diagonal = 0 if k is None else int(k.number)
    return torch.triu(x.tensor, diagonal) if upper else torch.tril(x.tensor, diagonal)


INDEXING: dict[str, Callable[..., Any]] = {
    "Gather": gather,
    "GatherElements": lambda x, indices, *, axis=0: torch.gather(x.tensor, axis, _in_range(x, indices, axis)),
    "GatherND": gather_nd,
    "NonZero": lambda x: torch.nonzero(x.tensor).t(),
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Slice": slice_,
    "Trilu": trilu,
}
