"""The three layers as an `nn.Module`: what evaluates a shallow network."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torch_shallow.domain import inside
from torch_shallow.errors import TransformError
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.functions.identity import differ
from torch_shallow.functions.layers import HalfSpaces, Indicator, Selection
from torch_shallow.functions.points import flatten_points, rounding_of
from torch_shallow.geometry.tree import Tree
from torch_shallow.modules.network import Network
from torch_shallow.search.affine_maps import AffineMaps, affine_maps
from torch_shallow.search.partition import activation_partition

for leaf in ("inside", "rounding_of", "flatten_points"):
    torch.fx.wrap(leaf)  # of the traced graph, called from this module


class ThreeLayers(Network):
    """Half-spaces, indicator, selection, and the head behind them: see `ShallowReLU`."""

    source_hash: str | None = None

    def __init__(
        self,
        partition: Tree,
        maps: AffineMaps | None = None,
        *,
        dense: bool = False,
        head: nn.Module | None = None,
        store_maps: bool = True,
    ) -> None:
        super().__init__()
        self.partition = partition
        self.dense = dense
        maps = affine_maps(activation_partition(partition), local_models=store_maps) if maps is None else maps
        if not store_maps and len(maps.biases):
            raise TransformError(
                f"maps: expected half-spaces alone with store_maps=False, found the local models of {len(maps.biases)} "
                "regions too, which would be dropped; leave out maps, or make them with local_models=False."
            )
        self.half_spaces = HalfSpaces(maps)
        self.indicator = Indicator(partition, self.dense)
        self.selection: Selection | ComposedSelection = (
            Selection(maps) if store_maps else ComposedSelection(partition, maps.projection, maps.skip)
        )
        self.may_be_discontinuous = False
        self._describe(partition.in_shape, partition.out_shape, partition.domain, head, partition.chart.lengths)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take note where what is loaded is not what is there: then no deep network is known that computes it."""
        changed = [name for name, known in self.state_dict().items() if differ(state_dict.get(prefix + name), known)]
        if changed:
            self.source_hash = None
            self.may_be_discontinuous |= any(name.startswith("selection.") for name in changed)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def num_regions(self) -> int:
        """Number of known activation regions in the domain (several can share one affine map); after `merge`, fewer.

        If the network is complete, these are all.
        """
        return self.partition.num_regions

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known; if not, cells of its tree are still to be explored."""
        return self.partition.complete

    @property
    def missing(self) -> str:
        """What is unknown of the domain, and what to do about it, in words; nothing if all regions are known."""
        cells = len(self.partition.open_cells)
        if cells == 0:
            return ""
        words = "1 cell of its domain is" if cells == 1 else f"{cells:,} cells of its domain are"
        return f"this network is incomplete: {words} unexplored; go on with shallow.resume(model)"

    @property
    def stores_maps(self) -> bool:
        """Whether the local models are stored; if not, they are computed when they are needed."""
        return isinstance(self.selection, Selection)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.half_spaces.offsets.device

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        points = flatten_points(x, self.in_shape)
        u = self.half_spaces.coordinates(points)
        if self.head is not None:
            u = u.to(torch.float64)  # or what enters the head would be rounded
        region = self._region(u, points, rounding_of(x))
        return self.selection(region, u, points), region >= 0

    def _region(
        self, u: Float[Tensor, "points coordinates"], x: Float[Tensor, "points inputs"], rounding: float
    ) -> Int64[Tensor, "points"]:
        if not self.dense:
            return self.indicator.descend(u, x, (self.first_limit, self.second_limit), self.half_spaces, rounding)
        within = inside(x.detach(), self._limits, rounding=rounding)
        return torch.where(within, self.indicator(self.half_spaces(u)), -1)

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Index of the region of each input; -1 where `forward` gives NaN. Argument and errors as there."""
        points = flatten_points(x, self.in_shape)
        region = self._region(self.half_spaces.coordinates(points), points, rounding_of(x))
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def local_map(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "*batch_and_out_and_in_shape"], Float[Tensor, "*batch_and_out_shape"]]:
        """The affine map `weight x + bias` that the trunk computes around each input.

        Returns:
            `weight` of shape `(*batch, *trunk_shape, *in_shape)` and `bias` of shape `(*batch, *trunk_shape)`, in the
            dtype and on the device of `x`; NaN as in `forward`. Argument and errors as there.
        """
        region = self.locate(x)
        weight, bias = self.affine_maps(region.reshape(-1).clamp(min=0))
        outside = region.reshape(-1) < 0
        weight[outside], bias[outside] = torch.nan, torch.nan
        batch = region.shape
        return (
            weight.to(x.dtype).reshape(*batch, *self.trunk_shape, *self.in_shape),
            bias.to(x.dtype).reshape(*batch, *self.trunk_shape),
        )

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Weight and bias, float64 and flattened, of the trunk's affine maps of some regions."""
        weight, bias = self.selection.maps(regions)
        if self.half_spaces.projection is not None:
            weight = weight @ self.half_spaces.projection
        if self.selection.skip is not None:
            weight = weight + self.selection.skip
        return weight.clone(), bias

    def extra_repr(self) -> str:
        """Inputs, outputs, regions, half-spaces and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {self.num_regions} {self.partition.kind}, "
            f"{self.partition.num_cuts} half-spaces, domain {self.domain!r}" + self._incomplete + self._warning
        )

    @property
    def _incomplete(self) -> str:
        cells = len(self.partition.open_cells)
        return f", incomplete: {cells} unexplored cell{'s'[: cells != 1]}" * (cells > 0)

    @property
    def _warning(self) -> str:
        return ", may be discontinuous" * self.may_be_discontinuous
