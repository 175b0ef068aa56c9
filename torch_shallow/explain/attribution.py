"""The arguments of attributions as Captum takes them: inputs, baselines and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.shallow.points import check_rows

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
Baselines: TypeAlias = Tensor | int | float | tuple[Tensor | int | float | None, ...] | None
Target: TypeAlias = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None


def one_tensor(inputs: Inputs) -> Tensor:
    """The batch of inputs, alone or in a tuple.

    Raises:
        TransformError: there are several tensors.
    """
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise TransformError(
                f"inputs: expected one tensor, or a tuple of one, found {len(inputs)}; networks of several inputs "
                "are not read: put them together into one, and take it apart in the model's forward()."
            )
        return inputs[0]
    return inputs


def read_baselines(baselines: Baselines, x: Tensor) -> Tensor:
    """Baselines as one row for each input.

    Args:
        baselines: 0 if None; a number for all entries; a tensor of the shape of the inputs, or of one row; or a tuple
            of one of these.
        x: the inputs.

    Raises:
        TransformError: they are something else.
    """
    if isinstance(baselines, tuple):
        if len(baselines) != 1:
            raise TransformError(f"baselines: expected one for the one tensor of inputs, found {len(baselines)}.")
        baselines = baselines[0]
    if baselines is None:
        return torch.zeros_like(x)
    if isinstance(baselines, int | float):
        return torch.full_like(x, baselines, dtype=torch.float64)
    if not isinstance(baselines, Tensor) or baselines.is_complex():
        found = type(baselines).__name__ if not isinstance(baselines, Tensor) else str(baselines.dtype)
        raise TransformError(f"baselines: expected None, a number or a tensor, found {found}.")
    if baselines.shape not in (x.shape, (1, *x.shape[1:])):
        raise TransformError(
            f"baselines: expected the shape of the inputs, {tuple(x.shape)}, or of one of them, "
            f"{(1, *x.shape[1:])}, found {tuple(baselines.shape)}; reshape them."
        )
    baselines = baselines if baselines.is_floating_point() else baselines.double()
    return baselines.detach().to(x.device).expand_as(x)


def read_inputs(inputs: Inputs, in_shape: tuple[int, ...]) -> Tensor:
    """The batch of inputs.

    Raises:
        TransformError: they are not one floating-point tensor of shape `(rows, *in_shape)`.
    """
    x = one_tensor(inputs)
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.shape == (0, *in_shape)):
        check_rows("inputs", x, in_shape)
    return x


def read_target(target: Target, out_shape: tuple[int, ...], rows: int) -> Int64[Tensor, "rows"]:
    """The entry of the flattened output that is explained for each input.

    Args:
        target: for outputs of one entry None; else the index of an entry for all inputs, as a number, a tensor of
            one or a tuple; or a list or a tensor of an index for each input.
        out_shape: shape of one output.
        rows: number of inputs.

    Raises:
        TransformError: it is no such thing, there is no such entry, or there is more than one.
    """
    numbers = torch.arange(torch.Size(out_shape).numel(), device="cpu").reshape(out_shape)
    if isinstance(target, np.ndarray | np.generic):
        target = torch.as_tensor(target)
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise TransformError(f"target: expected whole numbers, found a tensor of {target.dtype}.")
        if target.numel() != 1 and target.dim() != 1:
            raise TransformError(
                f"target: expected a tensor of one number, or of one for each input, found shape {tuple(target.shape)}."
            )
        target = int(target) if target.numel() == 1 else target.tolist()
    if target is None or isinstance(target, int | tuple):
        return torch.full((rows,), _entry(numbers, () if target is None else target))
    if not isinstance(target, list):
        raise TransformError(
            f"target: expected None, a number, a tuple, a list or a tensor of them, found {type(target).__name__}."
        )
    if len(target) != rows:
        raise TransformError(f"target: expected one for each of the {rows} inputs, found {len(target)}.")
    return torch.tensor([_entry(numbers, index) for index in target], dtype=torch.int64)


def _entry(numbers: Tensor, index: object) -> int:
    try:
        places = index if isinstance(index, tuple) else (index,)
        wrong = [place for place in places if isinstance(place, bool) or not hasattr(place, "__index__")]
        if wrong:
            raise TypeError(f"{wrong[0]!r} is of type {type(wrong[0]).__name__}")
        chosen = numbers[places]
    except (IndexError, TypeError) as error:
        raise TransformError(
            f"target: expected the index of an entry of an output of shape {tuple(numbers.shape)}, found {index!r}: "
            f"{error}."
        ) from error
    if chosen.numel() != 1:
        given = f"target {index!r}" if index != () else "no target"
        raise TransformError(
            f"target: expected the index of one entry of an output of shape {tuple(numbers.shape)}, found {given}, "
            f"which is {chosen.numel()} entries; pass an index for each dimension."
        )
    return int(chosen)
