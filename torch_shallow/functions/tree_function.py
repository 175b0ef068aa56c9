"""Represent a function whose regions are the leaves of a tree of cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Size, Tensor

from torch_shallow.display import counted
from torch_shallow.domain import Domain, inside
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.functions.layers import HalfSpaces, Indicator, Selection
from torch_shallow.functions.operators.plain import TreeTensors, is_plain, is_watched, part
from torch_shallow.functions.piecewise_affine import LayeredFunction, Layers
from torch_shallow.functions.points import flatten_points, rounding_of, unflatten
from torch_shallow.geometry.chart import cut_rows
from torch_shallow.geometry.polyhedron import Contacts
from torch_shallow.geometry.tree import Tree

for leaf in ("inside", "rounding_of", "flatten_points", "unflatten"):
    torch.fx.wrap(leaf)  # functions of the traced graph that are called from this module


@runtime_checkable
class TreeLayers(Layers, Protocol):
    """Define the layers that a function of a tree reads; `ShallowReLU` has them."""

    partition: Tree
    half_spaces: HalfSpaces
    indicator: Indicator
    selection: Selection | ComposedSelection
    first_limit: Tensor | None
    second_limit: Tensor | None
    dense: bool


@dataclass(frozen=True, repr=False)
class TreeFunction(LayeredFunction):
    """A `PiecewiseAffine` function whose regions are found by descending a tree, from cut to cut.

    Attributes:
        layers: the network.
    """

    layers: TreeLayers

    @property
    def tree(self) -> Tree:
        """The cuts, and interior points of the regions; also patterns if it is a `Partition`."""
        return self.layers.partition

    @property
    def half_spaces(self) -> HalfSpaces:
        """The distinct half-spaces of the cuts."""
        return self.layers.half_spaces

    @property
    def indicator(self) -> Indicator:
        """The layer that finds the region of a point."""
        return self.layers.indicator

    @property
    def selection(self) -> Selection | ComposedSelection:
        """The affine map of each region."""
        return self.layers.selection

    @property
    def dense(self) -> bool:
        """Whether the region is found from all half-spaces at once."""
        return self.layers.dense

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
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
        """Domain of the function."""
        return self.tree.domain

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return self.half_spaces.offsets.device

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known; if not, cells of the tree remain to be explored."""
        return self.tree.complete

    @property
    def missing(self) -> str:
        """Which part of the domain is unknown, and what to do about it, in words; empty if all regions are known."""
        cells = len(self.tree.open_cells)
        if cells == 0:
            return ""
        words = "1 cell of its domain is" if cells == 1 else f"{cells:,} cells of its domain are"
        return f"this network is incomplete: {words} unexplored; go on with shallow.resume(model)"

    @property
    def num_regions(self) -> int:
        """Number of known regions."""
        return self.tree.num_regions

    @property
    def num_half_spaces(self) -> int:
        """Number of distinct half-spaces, each of which is used by one or more cuts."""
        return len(self.half_spaces)

    def __call__(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """Compute the output for each input, in the dtype of `x`; NaN where no region is known."""
        return unflatten(self.evaluate(x)[0], x, self.in_shape, self.out_shape)

    def evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
        """Return the output for each input, as rows, float64 if there is a head, and its region."""
        layers, points = self.layers, flatten_points(x, in_shape=self.in_shape)
        maps, indicator, rounding = part(layers, "selection"), part(layers, "indicator"), rounding_of(x)
        if not layers.dense and isinstance(maps, Selection) and not is_watched(indicator, maps):
            first, skip = part(layers, "half_spaces"), part(maps, "skip")
            tensors = TreeTensors(
                part(first, "projection"),
                part(first, "rows"),
                part(indicator, "tree"),
                part(layers, "first_limit"),
                part(layers, "second_limit"),
                part(maps, "weights"),
                part(maps, "biases"),
            )
            if is_plain(points, tensors.projection, tensors.half_spaces, tensors.weights, tensors.biases, skip):
                rows = points if skip is None and part(layers, "head") is None else points.to(torch.float64)
                y, region = indicator.plain.evaluate(rows, tensors, indicator.num_regions, rounding)
                return (y if skip is None else maps.with_skip(y, points)), region
        u = layers.half_spaces.coordinates(points)
        if layers.head is not None:
            u = u.to(torch.float64)  # otherwise the input of the head would be rounded
        region = self._region(u, points, rounding)
        return maps(region, u, points), region

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Return the index of the region of each input; -1 where none is known."""
        points = flatten_points(x, self.in_shape)
        region = self._region(self.half_spaces.coordinates(points), points, rounding_of(x))
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def _region(
        self, u: Float[Tensor, "points coordinates"], x: Float[Tensor, "points inputs"], rounding: float
    ) -> Int64[Tensor, "points"]:
        layers = self.layers
        if not layers.dense:
            return layers.indicator(u, x, layers.half_spaces.rows, layers.first_limit, layers.second_limit, rounding)
        within = inside(x.detach(), self.limits, rounding=rounding)
        return torch.where(within, layers.indicator(layers.half_spaces(u)), -1)

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Return weight and bias of the given regions, float64, over flattened inputs and outputs."""
        weight, bias = self.selection.maps(regions)
        if self.half_spaces.projection is not None:
            weight = weight @ self.half_spaces.projection
        if self.selection.skip is not None:
            weight = weight + self.selection.skip
        return weight.clone(), bias

    @torch.no_grad()
    def map_arrays(
        self, regions: Int[np.ndarray, "some"]
    ) -> tuple[Float[np.ndarray, "some outputs inputs"], Float[np.ndarray, "some outputs"]]:
        """Return the maps as `affine_maps` does, from and to NumPy."""
        weight, bias = self.affine_maps(torch.from_numpy(regions).to(self.device))
        return weight.cpu().numpy(), bias.cpu().numpy()

    def half_space_of(self, cuts: slice | Sequence[int] = slice(None)) -> Int64[Tensor, "some"]:
        """Return the index of the half-space that each of the given cuts (all by default) uses."""
        return self.indicator.tree[cuts, 2]

    def cut_rows(self) -> Float[np.ndarray, "cuts homogeneous"]:
        """Return the cuts over homogeneous chart coordinates, with unit length."""
        layer = self.half_spaces
        rows = cut_rows(self.tree.chart, layer.projection, layer.normals.detach(), layer.offsets.detach())
        return rows[self.half_space_of().cpu().numpy()]

    def contacts(self, max_rays: int, tolerance: float = 1e-9) -> Contacts:
        """Return which regions touch; `Contacts` describes `max_rays` and `tolerance`."""
        return Contacts(self.tree, self.cut_rows(), max_rays, tolerance)

    def describe(self, out_shape: tuple[int, ...] | None = None) -> str:
        """Describe inputs, outputs (after the head, if that shape is given), regions, cuts and domain in one line."""
        tree, cells = self.tree, len(self.tree.open_cells)
        return (
            f"{self.in_shape} -> {self.out_shape if out_shape is None else out_shape}, "
            f"{counted(self.num_regions, tree.kind)}, {counted(tree.num_cuts, 'cut')} by "
            f"{counted(self.num_half_spaces, 'half-space')}, domain {self.domain!r}"
            + f", incomplete: {counted(cells, 'unexplored cell')}" * (cells > 0)
            + ", may be discontinuous" * self.may_be_discontinuous
        )
