"""ONNX operators of sequences of tensors, of a length that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_shallow.program.onnx.value import Value


def construct(*values: Value) -> list[Value]:
    return list(values)


def at(sequence: Value, place: Value) -> Any:
    return sequence.parts[int(place.number)].content


def length(sequence: Value) -> np.ndarray:
    return np.array(len(sequence.parts))


def insert(sequence: Value, tensor: Value, place: Value | None = None) -> list[Value]:
    parts = list(sequence.parts)
    parts.insert(len(parts) if place is None else int(place.number), tensor)
    return parts


def erase(sequence: Value, place: Value | None = None) -> list[Value]:
    parts = list(sequence.parts)
    parts.pop(-1 if place is None else int(place.number))
    return parts


def concat(sequence: Value, *, axis: int, new_axis: int = 0) -> Any:
    return (torch.stack if new_axis else torch.cat)([part.tensor for part in sequence.parts], axis)


def split(x: Value, sizes: Value | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Value]:
    total = x.size(axis)
    single = sizes is None or sizes.array.ndim == 0
    step = 1 if sizes is None else int(sizes.sizes[0])
    lengths = [min(step, total - start) for start in range(0, total, step)] if single else sizes.sizes  # type: ignore[union-attr]
    parts = torch.split(x.tensor, lengths, axis)
    drops = sizes is None and not keepdims
    return [x.named(parts[k].squeeze(axis) if drops else parts[k]) for k in range(len(lengths))]


SEQUENCES: dict[str, Callable[..., Any]] = {
    "ConcatFromSequence": concat,
    "SequenceAt": at,
    "SequenceConstruct": construct,
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "SplitToSequence": split,
}
