"""Define piecewise-linear operations in terms of affine operations and ReLUs.

A function here takes the arguments of an operation of PyTorch in the order of its rule, `operations.PIECEWISE_RULES`,
with `torch.fx` proxies in place of tensors, so that running it writes nodes into the graph. The linear part is always a
skip connection, so that no ReLU is doubled. Where PyTorch returns values and indices, these functions return the values
and None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.fx import Proxy

from torch_shallow.program.rewriting.maxima import (
    Tensorlike,
    adaptive_windows,
    max_of_groups,
    pooling_windows,
    rnn,
    rnn_cell,
    rnn_relu_cell,
    sort,
)
from torch_shallow.program.rewriting.shapes import NotRewritable, Shapes

_MIXES_ROWS = "acts on the whole batch, so that the inputs depend on each other; give it a dim"


def _clamp(shapes: Shapes, x: Tensorlike, low: Any = None, high: Any = None) -> Tensorlike:
    low, high = _unless_infinite(low, -math.inf), _unless_infinite(high, math.inf)
    numbers = isinstance(low, float | int) and isinstance(high, float | int)
    low = min(low, high) if numbers else low
    bounded = x if low is None else _at_least(x, low)
    return bounded if high is None else bounded - _relu_beyond(x if numbers else bounded, high, 1.0)


@dataclass(frozen=True)
class Bound:
    """Hold bounds, some of which are infinite.

    Attributes:
        value: the finite bounds, and 0 elsewhere.
        finite: 1 where they are finite, 0 elsewhere.
        signs: signs of the infinite ones.
    """

    value: Tensorlike
    finite: Tensorlike
    signs: set[float]


def _relu_beyond(x: Tensorlike, bound: Any, sign: float) -> Tensorlike:
    """Return how far each entry is above a bound or, for sign -1, below it."""
    if not isinstance(bound, Bound):
        return torch.relu(x - bound if sign > 0.0 else bound - x)
    if bound.signs != {sign}:
        raise NotRewritable("has an infinite bound, which leaves no finite value")
    return torch.relu(bound.finite * (x - bound.value if sign > 0.0 else bound.value - x))


def _at_least(x: Tensorlike, low: Any) -> Tensorlike:
    # The skip is x, not the bound: a bound of -1e30 would leave no digit of x in low + relu(x - low).
    return torch.relu(x) if isinstance(low, float | int) and low == 0 else x + _relu_beyond(x, low, -1.0)


def _unless_infinite(bound: Any, none: float) -> Any:
    """Return a bound, or None for the infinity that bounds nothing."""
    if bound is None or bound is none or (isinstance(bound, float) and bound == none):
        return None
    if isinstance(bound, float) and not math.isfinite(bound):
        raise NotRewritable(f"has a bound of {bound}, which leaves no finite value")
    return bound


def _leaky_relu(shapes: Shapes, x: Tensorlike, slope: Any = 0.01) -> Tensorlike:
    return slope * x + (1.0 - slope) * torch.relu(x)


def _threshold(shapes: Shapes, x: Tensorlike, threshold: float, value: float) -> Tensorlike:
    if threshold != value:
        raise NotRewritable(f"jumps from {value} to {threshold}, which is not continuous; make both the same")
    return _clamp(shapes, x, threshold)


def _maximum(shapes: Shapes, x: Tensorlike, other: Tensorlike) -> Tensorlike:
    return x + _relu_beyond(x, other, -1.0)


def _minimum(shapes: Shapes, x: Tensorlike, other: Tensorlike) -> Tensorlike:
    return x - _relu_beyond(x, other, 1.0)


def _amax(shapes: Shapes, x: Tensorlike, dims: Any = None, keepdim: bool = False, *, sign: float = 1.0) -> Tensorlike:
    dims = [dims] if isinstance(dims, int) else dims
    if not dims:
        raise NotRewritable(_MIXES_ROWS)
    axes = [shapes.axis(x, dim) for dim in dims]
    x = x if sign > 0.0 else -x
    for axis, size in axes:
        x = max_of_groups(x, axis, size, [range(size)])
    for axis in sorted((axis for axis, _ in axes), reverse=True):
        x = x if keepdim else x.squeeze(axis)
    return x if sign > 0.0 else -x


def _scatter_reduce(
    shapes: Shapes, x: Tensorlike, dim: int, index: Tensorlike, src: Tensorlike, reduce: str, include_self: bool = True
) -> Tensorlike:
    if reduce not in ("amax", "amin"):
        raise NotRewritable(
            f"has reduce={reduce!r}, which is not supported; use 'amax', 'amin', or scatter_add for a sum"
        )
    (axis, size), (_, given) = shapes.axis(x, dim), shapes.axis(src, dim)
    rows = shapes.value(index).movedim(axis, -1).flatten(0, -2)
    if len(rows) == 0 or rows.shape[1] != given or not (rows == rows[:1]).all():
        raise NotRewritable("has an index that is not the same along all other dimensions, as expand() makes it")
    groups = [[size + j for j, place in enumerate(rows[0].tolist()) if place == k] for k in range(size)]
    groups = [[k, *group] if include_self or not group else group for k, group in enumerate(groups)]
    sign = 1.0 if reduce == "amax" else -1.0
    both = torch.cat([x, src], axis)
    found = max_of_groups(both if sign > 0.0 else -both, axis, size + given, groups)
    return found if sign > 0.0 else -found


def _max(shapes: Shapes, x: Tensorlike, dim: Any = None, keepdim: bool = False, *, sign: float = 1.0) -> Tensorlike:
    if isinstance(dim, Proxy):
        return (_maximum if sign > 0.0 else _minimum)(shapes, x, dim)
    return _amax(shapes, x, dim, keepdim, sign=sign), None


def _places(shapes: Shapes, x: Tensorlike, dim: int, places: Callable[[int], Sequence[int]]) -> Tensorlike:
    """Return the entries at given places of the ascending order along a dimension, which depend on its size."""
    axis, size = shapes.axis(x, dim)
    return sort(x, axis, size, places(size))


def _sort(shapes: Shapes, x: Tensorlike, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensorlike:
    return _places(shapes, x, dim, lambda n: range(n)[:: -1 if descending else 1]), None


def _topk(
    shapes: Shapes, x: Tensorlike, k: int, dim: int = -1, largest: bool = True, in_order: bool = True
) -> Tensorlike:
    return _places(shapes, x, dim, lambda n: range(n)[:: -1 if largest else 1][:k]), None


def _kthvalue(shapes: Shapes, x: Tensorlike, k: int, dim: int = -1, keepdim: bool = False) -> Tensorlike:
    value = _places(shapes, x, dim, lambda n: range(n)[k - 1 : k])
    return value if keepdim else value.squeeze(dim), None


def _median(shapes: Shapes, x: Tensorlike, dim: int | None = None, keepdim: bool = False) -> Tensorlike:
    if dim is None:
        raise NotRewritable(_MIXES_ROWS)
    value = _places(shapes, x, dim, lambda n: [(n - 1) // 2])
    return value if keepdim else value.squeeze(dim), None


def _max_pool(
    shapes: Shapes,
    x: Tensorlike,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    dims: int,
) -> Tensorlike:
    arguments = (kernel, stride or kernel, padding, dilation)
    axes = [shapes.axis(x, k - dims) for k in range(dims)]
    numbers = zip(*(_for_each(dims, value) for value in arguments), strict=True)
    for (axis, size), (reach, step, pad, gap) in zip(axes, numbers, strict=True):
        windows = pooling_windows(size, reach, step, pad, gap, ceil_mode)
        if not all(windows):
            raise NotRewritable("has a window that contains only padding, whose maximum is -inf")
        x = max_of_groups(x, axis, size, windows)
    return (x, None) if return_indices else x


def _adaptive_max_pool(
    shapes: Shapes, x: Tensorlike, output_size: Any, return_indices: bool = False, *, dims: int
) -> Tensorlike:
    axes = [shapes.axis(x, k - dims) for k in range(dims)]
    for (axis, size), count in zip(axes, _for_each(dims, output_size), strict=True):
        x = max_of_groups(x, axis, size, adaptive_windows(size, size if count is None else count))
    return (x, None) if return_indices else x


def _for_each(dims: int, value: Any) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * dims if len(values) == 1 else values


_POOLS: dict[str, Callable[..., Any]] = {
    f"{kind}{dims}d{suffix}": partial(function, dims=dims)
    for kind, function in (("max_pool", _max_pool), ("adaptive_max_pool", _adaptive_max_pool))
    for dims in (1, 2, 3)
    for suffix in ("", "_with_indices")
}

WRITTEN: dict[str, Callable[..., Any]] = {
    "relu": lambda shapes, x: torch.relu(x),
    "relu6": partial(_clamp, low=0.0, high=6.0),
    "hardtanh": lambda shapes, x, low=-1.0, high=1.0: _clamp(shapes, x, low, high),
    "hardsigmoid": lambda shapes, x: _clamp(shapes, x + 3.0, 0.0, 6.0) / 6.0,
    "leaky_relu": _leaky_relu,
    "prelu": lambda shapes, x, weight: _leaky_relu(shapes, x, weight.reshape((-1, *(1,) * (shapes.num_dims(x) - 2)))),
    "_prelu_kernel": _leaky_relu,
    "rrelu": lambda shapes, x, lower=1 / 8, upper=1 / 3, training=False: _leaky_relu(shapes, x, (lower + upper) / 2.0),
    "threshold": _threshold,
    "softshrink": lambda shapes, x, lambd=0.5: torch.relu(x - lambd) - torch.relu(-x - lambd),
    **dict.fromkeys(["abs", "absolute"], lambda shapes, x: 2.0 * torch.relu(x) - x),
    **dict.fromkeys(["clamp", "clip"], _clamp),
    "clamp_min": lambda shapes, x, low: _clamp(shapes, x, low),
    "clamp_max": lambda shapes, x, high: _clamp(shapes, x, None, high),
    **dict.fromkeys(["maximum", "fmax"], _maximum),
    **dict.fromkeys(["minimum", "fmin"], _minimum),
    "amax": _amax,
    "amin": partial(_amax, sign=-1.0),
    "max": _max,
    "min": partial(_max, sign=-1.0),
    "sort": _sort,
    "msort": lambda shapes, x: _places(shapes, x, 0, range),
    "topk": _topk,
    "kthvalue": _kthvalue,
    "median": _median,
    **_POOLS,
    "scatter_reduce": _scatter_reduce,
    "rnn_cell": rnn_cell,
    "rnn_relu_cell": rnn_relu_cell,
    "rnn": rnn,
}
"""The function that writes each operation of `operations.PIECEWISE_RULES`."""
