"""Define `torch.ops.torch_shallow.locate`, which finds the region of each point by descending the tree of cuts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_shallow.domain import TOLERANCE, inside
from torch_shallow.functions.operators import vmap_over_rows
from torch_shallow.functions.operators.threads import Share, share_rows

NAME = "torch_shallow::locate"
torch.library.define(
    NAME,
    "(Tensor u, Tensor x, Tensor? first_limit, Tensor? second_limit, Tensor half_spaces, Tensor tree, "
    "int depth, int regions, float rounding) -> Tensor",
)


def locate(
    u: Float[Tensor, "points coordinates"],
    x: Float[Tensor, "points inputs"],
    first_limit: Tensor | None,
    second_limit: Tensor | None,
    half_spaces: Float[Tensor, "half_spaces homogeneous"],
    tree: Int64[Tensor, "cuts 3"],
    depth: int,
    regions: int,
    rounding: float,
) -> Int64[Tensor, "points"]:
    """Return the index of the region of each point; -1 outside the domain and in unexplored cells.

    On the CPU, a compiled loop visits only the cuts on a point's path; on other devices, operations of torch advance
    all points level by level. ONNX has no custom operators of ours, so exported graphs use those operations.

    Args:
        u: the coordinates that the cuts read: float32 or float64.
        x: the points.
        first_limit: first array of the domain's limits, as `inside` takes them, or None.
        second_limit: second array of the domain's limits, or None.
        half_spaces: rows of half-spaces, float64: half-space j contains a point where `half_spaces[j] @ [u, 1] > 0`.
        tree: inactive and active child of each cut, and the index of its half-space. Child `c >= 0` is a cut; `c < 0`
            is region `~c`, or an open cell if `~c` is `regions`.
        depth: largest number of cuts on a path.
        regions: number of regions.
        rounding: the unit of rounding of the dtype in which the points were given.
    """
    where = level_by_level if torch.onnx.is_in_onnx_export() else torch.ops.torch_shallow.locate
    return where(
        u.detach(), x.detach(), first_limit, second_limit, half_spaces.detach(), tree, depth, regions, rounding
    )


def level_by_level(
    u: Tensor,
    x: Tensor,
    first_limit: Tensor | None,
    second_limit: Tensor | None,
    half_spaces: Tensor,
    tree: Tensor,
    depth: int,
    regions: int,
    rounding: float,
) -> Tensor:
    """Advance all points level by level with operations of torch, without synchronising with the device."""
    u = u.to(torch.float64)
    node = u.new_full((u.shape[0],), 0 if tree.shape[0] else ~0, dtype=torch.int64)
    for _ in range(depth):
        cut = node.clamp(min=0)
        below = tree[cut]
        rows = half_spaces[below[:, 2]]
        z = (rows[:, :-1] * u).sum(-1) + rows[:, -1]
        node = torch.where(node < 0, node, torch.where(z > 0.0, below[:, 1], below[:, 0]))
    limits = tuple(limit for limit in (first_limit, second_limit) if limit is not None)
    known = inside(x, limits, rounding=rounding) & (node != ~regions)
    return torch.where(known, -1 - node, -1)


def _compiled(
    u: Tensor,
    x: Tensor,
    first_limit: Tensor | None,
    second_limit: Tensor | None,
    half_spaces: Tensor,
    tree: Tensor,
    depth: int,
    regions: int,
    rounding: float,
) -> Tensor:
    # Imported here because numba takes a while.
    from torch_shallow.functions.operators.kernels import TOGETHER, locate_rows

    rows, points = u.contiguous().numpy(), x.contiguous().numpy()
    cuts = half_spaces.to(torch.float64).contiguous().numpy(), tree.contiguous().numpy()
    found = torch.empty(len(rows), dtype=torch.int64)
    if first_limit is None or second_limit is None:
        limits = np.zeros((0, points.shape[1])), np.zeros(0), False
    else:
        in_box = first_limit.dim() == 1
        limits = np.atleast_2d(first_limit.contiguous().numpy()), second_limit.contiguous().numpy(), in_box
    arrays = (rows, points, *cuts, *limits, max(TOLERANCE, rounding), rounding, regions, found.numpy())

    def work(part: Share) -> None:
        locate_rows(*part, *arrays, np.empty((part.threads, 2, TOGETHER), dtype=np.int64))

    share_rows(len(rows), work)
    return found


def _fake(u: Tensor, *others: object) -> Tensor:
    return u.new_empty(u.shape[:1], dtype=torch.int64)


torch.library.impl(NAME, "CompositeExplicitAutograd", level_by_level)
torch.library.impl(NAME, "CPU", _compiled)
torch.library.register_fake(NAME, _fake)
torch.library.register_vmap(NAME, vmap_over_rows(torch.ops.torch_shallow.locate, rows=(0, 1)))
