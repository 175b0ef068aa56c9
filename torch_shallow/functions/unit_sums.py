"""Represent tensors whose entries are sums of units of a network, and rearrange, add and scale them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.node import map_aggregate

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SCALE = 2.0**200  # constants vanish in the rounding beside this scale


@dataclass(frozen=True, eq=False)
class UnitSums:
    """Hold a tensor for one input whose entries are sums of units, without inputs and constants.

    Attributes:
        weights: one row for each entry of the flattened tensor, one column for each unit.
        shape: shape of the tensor, including the batch dimension.
    """

    weights: csr_array
    shape: tuple[int, ...]

    def labels(self, first: int = 1) -> Tensor:
        """Return a tensor of this shape with consecutive numbers as entries."""
        return torch.arange(first, first + prod(self.shape), dtype=torch.float64).reshape(self.shape)

    @property
    def are_units(self) -> bool:
        """Whether each entry is at most one unit, times a number."""
        return bool((np.diff(self.weights.indptr) <= 1).all())

    def times(self, matrix: csr_array, shape: tuple[int, ...]) -> UnitSums:
        """Apply a matrix to the entries, and return a tensor of another shape."""
        from scipy.sparse import csr_array

        own = self.weights
        if own.nnz < own.shape[0] or not self.are_units or not (own.data == 1.0).all():
            return UnitSums(matrix @ own, shape)
        columns = own.indices[matrix.indices]
        return UnitSums(csr_array((matrix.data, columns, matrix.indptr), (matrix.shape[0], own.shape[1])), shape)


def found_in(*values: Any) -> list[UnitSums]:
    """Return the sums among some arguments, each once."""
    found: dict[int, UnitSums] = {}
    map_aggregate(values, lambda value: found.setdefault(id(value), value) if isinstance(value, UnitSums) else None)
    return list(found.values())


def rearranged(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Apply an operation that only moves, repeats and omits entries to sums, by applying it to labels in their place.

    Args:
        call: the operation.
        args: its arguments, some of them sums.
        kwargs: its keyword arguments.
    """
    from scipy.sparse import csr_array, vstack

    found = found_in(args, kwargs)
    width = max(value.weights.shape[1] for value in found)
    firsts = np.cumsum([1, *(prod(value.shape) for value in found)])
    labels = {id(value): value.labels(int(first)) for value, first in zip(found, firsts, strict=False)}
    table = vstack([csr_array((1, width)), *(_wide(value.weights, width) for value in found)], format="csr")

    def labelled(value: Any) -> Any:
        if isinstance(value, UnitSums):
            return labels[id(value)]
        constant = isinstance(value, Tensor) and value.is_floating_point()
        return torch.zeros_like(value, device="cpu") if constant else value

    def taken(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return UnitSums(table[value.reshape(-1).long().numpy()], tuple(value.shape))

    moved = call(*map_aggregate(tuple(args), labelled), **map_aggregate(dict(kwargs), labelled))
    return type(moved)(map(taken, moved)) if isinstance(moved, list | tuple) else taken(moved)


def added(call: Callable[..., Tensor], args: Sequence[Any], sign: float) -> UnitSums:
    """Return the sum or difference of two values, each repeated where the other is larger.

    Args:
        call: the operation, which determines the shape of its result.
        args: both values.
        sign: sign of the second value.
    """
    shape = call(*(torch.zeros(arg.shape) if isinstance(arg, UnitSums | Tensor) else arg for arg in args)).shape
    total = None
    for value, factor in zip(args, (1.0, sign), strict=True):
        if not isinstance(value, UnitSums):
            continue
        own = value.weights
        if value.shape != tuple(shape):
            own = own[value.labels(0).expand(shape).reshape(-1).long().numpy()]
        own = own if factor == 1.0 else factor * own
        width = own.shape[1] if total is None else max(own.shape[1], total.shape[1])
        total = own if total is None else _wide(total, width) + _wide(own, width)
    return UnitSums(total, tuple(shape))


def scaled(call: Callable[[Tensor], Tensor], value: UnitSums, device: torch.device) -> UnitSums | None:
    """Multiply each entry by its own factor; None if the operation does something else.

    Args:
        call: an operation that is known to scale and shift entries.
        value: the value to which it is applied.
        device: device of its constants.
    """
    from scipy.sparse import dia_array

    one = torch.full(value.shape, SCALE, dtype=torch.float64, device=device)
    factor = (call(one) - call(0.0 * one)) / SCALE
    if factor.shape != one.shape:
        return None
    diagonal = factor.reshape(1, -1).cpu().numpy()
    weights = dia_array((diagonal, [0]), shape=(diagonal.size, diagonal.size)) @ value.weights
    return UnitSums(weights.tocsr(), value.shape)


def _wide(weights: csr_array, width: int) -> csr_array:
    """Return the same with more columns."""
    if weights.shape[1] == width:
        return weights
    wide = weights.copy()
    wide.resize(weights.shape[0], width)
    return wide
