"""Read ONNX operators on images: convolution, pooling, resizing, and moving entries between channels and pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from torch_shallow.program.onnx.value import NotRead, Value


@dataclass
class Windows:
    """Describe sliding windows over the last dimensions of a value.

    Attributes:
        kernel: sizes of a window.
        strides: distances between windows.
        dilations: distances between entries of a window.
        pads: numbers of entries added before and after each dimension.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: list[tuple[int, int]]

    @classmethod
    def of(
        cls,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str,
    ) -> Windows:
        """Create windows from the attributes of an operator."""
        count = len(kernel)
        strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            padding: list[tuple[int, int]] = []
            for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
                size = x.size(i - count)
                total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
                less, more = total // 2, total - total // 2
                padding.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
        else:
            pads = list(pads or [0] * 2 * count) if auto_pad == "NOTSET" else [0] * 2 * count
            padding = list(zip(pads[:count], pads[count:], strict=True))
        return cls(list(kernel), strides, dilations, padding)

    @property
    def symmetric(self) -> bool:
        """Whether the padding before each dimension equals that after it."""
        return all(before == after for before, after in self.pads)

    @property
    def padding(self) -> list[int]:
        """The padding before each dimension."""
        return [before for before, _ in self.pads]

    def padded(self, x: Any, value: float = 0.0) -> Any:
        """Return a value with its padding, after which no further padding is needed."""
        return functional.pad(x, [size for pair in reversed(self.pads) for size in pair], value=value)

    def count(self, size: int, k: int, ceil: bool) -> int:
        """Return the number of windows over the k-th of the last dimensions; with `ceil`, one may exceed the end."""
        before, after = self.pads[k]
        free = size + before + after - self.dilations[k] * (self.kernel[k] - 1) - 1
        count = (math.ceil if ceil else math.floor)(free / self.strides[k]) + 1
        return count - 1 if ceil and (count - 1) * self.strides[k] >= size + before else count

    def places(self, size: int, k: int, ceil: bool) -> list[range]:
        """Return the entries of a dimension that are in each window."""
        reach = self.dilations[k] * (self.kernel[k] - 1) + 1
        starts = [self.strides[k] * i - self.pads[k][0] for i in range(self.count(size, k, ceil))]
        within = [range(start, start + reach, self.dilations[k]) for start in starts]
        return [range(*_cut(window, size)) for window in within]


def _cut(window: range, size: int) -> tuple[int, int, int]:
    """Return the part of a window inside a dimension, as the arguments of a range."""
    first = next((place for place in window if place >= 0), size)
    return first, min(window.stop, size), window.step


