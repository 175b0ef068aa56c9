"""Every operation of the allow-list, on a hidden value, with the model's own arithmetic as the law."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.program.test_read_model import Model, relu_of
from torch_shallow.program.graph.identify import identify
from torch_shallow.program.graph.operations import ATEN_RULES, RULES
from torch_shallow.program.graph.symbolic import symbolic_trace
from torch_shallow.program.model import read_model

# What may be done to a hidden value h of shape (batch, 6), by the operations that it shows.
OPERATIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "add sub rsub radd": lambda m, h: 1 + h - m.shift - (2 - h) + torch.add(h, m.shift, alpha=2),
    "subtract": lambda m, h: torch.subtract(h, h[:, :1]) + torch.ones(6) - (torch.ones(6) + h),
    "mul multiply rmul": lambda m, h: 2 * h * m.scale + torch.multiply(m.shift, h) * 3.5 + m.shift * h,
    "div divide true_divide truediv": lambda m, h: h / 3 + h.div(m.scale) + torch.true_divide(h, 2) + h.divide(5),
    "neg negative pos positive": lambda m, h: -h + operator.pos(h) + torch.negative(3 * h) + h.positive(),
    "matmul": lambda m, h: h @ m.matrix + torch.matmul(h, other=m.matrix) + (m.matrix @ h.T).T,
    "mm bmm mv": lambda m, h: (
        torch.mm(h, m.matrix) + torch.bmm(h[:, None], torch.zeros_like(h)[..., None] + m.matrix)[:, 0]
    ),
    "addmm addmv baddbmm addbmm": lambda m, h: torch.addmm(m.shift, h, m.matrix) + torch.addmm(h, h, m.matrix),
    "einsum tensordot": lambda m, h: torch.einsum("bi,ij->bj", h, m.matrix) + torch.tensordot(h, m.matrix, dims=1),
    "inner outer dot kron": lambda m, h: torch.inner(h, m.matrix),
    "linear": lambda m, h: F.linear(h, m.matrix, m.shift) + F.linear(m.matrix, h).T,
    "listed constants": lambda m, h: h @ m.several[1] + m.several[0],
    "constants made in forward": lambda m, h: h * torch.ones(6) + torch.arange(6) + torch.eye(6)[0],
    "constant functions": lambda m, h: h * F.softplus(m.scale) + torch.tanh(m.shift) * m.scale.relu(),
    "reshape view flatten unflatten": lambda m, h: h.view(-1, 2, 3).reshape(-1, 3, 2).flatten(1).unflatten(1, (3, 2)),
    "torch.reshape": lambda m, h: torch.flatten(torch.reshape(h, (h.size(0), 1, -1)), start_dim=1),
    "squeeze unsqueeze": lambda m, h: torch.squeeze(h.unsqueeze(1), 1)[..., None].squeeze(-1),
    "permute transpose t": lambda m, h: (
        h.view(-1, 2, 3).permute(0, 2, 1).transpose(1, 2).mT.swapaxes(1, 2).movedim(1, 2)
    ),
    "getitem": lambda m, h: torch.cat([h[:, 1:5:2], h[:, [0, 0]], h[..., -1:], h[:, m.order], h[:, m.mask]], -1),
    "select narrow": lambda m, h: h.select(1, 2)[:, None] + h.narrow(1, 1, 4),
    "index_select gather take_along_dim": lambda m, h: torch.index_select(h, 1, m.order),
    "chunk split unbind": lambda m, h: sum(h.chunk(3, 1)) + sum(torch.split(h, [2, 2, 2], dim=1)[1:]),
    "tensor_split unbind": lambda m, h: torch.stack(h.unbind(1)[:3], 1) + h.tensor_split(2, dim=1)[0],
    "cat concat stack hstack": lambda m, h: torch.concat(
        (torch.hstack([h, h]), torch.stack([h, 2 * h], 1).flatten(1)), 1
    ),
    "expand broadcast_to repeat tile": lambda m, h: h[:, None].expand(-1, 2, -1) + h[:, None].repeat(1, 2, 1),
    "repeat_interleave": lambda m, h: h.repeat_interleave(2, dim=1) + torch.tile(h, (1, 2)),
    "roll flip fliplr": lambda m, h: h.roll(2, 1) + torch.flip(h, [1]) + h.fliplr(),
    "tril triu diagonal": lambda m, h: (h[:, None] * m.matrix).tril().diagonal(dim1=1, dim2=2) + h,
    "sum mean cumsum diff": lambda m, h: h.sum(1, keepdim=True) + h.mean(-1, keepdim=True) + h.cumsum(1),
    "sum to one value": lambda m, h: h.sum(dim=-1),
    "data": lambda m, h: h.data.view(h.data.size(0), -1) + h.view(h.size(0), -1),
    "nan_to_num index_fill": lambda m, h: torch.nan_to_num(h) + h.index_fill(1, torch.tensor([0, 2]), 0.5),
    "torch.sparse.mm": lambda m, h: torch.sparse.mm(m.matrix.to_sparse(), h.T).T,
    "where masked_fill": lambda m, h: torch.where(m.mask, h, -h) + h.masked_fill(m.mask, 0.5),
    "where as a method": lambda m, h: h.where(m.mask, m.shift) + m.shift.where(m.mask, other=h),
    "filled by slices": lambda m, h: filled(torch.empty_like(h), h) + filled(h.new_empty(h.shape), -h),
    "contiguous clone detach": lambda m, h: h.contiguous().clone().detach() + h.detach(),
    "casts": lambda m, h: h.float().double().half().to(torch.float32).to("cpu").type_as(h).bfloat16().to(h.dtype).cpu(),
    "dropout": lambda m, h: F.dropout(h, 0.5, training=False) + F.dropout(h, training=m.training) + F.alpha_dropout(h),
    "pad": lambda m, h: F.pad(h, (1, 2), value=3.0),
    "batch_norm": lambda m, h: F.batch_norm(h, m.shift, m.several[0].abs(), weight=m.scale, bias=m.shift),
    "avg_pool1d conv1d": lambda m, h: F.conv1d(F.avg_pool1d(h[:, None], 2), m.matrix[:3, None, :2], bias=m.shift[:3]),
    "unfold fold": lambda m, h: F.unfold(h.view(-1, 1, 2, 3), 2),
    "pixel_shuffle": lambda m, h: F.pixel_shuffle(h.view(-1, 1, 2, 3).repeat(1, 4, 1, 1), 2),
    "view_as reshape_as expand_as": lambda m, h: h.view(-1, 2, 3).view_as(h) + h[:, :1].expand_as(h) + h.reshape_as(h),
    "zeros_like ones_like new_ones": lambda m, h: h + torch.zeros_like(h) + torch.ones_like(h) * h + h.new_ones(6),
    "sizes": lambda m, h: h.view(h.size(0), h.shape[1]) / h.size(-1) + h.dim() + h.shape[1] // 2 + h.ndim,
    "relu of a constant": lambda m, h: h + F.relu(m.shift) + m.act(torch.zeros_like(h) - 1),
    "keyword arguments": lambda m, h: torch.add(input=h, other=h) + torch.sum(input=h, dim=1, keepdim=True),
    "addbmm baddbmm addmv mv dot": lambda m, h: (
        torch.baddbmm(m.shift[None, :, None], rows(m.matrix, h), h[..., None])[..., 0]
        + torch.addmv(h[:, 0], h, m.shift)[:, None]
        + m.matrix.mv(m.scale) * h * m.shift.dot(m.scale)
    ),
    "addbmm": lambda m, h: torch.addbmm(h, h[None], m.matrix[None]) + h,
    "addr ger outer": lambda m, h: (
        torch.addr(h, h[:, 0], m.shift) + torch.ger(h[:, 1], m.scale) + h[:, 2].outer(m.shift)
    ),
    "addcmul addcdiv lerp": lambda m, h: (
        torch.addcmul(h, m.shift, h, value=2) + torch.addcdiv(m.shift, h, m.scale) + torch.lerp(h, m.shift, 0.3)
    ),
    "kron": lambda m, h: torch.kron(h, m.scale[:2][None]),
    "cross": lambda m, h: torch.cross(h[:, :3], rows(m.shift[:3], h), dim=1),
    "rsub": lambda m, h: torch.rsub(h, m.shift) + operator.add(1.0, operator.mul(m.scale, h)) - (m.shift - h),
    "numpy on the left": lambda m, h: 2.0 * h + 1.0 - (3.0 - h),
    "bilinear": lambda m, h: F.bilinear(h, rows(m.shift, h), m.matrix[None], m.shift[:1]),
    "ravel t swapdims moveaxis ndimension": lambda m, h: (
        h[:, 0].ravel()[:, None] + h.t().t().swapdims(0, 1).moveaxis(0, 1)
    ),
    "hsplit vsplit dsplit": lambda m, h: (
        h.hsplit(2)[0]
        + h.view(1, -1, 6).movedim(1, 2).vsplit(1)[0][0].T.contiguous()[:, :3]
        + h[..., None].tile(1, 1, 2).dsplit(2)[1][..., 0][:, 3:]
    ),
    "gather take_along_dim": lambda m, h: h.gather(1, rows(m.order, h)) + torch.take_along_dim(h, m.order[None], dim=1),
    "vstack row_stack": lambda m, h: torch.vstack([h.T, h.T[:2]]).T + torch.row_stack([h.T[:2], h.T]).T,
    "dstack column_stack concatenate": lambda m, h: (
        torch.dstack([h, 2 * h]).flatten(1) + torch.column_stack([h, h]) + torch.concatenate([h, -h], dim=1)
    ),
    "flipud rot90": lambda m, h: h.T.flipud().T + torch.rot90(h.view(-1, 2, 3), 2, [1, 2]).flatten(1),
    "triu": lambda m, h: (h[:, None] * m.matrix).triu().sum(1) + m.matrix.trace() * m.matrix.diag() * h,
    "constant_pad_nd": lambda m, h: torch.constant_pad_nd(h, (1, 2), 3.0),
    "native_channel_shuffle": lambda m, h: torch.native_channel_shuffle(h.view(-1, 6, 1), 3),
    "diag_embed": lambda m, h: torch.diag_embed(h).sum(1) + h.diag_embed()[:, 0],
    "sum_to_size": lambda m, h: h[:, None].expand(-1, 2, -1).sum_to_size(h.shape[0], 1, 6)[:, 0],
    "diff nothing": lambda m, h: torch.diff(h, dim=1),
    "type broadcast_to": lambda m, h: h.type(torch.float64).broadcast_to(2, -1, 6).type_as(h)[1],
    "setitem copy zero fill": lambda m, h: written(m, h),
    "index_add index_copy": lambda m, h: (
        torch.index_add(h, 1, m.order[:2], h[:, 2:4]) + h.index_copy(1, m.order, rows(m.shift, h))
    ),
    "scatter scatter_add": lambda m, h: (
        h.scatter(1, rows(m.order[:3], h), 2 * h[:, 3:]) + torch.scatter_add(h, 1, rows(m.order, h), h)
    ),
    "masked_scatter": lambda m, h: h.masked_scatter(rows(m.mask, h), 3 * h[:, :4].contiguous()),
    "interpolate": lambda m, h: F.interpolate(h[:, None], scale_factor=2, mode="linear"),
    "interpolate nearest": lambda m, h: F.interpolate(h[:, None], size=9),
    "interpolate area": lambda m, h: F.interpolate(h.view(-1, 1, 2, 3), size=(3, 2), mode="area"),
    "upsample": lambda m, h: F.interpolate(h.view(-1, 1, 2, 3), scale_factor=2, mode="bilinear", align_corners=True),
    "grid_sample": lambda m, h: F.grid_sample(
        h.view(-1, 1, 2, 3), rows(m.matrix[:, :4].reshape(3, 4, 2).tanh(), h), align_corners=False
    ),
    "instance_norm": lambda m, h: F.instance_norm(
        h.view(-1, 2, 3), m.shift[:2], m.several[0][:2].abs(), m.scale[2:4], m.shift[2:4], use_input_stats=False
    ),
    "channel_shuffle": lambda m, h: F.channel_shuffle(h.view(-1, 6, 1), 2),
    "pixel_unshuffle": lambda m, h: F.pixel_unshuffle(h.view(-1, 1, 2, 3)[..., :2], 2),
    "fold": lambda m, h: F.fold(h.view(-1, 6, 1).repeat(1, 4, 2), (2, 3), 2),
    "conv2d conv3d": lambda m, h: (
        F.conv2d(h.view(-1, 1, 2, 3), m.matrix[:2, :4].reshape(2, 1, 2, 2)).flatten(1)
        + F.conv3d(h.view(-1, 1, 1, 2, 3), m.matrix[:2, :4].reshape(2, 1, 1, 2, 2)).flatten(1)
    ),
    "conv_transpose1d conv_transpose2d conv_transpose3d": lambda m, h: (
        F.conv_transpose1d(h.view(-1, 2, 3), m.matrix[:2, :2].reshape(2, 1, 2)).sum(2)
        + F.conv_transpose2d(h.view(-1, 1, 2, 3), m.matrix[:1, :4].reshape(1, 1, 2, 2)).sum((2, 3))
        + F.conv_transpose3d(h.view(-1, 1, 1, 2, 3), m.matrix[:1, :4].reshape(1, 1, 1, 2, 2)).sum((2, 3, 4))
    ),
    "avg_pool2d avg_pool3d": lambda m, h: (
        F.avg_pool2d(h.view(-1, 1, 2, 3), 2, 1, count_include_pad=False).flatten(1)
        + F.avg_pool3d(h.view(-1, 1, 1, 2, 3), (1, 2, 2), 1).flatten(1)
    ),
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d": lambda m, h: (
        F.adaptive_avg_pool1d(h[:, None], 4).flatten(1)
        + F.adaptive_avg_pool2d(h.view(-1, 1, 2, 3), 2).flatten(1)
        + F.adaptive_avg_pool3d(h.view(-1, 1, 1, 2, 3), (1, 2, 2)).flatten(1)
    ),
    "dropouts": lambda m, h: (
        F.dropout1d(h.view(-1, 2, 3), training=False).flatten(1)
        + F.dropout2d(h.view(-1, 1, 2, 3), training=False).flatten(1)
        + F.dropout3d(h.view(-1, 1, 1, 2, 3), training=False).flatten(1)
        + F.feature_alpha_dropout(h, training=False)
        + torch.feature_dropout(h, 0.5, False)
    ),
    "questions": lambda m, h: (
        h.new_full((6,), 2.0) * h
        + torch.full_like(h, 3.0)
        + h.new_zeros(6)
        + h.new_tensor(2.0)
        + h.numel() // h.nelement()
        + h.ndimension()
        + h.is_floating_point()
        + h.is_complex()
        + h.is_contiguous()
        + h.stride(1)
        + (0 if h.is_cuda else h.get_device())
        + (2 if h.device == h.device else 1)
        + (0 if h.layout == torch.sparse_coo else 1)
        + 0.0 * h.requires_grad
        + 0.0 * h.is_leaf
    ),
}


def rows(constant: Tensor, h: Tensor) -> Tensor:
    """The constant for each row of h."""
    nothing = torch.zeros_like(h[:, 0]).view(-1, *[1] * constant.dim())
    return (constant + nothing).to(constant.dtype)


def filled(empty: Tensor, h: Tensor) -> Tensor:
    empty[:, ::2], empty[:, 1::2] = h[:, :3], h[:, 3:]
    return empty


def written(m: Any, h: Tensor) -> Tensor:
    """Values written into tensors that were made in the forward pass."""
    y, z = torch.zeros_like(h), h.clone()
    y[:, 2:4] = h[:, :2]
    y[:, 0].copy_(h[:, 5])
    z[:, 1].zero_()
    z[:, 3].fill_(0.5)
    return y + z


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affine_operations(operation: Callable[[Any, Tensor], Tensor], dtype: torch.dtype) -> None:
    model = Model(lambda m, x: operation(m, relu_of(m, x))).to(dtype).eval()
    model.matrix, model.several = model.matrix.to(dtype), [tensor.to(dtype) for tensor in model.several]
    expected = model(x := torch.randn(7, 4, dtype=dtype)).detach()
    program = read_model(model)
    found = program(x.double().numpy()).reshape(expected.shape)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    if operation is OPERATIONS["casts"]:
        tolerance = 0.1  # the model rounds in between, the program does not
    np.testing.assert_allclose(found, expected.double().numpy(), rtol=tolerance, atol=tolerance)
    assert program.out_shape == expected.shape[1:]


ATEN = torch.ops.aten
# The same for operations that only graphs of torch.export have.
ATEN_OPERATIONS: dict[str, Callable[[Any, Tensor], Any]] = {
    "alias": lambda m, h: ATEN.alias.default(h),
    "slice": lambda m, h: ATEN.slice.Tensor(h, 1, 1, 4),
    "split_with_sizes": lambda m, h: ATEN.split_with_sizes.default(h, [2, 4], 1)[1],
    "unsafe_split_with_sizes": lambda m, h: ATEN.unsafe_split_with_sizes.default(h, [2, 4], 1)[1],
    "unsafe_split": lambda m, h: ATEN.unsafe_split.Tensor(h, 2, 1)[0],
    "unsafe_chunk": lambda m, h: ATEN.unsafe_chunk.default(h, 2, 1)[0],
    "lift_fresh": lambda m, h: ATEN.lift_fresh.default(h),
    "lift_fresh_copy": lambda m, h: ATEN.lift_fresh_copy.default(h),
    "index": lambda m, h: ATEN.index.Tensor(h, [None, m.order]),
    "_to_copy": lambda m, h: ATEN._to_copy.default(h, dtype=torch.float64),
    "_unsafe_view": lambda m, h: ATEN._unsafe_view.default(h, [-1, 3, 2]),
    "_reshape_copy": lambda m, h: ATEN._reshape_copy.default(h, [-1, 3, 2]),
    "view_copy": lambda m, h: ATEN.view_copy.default(h, [-1, 3, 2]),
    "expand_copy": lambda m, h: ATEN.expand_copy.default(h[:, None], [-1, 2, 6]),
    "permute_copy": lambda m, h: ATEN.permute_copy.default(h[:, None], [0, 2, 1]),
    "slice_copy": lambda m, h: ATEN.slice_copy.Tensor(h, 1, 1, 4),
    "select_copy": lambda m, h: ATEN.select_copy.int(h, 1, 3),
    "unsqueeze_copy": lambda m, h: ATEN.unsqueeze_copy.default(h, 1),
    "squeeze_copy": lambda m, h: ATEN.squeeze_copy.dim(h[:, None], 1),
    "transpose_copy": lambda m, h: ATEN.transpose_copy.int(h[:, None], 1, 2),
    "t_copy": lambda m, h: ATEN.t_copy.default(ATEN.t_copy.default(h)),
    "_native_batch_norm_legit_no_training": lambda m, h: ATEN._native_batch_norm_legit_no_training.default(
        h, m.scale, m.shift, m.shift, m.several[0].abs(), 0.1, 1e-5
    )[0],
    "_adaptive_avg_pool2d": lambda m, h: ATEN._adaptive_avg_pool2d.default(h.view(-1, 1, 2, 3), [1, 2]),
    "_adaptive_avg_pool3d": lambda m, h: ATEN._adaptive_avg_pool3d.default(h.view(-1, 1, 1, 2, 3), [1, 1, 2]),
    "upsample_nearest1d": lambda m, h: ATEN.upsample_nearest1d.default(h[:, None], [9]),
    "upsample_nearest2d": lambda m, h: ATEN.upsample_nearest2d.default(h.view(-1, 1, 2, 3), [3, 5]),
    "upsample_nearest3d": lambda m, h: ATEN.upsample_nearest3d.default(h.view(-1, 1, 1, 2, 3), [2, 3, 5]),
    "_upsample_nearest_exact1d": lambda m, h: ATEN._upsample_nearest_exact1d.default(h[:, None], [9]),
    "_upsample_nearest_exact2d": lambda m, h: ATEN._upsample_nearest_exact2d.default(h.view(-1, 1, 2, 3), [3, 5]),
    "_upsample_nearest_exact3d": lambda m, h: ATEN._upsample_nearest_exact3d.default(h.view(-1, 1, 1, 2, 3), [2, 3, 5]),
    "upsample_linear1d": lambda m, h: ATEN.upsample_linear1d.default(h[:, None], [9], False),
    "upsample_bilinear2d": lambda m, h: ATEN.upsample_bilinear2d.default(h.view(-1, 1, 2, 3), [3, 5], True),
    "upsample_bicubic2d": lambda m, h: ATEN.upsample_bicubic2d.default(h.view(-1, 1, 2, 3), [3, 5], False),
    "upsample_trilinear3d": lambda m, h: ATEN.upsample_trilinear3d.default(h.view(-1, 1, 1, 2, 3), [2, 3, 5], False),
    "reflection_pad1d": lambda m, h: ATEN.reflection_pad1d.default(h[:, None], [1, 2]),
    "reflection_pad2d": lambda m, h: ATEN.reflection_pad2d.default(h.view(-1, 1, 2, 3), [1, 1, 1, 0]),
    "reflection_pad3d": lambda m, h: ATEN.reflection_pad3d.default(h.view(-1, 1, 1, 2, 3), [1, 1, 1, 0, 0, 0]),
    "replication_pad1d": lambda m, h: ATEN.replication_pad1d.default(h[:, None], [1, 2]),
    "replication_pad2d": lambda m, h: ATEN.replication_pad2d.default(h.view(-1, 1, 2, 3), [1, 1, 1, 0]),
    "replication_pad3d": lambda m, h: ATEN.replication_pad3d.default(h.view(-1, 1, 1, 2, 3), [1, 1, 1, 0, 0, 1]),
    "slice_scatter": lambda m, h: ATEN.slice_scatter.default(h, 2 * h[:, :3], 1, 2, 5),
    "select_scatter": lambda m, h: ATEN.select_scatter.default(h, 2 * h[:, 0], 1, 4),
    "diagonal_scatter": lambda m, h: ATEN.diagonal_scatter.default(h.view(-1, 2, 3), h[:, :2], 0, 1, 2),
    "index_put": lambda m, h: ATEN.index_put.default(h.clone(), [None, m.order[:2]], 3 * h[:, :2]),
    "convolution": lambda m, h: ATEN.convolution.default(
        h[:, None], m.matrix[:3, None, :2], m.shift[:3], [1], [0], [1], False, [0], 1
    ),
    "sym_size sym_numel sym_stride": lambda m, h: (
        h * ATEN.sym_size.int(h, 1) + ATEN.sym_numel.default(h) // ATEN.sym_size.int(h, 0) + ATEN.sym_stride.int(h, 1)
    ),
}


@pytest.mark.parametrize("operation", ATEN_OPERATIONS.values(), ids=ATEN_OPERATIONS.keys())
def test_operations_of_exported_graphs(operation: Callable[[Any, Tensor], Tensor]) -> None:
    test_affine_operations(operation, torch.float64)


def test_every_rule_is_tried() -> None:
    tried = set[str]()
    for operation in (*OPERATIONS.values(), *ATEN_OPERATIONS.values()):
        model = Model(lambda m, x, operation=operation: operation(m, relu_of(m, x)))
        graph = symbolic_trace(model, (4,))
        tried |= {identify(model, node).name for node in graph.nodes if node.op in ("call_function", "call_method")}
    elsewhere = {".values", ".indices"}  # see test_piecewise.py
    unavailable = {"cuda"}
    assert {*RULES, *ATEN_RULES} - tried - elsewhere - unavailable == set()
