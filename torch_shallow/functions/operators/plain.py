"""Evaluate plain tensors on the CPU: region and output of each point in one compiled loop, without torch's dispatcher.

For one point, the overhead of torch's dispatcher is several times the cost of the operator.
"""

from __future__ import annotations

from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as global_hooks

from torch_shallow.domain import TOLERANCE
from torch_shallow.functions.operators.threads import Share, share_rows
from torch_shallow.functions.operators.tree_blocks import (
    EIGHT,
    TreeBlocks,
    arrange,
    no_blocks,
    projection_blocks,
)

TOGETHER = 64  # points that run together: while one waits for memory, the others continue


def is_plain(x: object, *others: Tensor | None) -> bool:
    """Tell whether only numbers are needed: no derivatives, no tracing, no observers, and everything on the CPU.

    Args:
        x: the points.
        others: float64 tensors that take part.
    """
    if type(x) is not Tensor or torch.compiler.is_compiling() or not x.is_cpu:
        return False
    of_torch = torch._C
    if (
        of_torch._len_torch_dispatch_stack()
        or of_torch._len_torch_function_stack()
        or of_torch._functorch.peek_interpreter_stack() is not None
        or of_torch._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    ):
        return False
    with_gradients = torch.is_grad_enabled()
    if with_gradients and x.requires_grad:
        return False
    return all(
        other is None
        or (
            (type(other) is Tensor and other.is_cpu and other.dtype is torch.float64)
            and not (with_gradients and other.requires_grad)
        )
        for other in others
    )


def part(module: Any, name: str) -> Any:
    """Return a part of a module as `getattr` does, in a third of the time if it is a buffer or a module."""
    own = module.__dict__
    if name in own["_buffers"]:
        return own["_buffers"][name]
    return own["_modules"][name] if name in own["_modules"] else getattr(module, name)


def is_watched(*layers: nn.Module) -> bool:
    """Tell whether a layer has forward hooks."""
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return True
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


class TreeTensors(NamedTuple):
    """The tensors of a tree of cuts and of its affine maps, float64, on the CPU.

    Attributes:
        projection: matrix of the coordinates that cuts and maps read; None if they read the points themselves.
        half_spaces: rows of half-spaces, as in `locate`.
        tree: the cuts, as in `locate`.
        first_limit: first array of the domain's limits, as `inside` takes them, or None.
        second_limit: second array of the domain's limits, or None.
        weights: weights of the affine maps.
        biases: biases of the affine maps.
    """

    projection: Float[Tensor, "coordinates inputs"] | None
    half_spaces: Float[Tensor, "half_spaces homogeneous"]
    tree: Int64[Tensor, "cuts 3"]
    first_limit: Tensor | None
    second_limit: Tensor | None
    weights: Float[Tensor, "regions outputs coordinates"]
    biases: Float[Tensor, "regions outputs"]


