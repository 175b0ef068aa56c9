"""ONNX operators along dimensions: sums, maxima, orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torch_shallow.program.onnx.value import NotRead, Value, axes_or_all


def global_average_pool(x: Value) -> Any:
    return torch.mean(x.tensor, tuple(range(2, x.rank)), keepdim=True)


def global_max_pool(x: Value) -> Any:
    return torch.amax(x.tensor, tuple(range(2, x.rank)), keepdim=True)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduction(x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        if (axes is None or axes.array.size == 0) and noop_with_empty_axes:
            return x.tensor
        given = None if axes is None or axes.array.size == 0 else axes
        return function(x.tensor, axes_or_all(given, x.rank), keepdim=bool(keepdims))

    return reduction


def _product(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim)
    return x


def _absolute_sum(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    return torch.sum(torch.abs(x), axes, keepdim=keepdim)


def _square_sum(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    return torch.sum(torch.square(x), axes, keepdim=keepdim)


def _length(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    return torch.sqrt(_square_sum(x, axes, keepdim))


def _log_sum(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    return torch.log(torch.sum(x, axes, keepdim=keepdim))


def _extreme_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def place(x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        if select_last_index:
            raise NotRead("takes the last of equal entries; leave select_last_index out")
        return function(x.tensor, axis, keepdim=bool(keepdims))

    return place


def top_k(x: Value, k: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:  # noqa: A002
    found = torch.topk(x.tensor, k.sizes[0], axis, largest=bool(largest), sorted=bool(sorted))
    return found[0], found[1]


def cumulative_sum(x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Any:
    dim = int(axis.number)
    start = torch.flip(x.tensor, [dim]) if reverse else x.tensor
    total = torch.cumsum(start, dim)
    total = total - start if exclusive else total
    return torch.flip(total, [dim]) if reverse else total


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ArgMax": _extreme_place(torch.argmax),
    "ArgMin": _extreme_place(torch.argmin),
    "CumSum": cumulative_sum,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "ReduceL1": _reduction(_absolute_sum),
    "ReduceL2": _reduction(_length),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(torch.sum),
    "ReduceSumSquare": _reduction(_square_sum),
    "TopK": top_k,
}
