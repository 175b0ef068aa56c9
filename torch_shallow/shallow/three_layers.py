"""The three layers as an `nn.Module`: what evaluates a shallow network."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from torch_shallow.domain import Domain, inside
from torch_shallow.partition.affine_maps import AffineMaps, affine_maps
from torch_shallow.partition.partition import activation_partition
from torch_shallow.partition.tree import Tree
from torch_shallow.shallow.float64 import StaysFloat64
from torch_shallow.shallow.head import in_float64, output_shape, run_head
from torch_shallow.shallow.layers import HalfSpaces, Indicator, Selection
from torch_shallow.shallow.points import flatten_points, mask_head, rounding_of, unflatten

for leaf in ("inside", "rounding_of", "flatten_points", "mask_head", "unflatten"):
    torch.fx.wrap(leaf)  # of the traced graph, called from this module

Self = TypeVar("Self", bound="ThreeLayers")


class ThreeLayers(StaysFloat64):
    """Half-spaces, indicator, selection, and the head behind them: see `ShallowReLU`."""

    first_limit: Tensor | None
    second_limit: Tensor | None
    head: nn.Module | None

    def __init__(
        self,
        partition: Tree,
        maps: AffineMaps | None = None,
        *,
        dense: bool = False,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.partition = partition
        self.dense = dense
        maps = affine_maps(activation_partition(partition)) if maps is None else maps
        self.half_spaces = HalfSpaces(maps)
        self.indicator = Indicator(partition, self.dense)
        self.selection = Selection(maps)
        self._describe(partition.in_shape, partition.out_shape, partition.domain, head)

    def _describe(
        self, in_shape: tuple[int, ...], trunk_shape: tuple[int, ...], domain: Domain, head: nn.Module | None
    ) -> None:
        """Keep what every shallow network has, however its regions were found."""
        self._in_shape, self._trunk_shape, self._domain = in_shape, trunk_shape, domain
        self.head = None if head is None else in_float64(head, trunk_shape)
        self._out_shape = output_shape(self.head, trunk_shape)
        limits = domain.limits(in_shape)
        self.register_buffer("first_limit", torch.tensor(limits[0]) if limits else None)
        self.register_buffer("second_limit", torch.tensor(limits[1]) if limits else None)
        self.may_be_discontinuous = False
        self.eval()

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training`, which changes nothing: all parts stay in eval mode, in which the model was transformed."""
        super().train(False)
        self.training = mode
        return self

    @property
    def num_regions(self) -> int:
        """Number of activation regions in the domain (several can share one affine map); after `merge`, fewer."""
        return self.partition.num_regions

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self._in_shape

    @property
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk; without a head, `out_shape`."""
        return self._trunk_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self._out_shape

    @property
    def domain(self) -> Domain:
        """Where the network is exact; elsewhere `forward` gives NaN."""
        return self._domain

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known."""
        return True

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.half_spaces.offsets.device

    def forward(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Shaped[Tensor, "*batch_and_out_shape"]:
        """The output at each input.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, none included.

        Returns:
            Shape `(*batch, *out_shape)`, the device of `x`, and its dtype where a head does not make whole numbers; NaN
            where `x` is outside the domain, or in no region that is known.

        Raises:
            TransformError: `x` has another shape, or is not floating point; or some of it is where there should be NaN,
                but the head makes whole numbers.
        """
        y, region = self._evaluate(x)
        if self.head is None:
            return unflatten(y, x, self.in_shape, self.out_shape)
        y = run_head(self.head, y.reshape(-1, *self.trunk_shape))
        return unflatten(mask_head(y, region >= 0), x, self.in_shape, self.out_shape)

    def trunk(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_trunk_shape"]:
        """The piecewise-linear part of the output, without the head: of a classifier, often the logits.

        Returns:
            The dtype and device of `x`, of shape `(*batch, *trunk_shape)`; NaN as in `forward`. Argument and errors as
            there.
        """
        y, _ = self._evaluate(x)
        return unflatten(y, x, self.in_shape, self.trunk_shape)

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
        """Values of the trunk, and the regions; where there is none (-1), NaN."""
        points = flatten_points(x, self.in_shape)
        u = self.half_spaces.coordinates(points)
        if self.head is not None:
            u = u.to(torch.float64)  # or what enters the head would be rounded
        region = self._region(u, points, rounding_of(x))
        return self.selection(region, u, points), region

    @property
    def _limits(self) -> tuple[Tensor, ...]:
        return tuple(limit for limit in (self.first_limit, self.second_limit) if limit is not None)

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
        weight, bias = self.selection.weights[regions], self.selection.biases[regions].clone()
        if self.half_spaces.projection is not None:
            weight = weight @ self.half_spaces.projection
        if self.selection.skip is not None:
            weight = weight + self.selection.skip
        return weight.clone(), bias

    def extra_repr(self) -> str:
        """Inputs, outputs, regions, half-spaces and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {self.num_regions} {self.partition.kind}, "
            f"{self.partition.num_cuts} half-spaces, domain {self.domain!r}" + self._warning
        )

    @property
    def _warning(self) -> str:
        return ", may be discontinuous" * self.may_be_discontinuous
