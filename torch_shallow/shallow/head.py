"""What follows the trunk, if that is not piecewise linear: a module of a batch of the trunk's outputs."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Tracer, symbolic_trace

from torch_shallow.errors import TransformError
from torch_shallow.trace.precision import InFloat64, write_in_float64


def in_float64(head: nn.Module, trunk_shape: tuple[int, ...]) -> nn.Module:
    """A copy of a head that computes in float64 whatever precisions its code names.

    Args:
        head: the head.
        trunk_shape: shape of one output of the trunk.

    Raises:
        TransformError: torch.fx cannot follow its code.
    """
    if Tracer().is_leaf_module(head, ""):  # a module of torch, which names no precision
        return copy.deepcopy(head).double()
    try:
        with InFloat64():
            graph = copy.deepcopy(head) if isinstance(head, GraphModule) else symbolic_trace(copy.deepcopy(head))
    except Exception as error:
        raise TransformError(
            f"head: torch.fx cannot follow its code ({type(error).__name__}: {error}); write it without control flow "
            "that depends on values."
        ) from error
    tensor = next(chain(graph.parameters(), graph.buffers()), torch.empty(0))
    write_in_float64(graph, torch.zeros(2, *trunk_shape, dtype=torch.float64, device=tensor.device))
    return graph


def output_shape(head: nn.Module | None, trunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one output of a head.

    Args:
        head: the head, or None.
        trunk_shape: shape of one output of the trunk.

    Raises:
        TransformError: the head's output is not a tensor with the batch in front.
    """
    if head is None:
        return trunk_shape
    tensor = next(head.parameters(), next(head.buffers(), torch.empty(0)))
    with torch.no_grad():
        y = head(torch.zeros(2, *trunk_shape, dtype=torch.float64, device=tensor.device))
    if not isinstance(y, Tensor) or y.dim() == 0 or len(y) != 2:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            f"model: expected what follows its last piecewise-linear operation to give one tensor, with the batch as "
            f"its first dimension; found {found} for 2 inputs."
        )
    if y.is_complex():
        raise TransformError(f"model: expected real outputs, found {y.dtype}; return their parts as real tensors.")
    return tuple(y.shape[1:])
