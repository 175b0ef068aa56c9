"""ONNX operators of images: resizing, and moving entries between channels and pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.fx import Proxy
from torch.nn import functional

from torch_shallow.program.onnx.value import NotRead, Value, axes_or_all, constant_or


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


_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


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
    align = coordinates == "align_corners"
    if align or coordinates in ("half_pixel", "pytorch_half_pixel"):
        if mode == "linear":
            return functional.interpolate(x.tensor, **target, mode=_LINEAR[x.rank], align_corners=align)
        if mode == "cubic" and x.rank == 4 and cubic_coeff_a == -0.75 and not exclude_outside:
            return functional.interpolate(x.tensor, **target, mode="bicubic", align_corners=align)
    raise NotRead(f"has mode {mode!r} with {coordinates!r} and {nearest_mode!r}; use the mode 'nearest' or 'linear'")


def depth_to_space(x: Value, *, blocksize: int, mode: str = "DCR") -> Any:
    shuffled = x.tensor
    if mode == "DCR":
        channels = x.size(1) // blocksize**2
        shuffled = shuffled.unflatten(1, (blocksize**2, channels)).transpose(1, 2).flatten(1, 2)
    return torch.pixel_shuffle(shuffled, blocksize)


def space_to_depth(x: Value, *, blocksize: int, mode: str = "DCR") -> Any:
    channels, shuffled = x.size(1), torch.pixel_unshuffle(x.tensor, blocksize)
    if mode == "CRD":
        return shuffled
    return shuffled.unflatten(1, (channels, blocksize**2)).transpose(1, 2).flatten(1, 2)


def grid_sample(
    x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Any:
    modes = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
    if mode not in modes or x.rank != 4:
        raise NotRead(f"has mode {mode!r} or {x.rank - 2} dimensions; images of two dimensions are read")
    return functional.grid_sample(
        x.tensor, grid.tensor, modes.get(mode, mode), padding_mode=padding_mode, align_corners=bool(align_corners)
    )


def columns_to_image(
    x: Value,
    image_shape: Value,
    block_shape: Value,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    pads = tuple(pads or [0, 0, 0, 0])
    image, block = tuple(image_shape.sizes), tuple(block_shape.sizes)
    if len(image) != 2 or pads[:2] != pads[2:]:
        raise NotRead(
            "makes other images than those of two dimensions, or has paddings that differ before and after one"
        )
    return functional.fold(x.tensor, image, block, tuple(dilations or [1, 1]), pads[:2], tuple(strides or [1, 1]))


IMAGES: dict[str, Callable[..., Any]] = {
    "Col2Im": columns_to_image,
    "DepthToSpace": depth_to_space,
    "GridSample": grid_sample,
    "Resize": resize,
    "SpaceToDepth": space_to_depth,
}
