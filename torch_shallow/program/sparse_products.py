"""Multiply many rows by matrices that are nearly all zeros, such as those of lattice networks and of pruned ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import embedding_bag
from torch.overrides import TorchFunctionMode

MANY_ROWS, MANY_ENTRIES = 64, 1 << 14  # smaller products do not take long
SHARE = 16  # at most one entry in this many may be other than zero

_PRODUCTS = frozenset({torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__})
_LINEAR = nn.functional.linear


def skipping_zeros(model: nn.Module) -> AbstractContextManager[object]:
    """Return the context `SkippingZeros`, or one that does nothing if the model has no large matrix."""
    tensors = (*model.parameters(), *model.buffers())
    large = any(tensor.dim() == 2 and tensor.numel() >= MANY_ENTRIES for tensor in tensors)
    return SkippingZeros() if large else nullcontext()


class SkippingZeros(TorchFunctionMode):
    """A context in which products of many rows with a large matrix of few entries read only those entries.

    The matrix must be finite, since the product of zero and infinity is left out, too.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or do its work."""
        is_product, is_linear = func in _PRODUCTS, func is _LINEAR
        if (is_product or is_linear) and len(args) > 1 and not kwargs:
            rows, matrix, *bias = args
            product = sparse_product(rows, matrix.T if is_linear else matrix)
            if product is not None:
                return product if not bias or bias[0] is None else product + bias[0]
        return func(*args, **(kwargs or {}))


def sparse_product(rows: Tensor, matrix: Tensor) -> Float[Tensor, "rows columns"] | None:
    """Return `rows @ matrix`, added up over the entries of the matrix that are not zero; None if it has too many."""
    if rows.dim() != 2 or matrix.dim() != 2 or len(rows) < MANY_ROWS or matrix.numel() < MANY_ENTRIES:
        return None
    if SHARE * int(matrix.count_nonzero()) > matrix.numel():
        return None
    columns, places = matrix.T.nonzero().unbind(1)
    counts = columns.bincount(minlength=matrix.shape[1])
    return embedding_bag(  # a bag of weighted rows is a product with a sparse row
        places, rows.T.contiguous(), counts.cumsum(0) - counts, mode="sum", per_sample_weights=matrix[places, columns]
    ).T
