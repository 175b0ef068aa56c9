"""Compute the sparse matrices of linear layers and convolutions, acting on one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Read: TypeAlias = "tuple[csr_array, tuple[int, ...]] | None"
"""The matrix of a layer and the shape of its result; None if unknown."""


class TooLarge(Exception):
    """Raised if a matrix has more entries than allowed."""


def linear_matrix(
    shape: tuple[int, ...], module: nn.Module | None, args: Sequence[Any], kwargs: Mapping[str, Any], most: int
) -> Read:
    """Return the matrix of a linear layer.

    Args:
        shape: shape of its input.
        module: the layer, or None for a function.
        args: the further arguments of the function.
        kwargs: the keyword arguments of the function.
        most: largest number of entries.

    Raises:
        TooLarge: the matrix would have more entries.
    """
    from scipy.sparse import csr_array

    weight = module.weight if module is not None else (args[0] if args else kwargs.get("weight"))
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return None
    copies = prod(shape[:-1])
    if copies * weight.numel() > most:
        raise TooLarge
    rows, columns = weight.shape
    values = weight.detach().double().cpu().reshape(-1).numpy()
    places = np.tile(np.arange(columns, dtype=np.int32), rows)
    matrix = csr_array((values, places, columns * np.arange(rows + 1, dtype=np.int32)), shape=(rows, columns))
    return _repeated(matrix, copies), (*shape[:-1], rows)


def convolution_matrix(
    shape: tuple[int, ...], module: nn.Module | None, args: Sequence[Any], kwargs: Mapping[str, Any], most: int
) -> Read:
    """Return the matrix of a convolution in one or two dimensions, with the arguments of `linear_matrix`.

    Raises:
        TooLarge: the matrix would have more entries.
    """
    from scipy.sparse import csr_array

    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    if module is not None:
        given = {name: getattr(module, name) for name in names}
    else:
        given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        given |= {**dict(zip(names, args, strict=False)), **kwargs}
    weight = given.get("weight")
    unusual = len(args) > len(names) or getattr(module, "padding_mode", "zeros") != "zeros"
    if not isinstance(weight, Tensor) or unusual or len(shape) != weight.dim() or isinstance(given["padding"], str):
        return None
    weight = weight.detach().double().cpu()
    kernel = weight.shape[2:]
    stride, padding, dilation = (_sizes(given[name], len(kernel)) for name in ("stride", "padding", "dilation"))
    image = (1,) * (2 - len(kernel)) + shape[2:]
    padded = (0,) * (2 - len(kernel)) + padding
    labels = torch.arange(1, 1 + prod(shape[1:]), dtype=torch.float64).reshape(1, shape[1], *image)
    ones = (1,) * (2 - len(kernel))
    seen = functional.unfold(labels, ones + kernel, ones + dilation, padded, ones + stride)[0].long()
    out, places = len(weight), seen.shape[1]
    if shape[0] * places * weight.numel() > most:
        raise TooLarge
    groups = given["groups"]
    columns = seen.reshape(groups, 1, -1, places).expand(-1, out // groups, -1, -1).reshape(out, -1, places).mT - 1
    values = weight.reshape(out, 1, -1).expand(columns.shape)
    inside = columns >= 0
    starts = np.concatenate([[0], inside.sum(2).reshape(-1).cumsum(0).numpy()])
    matrix = csr_array((values[inside].numpy(), columns[inside].numpy(), starts), shape=(out * places, prod(shape[1:])))
    sizes = [
        (size + 2 * pad - step * (width - 1) - 1) // jump + 1
        for size, pad, step, width, jump in zip(shape[2:], padding, dilation, kernel, stride, strict=True)
    ]
    return _repeated(matrix, shape[0]), (shape[0], out, *sizes)


def _sizes(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count // len(value))


def _repeated(matrix: csr_array, copies: int) -> csr_array:
    """Return a matrix for several inputs, one after another."""
    from scipy.sparse import eye_array, kron

    return matrix if copies == 1 else kron(eye_array(copies), matrix, format="csr")
