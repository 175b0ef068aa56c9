"""A module whose dtype outside is that of its input, and inside float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Self = TypeVar("Self", bound=nn.Module)


class StaysFloat64(nn.Module):
    """Moves to other devices, but keeps the dtypes of its parameters and buffers, and of those of its parts."""

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return nn.Module._apply(self, keep_dtype, recurse)
