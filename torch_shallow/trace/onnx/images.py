"""ONNX operators of images: resizing, and moving entries between channels and pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from torch_shallow.trace.onnx.value import NotRead, Value

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
