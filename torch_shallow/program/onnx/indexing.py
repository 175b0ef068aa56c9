"""ONNX operators that pick entries by their places, or write to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_shallow.program.onnx.value import NotRead, Value, axes_or_all


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
    """The end of a slice that goes backwards; None if it takes the first entry too."""
    return None if end < -size else end


def _backwards(tensor: Any, x: Value, axis: int, places: range) -> Any:
    if places == range(x.size(axis))[::-1]:
        return torch.flip(tensor, [axis])
    return torch.index_select(tensor, axis, x.writer.constant(f"{x.name}_places", np.array(places, np.int64)))


def gather(x: Value, indices: Value, *, axis: int = 0) -> Any:
    if not indices.is_constant:
        return _picked(x, indices, axis)
    if indices.array.ndim == 0:
        return torch.select(x.tensor, axis, int(indices.array))
    places = indices.array if (indices.array >= 0).all() else indices.array % x.size(axis)
    chosen = torch.index_select(x.tensor, axis, _indices(indices, places.reshape(-1)))
    return chosen if places.ndim == 1 else chosen.unflatten(axis, places.shape)


def _picked(x: Value, indices: Value, axis: int) -> Any:
    """Entries at places that are known when the module runs."""
    index = [slice(None)] * x.axis(axis)
    places = (*index, indices.tensor)
    return x.tensor[places]


def _indices(like: Value, places: np.ndarray) -> Any:
    return like.writer.constant(like.name, places.astype(np.int64))


def gather_elements(x: Value, indices: Value, *, axis: int = 0) -> Any:
    return torch.gather(x.tensor, axis, _in_range(x, indices, axis))


def scatter_elements(x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Any:
    if reduction not in ("none", "add"):
        raise NotRead(f"has reduction {reduction!r}, of which only 'add' is read")
    function = torch.scatter if reduction == "none" else torch.scatter_add
    return function(x.tensor, axis, _in_range(x, indices, axis), updates.tensor)


def _in_range(x: Value, indices: Value, axis: int) -> Any:
    """Places counted from the first entry, where they are constant."""
    if not indices.is_constant:
        return indices.tensor
    return _indices(indices, indices.array if (indices.array >= 0).all() else indices.array % x.size(axis))


def gather_nd(x: Value, indices: Value, *, batch_dims: int = 0) -> Any:
    # For each entry of the leading dimensions, its own place in these.
    own = [
        x.writer.apply(torch.arange, x.tensor.size(k)).reshape((-1, *(1,) * (indices.rank - 2 - k)))
        for k in range(batch_dims)
    ]
    places = (*own, *_coordinates(indices))
    return x.tensor[places]


def scatter_nd(x: Value, indices: Value, updates: Value, *, reduction: str = "none") -> Any:
    if reduction not in ("none", "add"):
        raise NotRead(f"has reduction {reduction!r}, of which only 'add' is read")
    return torch.index_put(x.tensor, _coordinates(indices), updates.tensor, accumulate=reduction == "add")


def _coordinates(indices: Value) -> tuple[Any, ...]:
    """One tensor of places for each of the leading dimensions."""
    count = indices.size(-1)
    if indices.is_constant:
        return tuple(_indices(indices, indices.array[..., k]) for k in range(count))
    return tuple(torch.select(indices.tensor, -1, k) for k in range(count))


def trilu(x: Value, k: Value | None = None, *, upper: int = 1) -> Any:
    diagonal = 0 if k is None else int(k.number)
    return torch.triu(x.tensor, diagonal) if upper else torch.tril(x.tensor, diagonal)


def non_zero(x: Value) -> Any:
    return torch.nonzero(x.tensor).t()


INDEXING: dict[str, Callable[..., Any]] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": non_zero,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Slice": slice_,
    "Trilu": trilu,
}
