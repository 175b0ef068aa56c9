"""Evaluate plain tensors on the CPU: region and output of each point in one compiled loop, without torch's dispatcher.

For one point, the overhead of torch's dispatcher is several times the cost of the operator.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as global_hooks

from torch_shallow.domain import TOLERANCE
from torch_shallow.functions.operators import share_rows

NOWHERE = np.zeros((0, 0)), np.zeros(0)  # the limits of all of R^n


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


def is_watched(*layers: nn.Module) -> bool:
    """Tell whether a layer has forward hooks."""
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return True
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def evaluate_plain(
    u: Float[Tensor, "points coordinates"],
    x: Float[Tensor, "points inputs"],
    limits: tuple[Tensor | None, Tensor | None],
    half_spaces: Float[Tensor, "half_spaces homogeneous"],
    tree: Int64[Tensor, "cuts 3"],
    regions: int,
    maps: tuple[Float[Tensor, "regions outputs coordinates"], Float[Tensor, "regions outputs"]],
    rounding: float,
) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
    """Return output and region of each point, as `select` and `locate` do with these arguments."""
    # Imported here because numba takes a while.
    from torch_shallow.functions.operators.kernels import TOGETHER, evaluate_in_box, evaluate_in_polytope

    first, second = limits
    known = NOWHERE if first is None or second is None else (_array(first), _array(second))
    evaluate = evaluate_in_box if known[0].ndim == 1 else evaluate_in_polytope
    y = torch.empty((len(u), maps[1].shape[1]), dtype=u.dtype)
    region = torch.empty(len(u), dtype=torch.int64)
    arrays = [_array(tensor) for tensor in (u, x, half_spaces, tree, *maps)]
    arrays += [region.numpy(), y.numpy()]
    slack, count = max(TOLERANCE, rounding), len(u)

    def work(start: int, stop: int) -> None:
        on_their_way = np.empty((2, TOGETHER), dtype=np.int64)
        evaluate(*arrays, *known, slack, rounding, regions, start, stop, *on_their_way)

    if count == 1:
        work(0, 1)
    else:
        share_rows(count, work)
    return y, region


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy()
