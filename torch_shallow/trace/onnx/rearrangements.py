"""ONNX operators that move entries around."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
        is_batch = i == 0 and fixed is not None and not isinstance(size, Proxy) and size == fixed == x.dimensions[0]
        if keeps or is_batch:
            sizes[i] = x.tensor.size(i)
    return torch.reshape(x.tensor, sizes)


def flatten(x: Value, *, axis: int = 1) -> Any:
    if axis != 1 and axis % x.rank != 1:
        raise NotRead("joins the batch with other dimensions")
    return torch.flatten(x.tensor, 1)


def squeeze(x: Value, axes: Value | None = None) -> Any:
    if axes is None:
        raise NotRead("does not say which dimensions to leave out")
    return torch.squeeze(x.tensor, tuple(axes.sizes))


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


def slice_(x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None) -> Any:
    index = [slice(None)] * x.rank
    places = axes_or_all(axes, x.rank) if axes is not None else tuple(range(starts.array.size))
    strides = steps.sizes if steps is not None else [1] * len(places)
    for axis, start, end, step in zip(places, starts.sizes, ends.sizes, strides, strict=True):
        if step < 0:
            raise NotRead("goes backwards")
        index[axis] = slice(start, end, step)
    return x.tensor[tuple(index)]


def gather(x: Value, indices: Value, *, axis: int = 0) -> Any:
    if indices.array.ndim == 0:
        return torch.select(x.tensor, axis, int(indices.array))
    places = indices.array if (indices.array >= 0).all() else indices.array % x.size(axis)
    chosen = torch.index_select(
        x.tensor, axis, x.writer.constant(indices.name, places.reshape(-1).astype(np.int64), is_weight=False)
    )
    return chosen if places.ndim == 1 else chosen.unflatten(axis, places.shape)


def gather_nd(x: Value, indices: Value, *, batch_dims: int = 0) -> Any:
    if batch_dims or indices.array.shape[-1] != 1:
        raise NotRead("picks from several dimensions at once")
    return gather(x, Value(indices.writer, indices.name, indices.array[..., 0]))


def expand(x: Value, shape: Value) -> Any:
    sizes = shape.sizes
    new = max(len(sizes) - x.rank, 0)
    sizes = [1] * (x.rank - len(sizes)) + sizes
    kept = [-1 if i >= new and not isinstance(size, Proxy) and size == 1 else size for i, size in enumerate(sizes)]
    return x.tensor.expand(*kept)


def tile(x: Value, repeats: Value) -> Any:
    return x.tensor.repeat(*repeats.sizes)


def pad(x: Value, pads: Value, value: Value | None = None, axes: Value | None = None, *, mode: str = "constant") -> Any:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if mode not in modes:
        raise NotRead(f"has mode {mode!r}")
    amounts = [(0, 0)] * x.rank
    sizes, places = pads.sizes, axes_or_all(axes, x.rank)
    for i, axis in enumerate(places):
        amounts[axis] = (sizes[i], sizes[i + len(places)])
    while len(amounts) > 1 and amounts[0] == (0, 0):
        amounts = amounts[1:]
    flat = [size for pair in reversed(amounts) for size in pair]
    if mode == "constant":
        return functional.pad(x.tensor, flat, value=float(constant_or(value, np.zeros(())).item()))
    return functional.pad(x.tensor, flat, modes[mode])


def resize(
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Any:
    factors = None if scales is None or scales.array.size == 0 else scales.array.tolist()
    coordinates = coordinate_transformation_mode
    if antialias or axes or keep_aspect_ratio_policy != "stretch" or (factors or [1, 1])[:2] != [1, 1] or x.rank < 3:
        raise NotRead("resizes other dimensions than those of an image, or with antialiasing or a fixed ratio")
    if sizes is not None and sizes.sizes[1] != x.size(1):
        raise NotRead("resizes the channels")
    target: dict[str, Any] = {"size": sizes.sizes[2:]} if sizes is not None else {"scale_factor": (factors or [])[2:]}
    whole = factors is not None and all(factor == int(factor) for factor in factors)
    rounding = (coordinates, nearest_mode)
    # Both repeat each entry where the factor is whole.
    if mode == "nearest" and (
        rounding == ("asymmetric", "floor") or (whole and rounding == ("half_pixel", "round_prefer_floor"))
    ):
        return functional.interpolate(x.tensor, **target, mode="nearest")
    linear = {3: "linear", 4: "bilinear", 5: "trilinear"}
    if mode == "linear" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        align = coordinates == "align_corners"
        return functional.interpolate(x.tensor, **target, mode=linear[x.rank], align_corners=align)
    raise NotRead(f"has mode {mode!r} with {coordinates!r} and {nearest_mode!r}")


def depth_to_space(x: Value, *, blocksize: int, mode: str = "DCR") -> Any:
    if mode != "CRD":
        raise NotRead(f"has mode {mode!r}")
    return torch.pixel_shuffle(x.tensor, blocksize)