class PlainTree:
    """Evaluates plain tensors, and keeps what it has prepared for the same tree.

    Once as many points have been evaluated as the tree has cuts, its half-spaces are copied into blocks of eight, by
    which each further point takes about a quarter of the time, with the same results. What is kept is prepared anew
    when a tensor is another one, or has been changed by torch; changes of its memory by others, such as NumPy, or
    through `.data`, are not noticed. It is neither copied nor pickled.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __reduce__(self) -> tuple[type[PlainTree], tuple[()]]:
        return PlainTree, ()

    def evaluate(
        self, x: Float[Tensor, "points inputs"], tensors: TreeTensors, regions: int, rounding: float
    ) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
        """Return the output, in the dtype of `x`, and the region of each point, as `select` and `locate` do.

        Args:
            x: the points, float32 or float64.
            tensors: the tree and its maps.
            regions: number of regions.
            rounding: the unit of rounding of the dtype in which the points were given.
        """
        count = x.shape[0]
        kept = self._prepared(tensors, count)
        y, region = x.new_empty((count, kept.outputs)), np.empty(count, dtype=np.int64)
        arrays = (_array(x), *kept.arrays, max(TOLERANCE, rounding), rounding, regions, region, y.numpy())

        together = min(TOGETHER, count)

        def work(part: Share) -> None:
            u, places = np.empty((part.threads, together, kept.width)), np.empty((part.threads, 2, together), np.int64)
            kept.evaluate_rows(*part, *arrays, u, places)

        share_rows(count, work)
        return y, torch.from_numpy(region)

    def _prepared(self, tensors: TreeTensors, count: int) -> _Kept:
        """Return what is kept for these tensors, with blocks if they pay after `count` more points."""
        kept, state = self._kept, _state(tensors)
        if kept is None or state is None or kept.state != state or not all(map(is_, kept.tensors, tensors)):
            self._kept = kept = _Kept(tensors, state)
        kept.count(count)
        return kept


class _Kept:
    """Arrays of a tree and its maps in the order of `evaluate_rows`, and the number of points evaluated by them."""

    def __init__(self, tensors: TreeTensors, state: tuple[object, ...] | None) -> None:
        # Imported here because numba takes a while.
        from torch_shallow.functions.operators.block_kernels import evaluate_rows

        self.evaluate_rows, self.tensors, self.state, self.points = evaluate_rows, tensors, state, 0
        self.outputs = tensors.weights.shape[1]
        lower, upper = tensors.first_limit, tensors.second_limit
        if lower is None or upper is None:
            limits = np.zeros((0, 0)), np.zeros(0), False  # those of all of R^n
        else:
            limits = np.atleast_2d(_array(lower)), _array(upper), lower.dim() == 1
        projection = np.zeros((0, 0)) if tensors.projection is None else _array(tensors.projection)
        self._tree = _array(tensors.half_spaces), _array(tensors.tree)
        self._rest = _array(tensors.weights), _array(tensors.biases), *limits
        self._projection, self.width = projection_blocks(projection), _room(len(projection))
        self._arrange(no_blocks())

    def _arrange(self, blocks: TreeBlocks) -> None:
        self.in_blocks = len(blocks.groups) > 0
        self.arrays = (self._projection, *self._tree, *blocks, *self._rest)

    def count(self, points: int) -> None:
        """Add a number of points, and make blocks if they pay by now."""
        self.points += points
        if not self.in_blocks and self.points >= len(self._tree[1]) > 0:
            self._arrange(arrange(*self._tree))


def _state(tensors: TreeTensors) -> tuple[object, ...] | None:
    """Return what changes whenever arrays of these tensors, or copies, are no longer theirs; None if nothing does."""
    maps = tensors.weights, tensors.biases
    if not all(tensor.is_contiguous() for tensor in maps):
        return None
    try:
        copied = [None if tensor is None else (tensor.data_ptr(), tensor._version) for tensor in tensors[:5]]
    except RuntimeError:  # inference tensors have no version
        return None
    return (*copied, *(tensor.data_ptr() for tensor in maps))


def project(
    x: Float[Tensor, "points inputs"], projection: Float[Tensor, "coordinates inputs"]
) -> Float[Tensor, "points coordinates"]:
    """Return the coordinates of points with the bits that `PlainTree` computes, float64."""
    # Imported here because numba takes a while.
    from torch_shallow.functions.operators.block_kernels import project_rows

    points = _array(x if x.dtype is torch.float32 else x.to(torch.float64))
    matrix = _array(projection)
    blocks = projection_blocks(matrix)
    u = np.empty((len(points), _room(len(matrix))))
    share_rows(len(points), lambda part: project_rows(*part, points, blocks, u))
    return torch.from_numpy(np.ascontiguousarray(u[:, : len(matrix)]))


def _room(columns: int) -> int:
    """Return the number of columns of rows that are written eight at a time."""
    return -(-columns // EIGHT) * EIGHT


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy()
