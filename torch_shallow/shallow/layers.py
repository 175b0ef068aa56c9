"""The three hidden layers, as masks: half-spaces, indicator, selection."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear

from torch_shallow.partition.affine_maps import AffineMaps
from torch_shallow.partition.tree import Tree


class HalfSpaces(nn.Module):
    """First layer: on which side of every cut a point lies.

    The half-spaces are given in the coordinates `u = projection @ x` that the network reads of its input, or of
    the input itself where `projection` is None.
    """

    projection: Tensor | None
    normals: Tensor
    offsets: Tensor

    def __init__(self, maps: AffineMaps) -> None:
        super().__init__()
        self.register_buffer("projection", None if maps.projection is None else _tensor(maps.projection))
        self.register_buffer("normals", _tensor(maps.normals))
        self.register_buffer("offsets", _tensor(maps.offsets))

    def coordinates(self, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points coordinates"]:
        """What the network reads of the input."""
        return x if self.projection is None else linear(x, self.projection)

    def forward(
        self, u: Float[Tensor, "points coordinates"], tree: Int64[Tensor, "cuts 2"] | None = None
    ) -> Float[Tensor, "points cuts"] | Int64[Tensor, "points"]:
        """The pre-activation that makes each cut, positive on its active side.

        With a tree, only the cuts that a point meets on its way down are evaluated, and the way's end is returned:
        region k as ~k.
        """
        if tree is None:
            return linear(u, self.normals, self.offsets)
        return descend_tree(u, self.normals, self.offsets, tree)

    def extra_repr(self) -> str:
        """Number of half-spaces."""
        return f"{self.normals.shape[0]} half-spaces in {self.normals.shape[1]} coordinates"


class Indicator(nn.Module):
    """Second layer: the one region whose half-spaces all agree with the point."""

    tree: Tensor
    must_be_active: Tensor
    must_be_inactive: Tensor

    def __init__(self, partition: Tree, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.register_buffer("tree", torch.tensor(partition.children))
        regions = partition.num_regions if dense else 0
        active, inactive = torch.zeros(2, regions, partition.num_cuts, dtype=torch.float64)
        if dense:
            for region in range(partition.num_regions):
                for cut, side in partition.path(region):
                    (active if side else inactive)[region, cut] = 1.0
        self.register_buffer("must_be_active", active, persistent=False)
        self.register_buffer("must_be_inactive", inactive, persistent=False)

    def forward(self, sides: Float[Tensor, "points cuts"] | Int64[Tensor, "points"]) -> Int64[Tensor, "points"]:
        """Index of the region of each point: the one without a violated half-space, or the one at the way's end."""
        if not self.dense:
            return ~sides
        positive = (sides > 0.0).to(torch.float64)
        violated = linear(positive, self.must_be_inactive) + linear(1.0 - positive, self.must_be_active)
        return violated.argmin(dim=-1)

    def extra_repr(self) -> str:
        """Number of regions, and how they are found."""
        return f"{self.tree.shape[0] + 1} regions, {'dense masks' if self.dense else 'tree descent'}"


class Selection(nn.Module):
    """Third layer: the local linear model of the region, and of no other."""

    weights: Tensor
    biases: Tensor
    skip: Tensor | None

    def __init__(self, maps: AffineMaps) -> None:
        super().__init__()
        self.register_buffer("weights", _tensor(maps.weights))
        self.register_buffer("biases", _tensor(maps.biases))
        self.register_buffer("skip", None if maps.skip is None else _tensor(maps.skip))

    def forward(
        self,
        region: Int64[Tensor, "points"],
        u: Float[Tensor, "points coordinates"],
        x: Float[Tensor, "points inputs"],
    ) -> Float[Tensor, "points outputs"]:
        """The output of the region's affine map."""
        y = torch.einsum("poc,pc->po", self.weights[region], u) + self.biases[region]
        return y if self.skip is None else y + linear(x, self.skip)

    def extra_repr(self) -> str:
        """Number of local models and their size."""
        regions, outputs, coordinates = self.weights.shape
        return f"{regions} local models, {coordinates} coordinates to {outputs} outputs"


@torch.fx.wrap
def descend_tree(
    u: Float[Tensor, "points coordinates"],
    normals: Float[Tensor, "cuts coordinates"],
    offsets: Float[Tensor, "cuts"],
    tree: Int64[Tensor, "cuts 2"],
) -> Int64[Tensor, "points"]:
    """End of each point's way down: to the active child where the cut is positive, else to the inactive one."""
    u = u.detach()
    if tree.shape[0] == 0:
        return torch.full(u.shape[:1], ~0, dtype=torch.int64, device=u.device)
    node = torch.zeros(u.shape[0], dtype=torch.int64, device=u.device)
    rows = torch.arange(u.shape[0], device=u.device)
    while rows.numel():
        cut = node[rows]
        z = (normals[cut] * u[rows]).sum(-1) + offsets[cut]
        node[rows] = tree[cut, (z > 0.0).long()]
        rows = rows[node[rows] >= 0]
    return node


def mask_outside(y: Float[Tensor, "points outputs"], inside: Bool[Tensor, "points"]) -> Float[Tensor, "points outputs"]:
    """NaN for points outside the domain: never a wrong number."""
    return torch.where(inside.unsqueeze(-1), y, torch.nan)


def _tensor(array: object) -> Tensor:
    return torch.as_tensor(array).contiguous()
