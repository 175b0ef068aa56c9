"""A function whose regions are the leaves of a tree of cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor, nn

from torch_shallow.domain import Domain, inside
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.functions.layers import HalfSpaces, Indicator, Selection
from torch_shallow.functions.points import flatten_points, rounding_of, unflatten
from torch_shallow.geometry.contacts import Contacts
from torch_shallow.geometry.homogeneous import cut_rows
from torch_shallow.geometry.tree import Tree

for leaf in ("inside", "rounding_of", "flatten_points", "unflatten"):
    torch.fx.wrap(leaf)  # of the traced graph, called from this module


@dataclass(frozen=True, eq=False)
class TreeFunction:
    """A `PiecewiseAffine` function that is found by going down a tree, from cut to cut.

    It looks at layers, which may be those of a module: it has no tensors of its own, and follows them when they move to
    another device or are trained.

    Attributes:
        tree: the cuts, and interior points of the regions; patterns too, if it is a `Partition`.
        half_spaces: the half-spaces of the cuts.
        indicator: which region a point is in.
        selection: the affine map of each region.
        first_limit: the domain, as `inside` takes it: lower bounds of a box, or inequalities; None for all of R^n.
        second_limit: upper bounds, or right-hand sides.
        head: see `PiecewiseAffine`, as for `may_be_discontinuous`.
        dense: find the region by all half-spaces at once.
    """

    tree: Tree
    half_spaces: HalfSpaces
    indicator: Indicator
    selection: Selection | ComposedSelection
    first_limit: Tensor | None
    second_limit: Tensor | None
    head: nn.Module | None = None
    may_be_discontinuous: bool = False
    dense: bool = False

    def __eq__(self, other: object) -> bool:
        """Whether two look at the same layers."""
        return isinstance(other, TreeFunction) and self.half_spaces is other.half_spaces

    def __hash__(self) -> int:
        return hash(self.half_spaces)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """See `PiecewiseAffine`, as for all without a docstring of their own."""
        return self.tree.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self.tree.out_shape

    @property
    def num_inputs(self) -> int:
        """Number of entries of one input."""
        return Size(self.in_shape).numel()

    @property
    def num_outputs(self) -> int:
        """Number of entries of one output."""
        return Size(self.out_shape).numel()

    @property
    def domain(self) -> Domain:
        """Where it is defined."""
        return self.tree.domain

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain, as `inside` takes it."""
        return tuple(limit for limit in (self.first_limit, self.second_limit) if limit is not None)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.half_spaces.offsets.device

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known; if not, cells of the tree are still to be explored."""
        return self.tree.complete

    @property
    def missing(self) -> str:
        """What is unknown of the domain, and what to do about it, in words; nothing if all regions are known."""
        cells = len(self.tree.open_cells)
        if cells == 0:
            return ""
        words = "1 cell of its domain is" if cells == 1 else f"{cells:,} cells of its domain are"
        return f"this network is incomplete: {words} unexplored; go on with shallow.resume(model)"

    @property
    def num_regions(self) -> int:
        """Number of known regions."""
        return self.tree.num_regions

    def __call__(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """The output at each input, in the dtype of `x`; NaN where no region is known."""
        return unflatten(self.evaluate(x)[0], x, self.in_shape, self.out_shape)

    def evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
        """The output at each input, as rows, float64 if there is a head; and the region."""
        points = flatten_points(x, self.in_shape)
        u = self.half_spaces.coordinates(points)
        if self.head is not None:
            u = u.to(torch.float64)  # or what enters the head would be rounded
        region = self._region(u, points, rounding_of(x))
        return self.selection(region, u, points), region

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Number of the region of each input; -1 where none is known."""
        points = flatten_points(x, self.in_shape)
        region = self._region(self.half_spaces.coordinates(points), points, rounding_of(x))
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def _region(
        self, u: Float[Tensor, "points coordinates"], x: Float[Tensor, "points inputs"], rounding: float
    ) -> Int64[Tensor, "points"]:
        if not self.dense:
            return self.indicator.descend(u, x, (self.first_limit, self.second_limit), self.half_spaces, rounding)
        within = inside(x.detach(), self.limits, rounding=rounding)
        return torch.where(within, self.indicator(self.half_spaces(u)), -1)

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Weight and bias of some regions, float64, over flattened inputs and outputs."""
        weight, bias = self.selection.maps(regions)
        if self.half_spaces.projection is not None:
            weight = weight @ self.half_spaces.projection
        if self.selection.skip is not None:
            weight = weight + self.selection.skip
        return weight.clone(), bias

    def cut_rows(self) -> Float[np.ndarray, "cuts homogeneous"]:
        """The cuts over homogeneous chart coordinates, in unit length."""
        layer = self.half_spaces
        return cut_rows(self.tree.chart, layer.projection, layer.normals.detach(), layer.offsets.detach())

    def contacts(self, max_rays: int, tolerance: float = 1e-9) -> Contacts:
        """Which regions touch; see `Contacts` for `max_rays` and `tolerance`."""
        return Contacts(self.tree, self.cut_rows(), max_rays, tolerance)

    def describe(self, out_shape: tuple[int, ...] | None = None) -> str:
        """Inputs, outputs (behind the head, if that shape is given), regions, half-spaces and domain in one line."""
        tree, cells = self.tree, len(self.tree.open_cells)
        return (
            f"{self.in_shape} -> {self.out_shape if out_shape is None else out_shape}, {self.num_regions} {tree.kind}, "
            f"{tree.num_cuts} half-spaces, domain {self.domain!r}"
            + f", incomplete: {cells} unexplored cell{'s'[: cells != 1]}" * (cells > 0)
            + ", may be discontinuous" * self.may_be_discontinuous
        )
