"""ONNX operators of sliding windows: convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn import functional

from torch_shallow.trace.onnx.value import NotRead, Value


@dataclass
class Windows:
    """Sliding windows over the last dimensions of a value.

    Attributes:
        kernel: sizes of a window.
        strides: between windows.
        dilations: between entries of a window.
        pads: entries added before and after each dimension.
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
        """Windows by the attributes of an operator."""
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
        """Whether as much is added before each dimension as after it."""
        return all(before == after for before, after in self.pads)

    @property
    def padding(self) -> list[int]:
        """How much is added before each dimension."""
        return [before for before, _ in self.pads]

    def padded(self, x: Any, value: float = 0.0) -> Any:
        """A value with what is added, after which nothing is to be added."""
        flat = [size for pair in reversed(self.pads) for size in pair]
        self.pads = [(0, 0)] * len(self.pads)
        return functional.pad(x, flat, value=value)


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
    padded = x.tensor if windows.symmetric else windows.padded(x.tensor)
    added = None if bias is None else bias.tensor
    return function(padded, weight.tensor, added, windows.strides, windows.padding, windows.dilations, group)


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
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    windows = Windows.of(x, [weight.size(i) for i in range(2, weight.rank)], strides, dilations, pads, auto_pad)
    if not windows.symmetric or auto_pad.startswith("SAME"):
        raise NotRead("has paddings that differ before and after a dimension, or depend on its size")
    function = getattr(functional, f"conv_transpose{len(windows.kernel)}d")
    extra = list(output_padding or [0] * len(windows.kernel))
    added = None if bias is None else bias.tensor
    return function(x.tensor, weight.tensor, added, windows.strides, windows.padding, extra, group, windows.dilations)


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
    if not windows.symmetric:
        raise NotRead("has paddings that differ before and after a dimension")
    function = getattr(functional, f"max_pool{len(windows.kernel)}d")
    return function(
        x.tensor, windows.kernel, windows.strides, windows.padding, windows.dilations, ceil_mode=bool(ceil_mode)
    )


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
        raise NotRead("has dilations")
    if not windows.symmetric and not count_include_pad:
        raise NotRead("has paddings that differ before and after a dimension and are not counted")
    function = getattr(functional, f"avg_pool{len(windows.kernel)}d")
    padded = x.tensor if windows.symmetric else windows.padded(x.tensor)
    return function(padded, windows.kernel, windows.strides, windows.padding, bool(ceil_mode), bool(count_include_pad))
