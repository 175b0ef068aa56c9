"""Read ONNX operators along dimensions, such as sums and maxima, and operators on sequences of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_shallow.program.onnx.value import NotRead, Value, axes_or_all


def insert(sequence: Value, tensor: Value, place: Value | None = None) -> list[Value]:
    parts = list(sequence.parts)
    parts.insert(len(parts) if place is None else int(place.number), tensor)
    return parts


def erase(sequence: Value, place: Value | None = None) -> list[Value]:
    parts = list(sequence.parts)
    parts.pop(-1 if place is None else int(place.number))
    return parts


def split(x: Value, sizes: Value | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Value]:
    total = x.size(axis)
    single = sizes is None or sizes.array.ndim == 0
    step = 1 if sizes is None else int(sizes.sizes[0])
    lengths = [min(step, total - start) for start in range(0, total, step)] if single else sizes.sizes  # type: ignore[union-attr]
    parts = torch.split(x.tensor, lengths, axis)
    drops = sizes is None and not keepdims
    return [x.named(parts[k].squeeze(axis) if drops else parts[k]) for k in range(len(lengths))]


SEQUENCES: dict[str, Callable[..., Any]] = {
    "ConcatFromSequence": lambda sequence, *, axis, new_axis=0: (torch.stack if new_axis else torch.cat)(
        [part.tensor for part in sequence.parts], axis
    ),
    "SequenceAt": lambda sequence, place: sequence.parts[int(place.number)].content,
    "SequenceConstruct": lambda *values: list(values),
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": lambda sequence: np.array(len(sequence.parts)),
    "SplitToSequence": split,
}


def _same(x: Any) -> Any:
    return x


def _reduction(
    function: Callable[..., Any], before: Callable[[Any], Any] = _same, after: Callable[[Any], Any] = _same
) -> Callable[..., Any]:
    """Return the operator that reduces dimensions by a function, between two functions of each entry."""

    def reduction(x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        if (axes is None or axes.array.size == 0) and noop_with_empty_axes:
            return x.tensor
        given = None if axes is None or axes.array.size == 0 else axes
        return after(function(before(x.tensor), axes_or_all(given, x.rank), keepdim=bool(keepdims)))

    return reduction


def _product(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim)
    return x


def _extreme_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def place(x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        if select_last_index:
            raise NotRead("selects the last of equal entries; leave select_last_index out")
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
    "GlobalAveragePool": lambda x: torch.mean(x.tensor, tuple(range(2, x.rank)), keepdim=True),
    "GlobalMaxPool": lambda x: torch.amax(x.tensor, tuple(range(2, x.rank)), keepdim=True),
    "ReduceL1": _reduction(torch.sum, before=torch.abs),
    "ReduceL2": _reduction(torch.sum, before=torch.square, after=torch.sqrt),
    "ReduceLogSum": _reduction(torch.sum, after=torch.log),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(torch.sum),
    "ReduceSumSquare": _reduction(torch.sum, before=torch.square),
    "TopK": top_k,
}
