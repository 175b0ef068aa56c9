"""Define `torch.ops.torch_shallow.select` and `.collect`: the affine map of each point's region, and its derivatives.

`select` is linear in the maps and in the points, and its derivatives are again `select` and `collect`, so derivatives
of every order exist, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_shallow.functions.operators import batch_first, vmap_over_rows
from torch_shallow.functions.operators.threads import share_rows

SELECT, COLLECT = "torch_shallow::select", "torch_shallow::collect"
torch.library.define(SELECT, "(Tensor weights, Tensor? biases, Tensor region, Tensor u, bool transposed) -> Tensor")
torch.library.define(COLLECT, "(Tensor region, Tensor g, Tensor u, SymInt regions) -> Tensor")


def select(
    weights: Float[Tensor, "regions outputs coordinates"],
    biases: Float[Tensor, "regions outputs"] | None,
    region: Int64[Tensor, "points"],
    u: Float[Tensor, "points coordinates"],
) -> Float[Tensor, "points outputs"]:
    """Return the value of the affine map of each point's region; NaN where there is no region (-1).

    Args:
        weights: weights of the maps, float64.
        biases: biases of the maps, float64.
        region: index of the region of each point.
        u: the points, float32 or float64; sums are float64, and the result has the dtype of `u`.
    """
    if torch.onnx.is_in_onnx_export() or _is_beyond_us():
        return gathered(weights, biases, region, u, False)
    if torch.compiler.is_compiling():  # the compiler uses the operator with its registered derivative
        return torch.ops.torch_shallow.select(weights, biases, region, u, False)
    return _Select.apply(weights, biases, region, u, False)


def _is_beyond_us() -> bool:
    """Tell whether derivatives are requested that torch does not pass to an operator, so that they would be zero.

    This concerns all of `torch.func` inside `torch.compile`, and forward mode within forward mode.
    """
    if torch.compiler.is_compiling():
        return torch._C._functorch.peek_interpreter_stack() is not None
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1


def gathered(weights: Tensor, biases: Tensor | None, region: Tensor, u: Tensor, transposed: bool) -> Tensor:
    """Compute `select` with operations of torch."""
    k = region.clamp(min=0)
    maps, points = weights[k], torch.where(region[:, None] < 0, 0.0, u.to(torch.float64))
    y = (maps * points[:, :, None]).sum(1) if transposed else (maps * points[:, None, :]).sum(2)
    y = y if biases is None else y + biases[k]
    return torch.where(region[:, None] < 0, 0.0 if biases is None else torch.nan, y).to(u.dtype)


def _compiled_select(weights: Tensor, biases: Tensor | None, region: Tensor, u: Tensor, transposed: bool) -> Tensor:
    # Imported here because numba takes a while.
    from torch_shallow.functions.operators.kernels import select_rows, select_rows_transposed

    maps, rows, where = (tensor.contiguous().numpy() for tensor in (weights.to(torch.float64), u, region))
    y = torch.empty(len(rows), maps.shape[2 if transposed else 1], dtype=torch.float64 if transposed else u.dtype)
    if transposed:
        share_rows(len(rows), lambda part: select_rows_transposed(*part, maps, where, rows, y.numpy()))
        return y.to(u.dtype)
    constants = (
        weights.new_empty(0, maps.shape[1]) if biases is None else biases.to(torch.float64).contiguous()
    ).numpy()
    share_rows(len(rows), lambda part: select_rows(*part, maps, constants, where, rows, y.numpy()))
    return y


def _fake_select(weights: Tensor, biases: Tensor | None, region: Tensor, u: Tensor, transposed: bool) -> Tensor:
    return u.new_empty(u.shape[0], weights.shape[2 if transposed else 1])


def scattered(region: Tensor, g: Tensor, u: Tensor, regions: int) -> Tensor:
    """Sum `g [u, 1]` over the points of each region: float64 of shape `(regions, outputs, coordinates + 1)`."""
    homogeneous = torch.cat([u, torch.ones_like(u[:, :1])], 1).to(torch.float64)
    terms = g.to(torch.float64)[:, :, None] * homogeneous[:, None, :]
    terms = torch.where(region[:, None, None] < 0, 0.0, terms)
    return terms.new_zeros(regions, *terms.shape[1:]).index_add(0, region.clamp(min=0), terms)


def _compiled_collect(region: Tensor, g: Tensor, u: Tensor, regions: int) -> Tensor:
    from torch_shallow.functions.operators.kernels import collect_rows

    sums = torch.zeros(regions, g.shape[1], u.shape[1] + 1, dtype=torch.float64)
    collect_rows(*(tensor.contiguous().numpy() for tensor in (region, g, u)), sums.numpy())
    return sums


def _fake_collect(region: Tensor, g: Tensor, u: Tensor, regions: int) -> Tensor:
    return u.new_empty(regions, g.shape[1], u.shape[1] + 1, dtype=torch.float64)


def _vmap_collect(
    info: Any, in_dims: tuple[int | None, ...], region: Tensor, g: Tensor, u: Tensor, regions: int
) -> tuple[Tensor, int]:
    """Number the regions of each batch entry after those of the preceding one."""
    count = info.batch_size
    region, g, u = (batch_first(tensor, dim, count) for tensor, dim in zip((region, g, u), in_dims, strict=False))
    first = regions * torch.arange(count, device=region.device)[:, None]
    region = torch.where(region < 0, region, region + first)
    sums = torch.ops.torch_shallow.collect(region.flatten(), g.flatten(0, 1), u.flatten(0, 1), count * regions)
    return sums.unflatten(0, (count, regions)), 0


torch.library.impl(SELECT, "CompositeExplicitAutograd", gathered)
torch.library.impl(SELECT, "CPU", _compiled_select)
torch.library.register_fake(SELECT, _fake_select)
torch.library.impl(COLLECT, "CompositeExplicitAutograd", scattered)
torch.library.impl(COLLECT, "CPU", _compiled_collect)
torch.library.register_fake(COLLECT, _fake_collect)
torch.library.register_vmap(SELECT, vmap_over_rows(torch.ops.torch_shallow.select, rows=(2, 3)))
torch.library.register_vmap(COLLECT, _vmap_collect)


class _Select(torch.autograd.Function):
    """`select` with derivatives of every order, forward and backward, alone and in `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, biases: Tensor | None, region: Tensor, u: Tensor, transposed: bool) -> Tensor:
        return torch.ops.torch_shallow.select(weights, biases, region, u, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights, biases, region, u, ctx.transposed = inputs
        ctx.has_biases = biases is not None
        ctx.save_for_backward(weights, region, u)
        ctx.save_for_forward(weights, region, u)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(ctx, g, _Select.apply, _Collect.apply)

    @staticmethod
    def jvp(ctx: Any, weights_moved: Any, biases_moved: Any, _: Any, u_moved: Any, __: Any) -> Tensor:
        weights, region, u = ctx.saved_tensors
        moved = []
        if u_moved is not None:
            moved.append(_Select.apply(weights, None, region, u_moved, ctx.transposed))
        if weights_moved is not None or biases_moved is not None:
            weights_moved = torch.zeros_like(weights) if weights_moved is None else weights_moved
            moved.append(_Select.apply(weights_moved, biases_moved, region, u, ctx.transposed))
        return sum(moved[1:], moved[0])


class _Collect(torch.autograd.Function):
    """`collect` with derivatives of every order, forward and backward, alone and in `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(region: Tensor, g: Tensor, u: Tensor, regions: int) -> Tensor:
        return torch.ops.torch_shallow.collect(region, g, u, regions)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        region, g, u, ctx.regions = inputs
        ctx.save_for_backward(region, g, u)
        ctx.save_for_forward(region, g, u)

    @staticmethod
    def backward(ctx: Any, sums: Tensor) -> tuple[Tensor | None, ...]:
        region, g, u = ctx.saved_tensors
        to_g = _Select.apply(sums[:, :, :-1], sums[:, :, -1], region, u, False)
        to_u = _Select.apply(sums[:, :, :-1], None, region, g, True)
        return None, torch.where(region[:, None] < 0, 0.0, to_g), to_u, None

    @staticmethod
    def jvp(ctx: Any, _: Any, g_moved: Any, u_moved: Any, __: Any) -> Tensor:
        region, g, u = ctx.saved_tensors
        moved = []
        if g_moved is not None:
            moved.append(_Collect.apply(region, g_moved, u, ctx.regions))
        if u_moved is not None:
            sums = _Collect.apply(region, g, u_moved, ctx.regions)[:, :, :-1]
            moved.append(torch.cat([sums, torch.zeros_like(sums[:, :, :1])], 2))
        return sum(moved[1:], moved[0])


def _backward(ctx: Any, g: Tensor, select: Any, collect: Any) -> tuple[Tensor | None, ...]:
    """Return the gradients of the arguments of `select`, by `select` and `collect`."""
    weights, region, u = ctx.saved_tensors
    to_weights = to_biases = to_u = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        rows = (u, g) if ctx.transposed else (g, u)
        sums = collect(region, *rows, weights.shape[0])
        to_weights, to_biases = sums[:, :, :-1], sums[:, :, -1] if ctx.has_biases else None
    if ctx.needs_input_grad[3]:
        to_u = select(weights, None, region, g, not ctx.transposed)
    return to_weights, to_biases, None, to_u, None


torch.library.register_autograd(
    SELECT,
    lambda ctx, g: _backward(ctx, g, torch.ops.torch_shallow.select, torch.ops.torch_shallow.collect),
    setup_context=lambda ctx, inputs, output: _Select.setup_context(ctx, inputs, output),
)