def conv(
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    windows = Windows.of(x, [weight.size(i) for i in range(2, weight.rank)], strides, dilations, pads, auto_pad)
    function = getattr(functional, f"conv{len(windows.kernel)}d")
    padding = windows.padding if windows.symmetric else [0] * len(windows.kernel)
    padded = x.tensor if windows.symmetric else windows.padded(x.tensor)
    added = None if bias is None else bias.weight
    return function(padded, weight.weight, added, windows.strides, padding, windows.dilations, group)


def conv_transpose(
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    kernel = [weight.size(i) for i in range(2, weight.rank)]
    dims = len(kernel)
    strides, dilations = list(strides or [1] * dims), list(dilations or [1] * dims)
    extra = list(output_padding or [0] * dims)
    cut = list(pads or [0] * 2 * dims) if auto_pad == "NOTSET" else [0] * 2 * dims
    if output_shape is not None or auto_pad.startswith("SAME"):
        for k in range(dims):
            full = dilations[k] * (kernel[k] - 1) + 1 + extra[k]
            if output_shape is None:
                total = max(full - strides[k], 0)
            else:
                total = strides[k] * (x.size(k - dims) - 1) + full - list(output_shape)[k - dims]
            less, more = total // 2, total - total // 2
            cut[k], cut[k + dims] = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    if min(cut) < 0:
        raise NotRead("requests more entries than its kernel reaches; use output_padding")
    function = getattr(functional, f"conv_transpose{dims}d")
    added = None if bias is None else bias.weight
    arguments = (x.tensor, weight.weight, added, strides)
    if cut[:dims] == cut[dims:]:
        return function(*arguments, cut[:dims], extra, group, dilations)
    whole = function(*arguments, [0] * dims, extra, group, dilations)
    kept = (..., *(slice(a, -b or None) for a, b in zip(cut[:dims], cut[dims:], strict=True)))
    return whole[kept]


def max_pool(
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Any:
    windows = Windows.of(x, kernel_shape, strides, dilations, pads, auto_pad)
    dims, ceil = len(windows.kernel), bool(ceil_mode)
    wide = any(
        2 * before > d * (k - 1) + 1
        for k, d, (before, _) in zip(windows.kernel, windows.dilations, windows.pads, strict=True)
    )
    if not windows.symmetric or wide:
        if not wide and (same := _with_ceiling(x, windows, ceil)) is not None:
            ceil = same
        else:
            return _maxima(x, windows, ceil)
    function = getattr(functional, f"max_pool{dims}d")
    return function(x.tensor, windows.kernel, windows.strides, windows.padding, windows.dilations, ceil_mode=ceil)


def _with_ceiling(x: Value, windows: Windows, ceil: bool) -> bool | None:
    """Return the `ceil_mode` with which padding both sides like the front keeps the number of windows, or None.

    Padding is never a maximum, so it matters only for the number of windows.
    """
    dims = len(windows.kernel)
    sizes = [x.size(k - dims) for k in range(dims)]
    wanted = [windows.count(size, k, ceil) for k, size in enumerate(sizes)]
    other = Windows(windows.kernel, windows.strides, windows.dilations, [(p, p) for p in windows.padding])
    for mode in (False, True):
        if [other.count(size, k, mode) for k, size in enumerate(sizes)] == wanted:
            return mode
    return None


def _maxima(x: Value, windows: Windows, ceil: bool) -> Any:
    """Compute the maxima of windows, one dimension and one window after another."""
    dims, result = len(windows.kernel), x.tensor
    for k in range(dims):
        places = windows.places(x.size(k - dims), k, ceil)
        if not all(places):
            raise NotRead("has a window that contains only padding, whose maximum is -inf")
        parts = []
        for window in places:
            index = (..., slice(window.start, window.stop, window.step), *[slice(None)] * (dims - 1 - k))
            parts.append(torch.amax(result[index], k - dims, keepdim=True))
        result = torch.cat(parts, k - dims)
    return result


def average_pool(
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    windows = Windows.of(x, kernel_shape, strides, dilations, pads, auto_pad)
    if any(dilation != 1 for dilation in windows.dilations):
        raise NotRead("has dilations; write it as a convolution")
    function = getattr(functional, f"avg_pool{len(windows.kernel)}d")
    wide = any(2 * pad > k for k, pad in zip(windows.kernel, windows.padding, strict=True))
    if windows.symmetric and not wide:
        rest = (windows.padding, bool(ceil_mode), bool(count_include_pad))
        return function(x.tensor, windows.kernel, windows.strides, *rest)
    rest = ([0] * len(windows.kernel), bool(ceil_mode), True)
    means = function(windows.padded(x.tensor), windows.kernel, windows.strides, *rest)
    if count_include_pad:
        return means
    # The mean without padding is the mean with zeros added, divided by the share of entries that are not padding.
    shares = function(windows.padded(torch.ones_like(x.tensor)), windows.kernel, windows.strides, *rest)
    return means / shares


WINDOWS: dict[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
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
        raise NotRead("resizes dimensions other than those of an image, or uses antialiasing or a fixed ratio")
    if sizes is not None and sizes.sizes[1] != x.size(1):
        raise NotRead("resizes the channels")
    target: dict[str, Any] = {"size": sizes.sizes[2:]} if sizes is not None else {"scale_factor": (factors or [])[2:]}
    whole = factors is not None and all(factor == int(factor) for factor in factors)
    rounding = (coordinates, nearest_mode)
    # Both repeat each entry if the factor is an integer.
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
        raise NotRead(f"has mode {mode!r} or {x.rank - 2} dimensions; only images of two dimensions are supported")
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
            "creates images of other than two dimensions, or has different padding before and after a dimension"
        )
    return functional.fold(x.tensor, image, block, tuple(dilations or [1, 1]), pads[:2], tuple(strides or [1, 1]))


IMAGES: dict[str, Callable[..., Any]] = {
    "Col2Im": columns_to_image,
    "DepthToSpace": depth_to_space,
    "GridSample": grid_sample,
    "Resize": resize,
    "SpaceToDepth": space_to_depth,
}
