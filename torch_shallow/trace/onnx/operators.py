"""The operators of ONNX, opset 18 and above, written in PyTorch.

A function takes the inputs of an operator as `Value`s (None where one is left out) and its attributes by keyword, and
gives its outputs: a proxy of a tensor, a list of values for a sequence, or an array where the result is known; a tuple
of these for several outputs. Attributes that a function does not name are refused. What an operator means is said at
https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_shallow.trace.onnx.entrywise import ENTRYWISE
from torch_shallow.trace.onnx.images import IMAGES
from torch_shallow.trace.onnx.indexing import INDEXING
from torch_shallow.trace.onnx.layers import LAYERS
from torch_shallow.trace.onnx.learning import LEARNING
from torch_shallow.trace.onnx.rearrangements import REARRANGEMENTS
from torch_shallow.trace.onnx.reductions import REDUCTIONS
from torch_shallow.trace.onnx.sequences import SEQUENCES
from torch_shallow.trace.onnx.sizes import OF_SIZES
from torch_shallow.trace.onnx.windows import WINDOWS

OPERATORS: dict[str, Callable[..., Any]] = {
    **ENTRYWISE,
    **IMAGES,
    **INDEXING,
    **LAYERS,
    **LEARNING,
    **OF_SIZES,
    **REARRANGEMENTS,
    **REDUCTIONS,
    **SEQUENCES,
    **WINDOWS,
}
"""Operators of values that depend on the input, by their names with their domain if that is not ONNX's own."""
