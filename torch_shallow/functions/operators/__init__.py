"""Define operators of torch, and what they share: batches of batches, and the division of rows among threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def vmap_over_rows(operator: Callable[..., Tensor], rows: tuple[int, ...]) -> Callable[..., tuple[Tensor, int]]:
    """Return the rule by which `torch.vmap` runs an operator: a batch of batches of points is treated as one batch.

    Args:
        operator: function that computes one row for each point, without keyword arguments.
        rows: indices of the arguments with one row for each point. If others are batched, the operator runs once for
            each.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        count = info.batch_size
        if any(dim is not None for i, dim in enumerate(in_dims) if i not in rows):
            return torch.stack([operator(*_pick(arguments, in_dims, k)) for k in range(count)]), 0
        flat = list(arguments)
        for i in rows:
            flat[i] = batch_first(arguments[i], in_dims[i], count).flatten(0, 1)
        y = operator(*flat)
        return y.reshape(count, len(y) // max(count, 1), *y.shape[1:]), 0

    return rule


def batch_first(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """Move the batch dimension of a tensor to the front; a tensor without one is repeated for the whole batch."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _pick(arguments: tuple[Any, ...], in_dims: tuple[int | None, ...], k: int) -> list[Any]:
    return [a if dim is None else a.select(dim, k) for a, dim in zip(arguments, in_dims, strict=True)]
