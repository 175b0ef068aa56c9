"""The shallow network: an `nn.Module` of three hidden layers that computes what the deep one computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.certify import Certificate, certify
from torch_shallow.domain import Domain, inside
from torch_shallow.partition.affine_maps import AffineMaps, affine_maps
from torch_shallow.partition.partition import activation_partition
from torch_shallow.partition.tree import Tree
from torch_shallow.region import Region, Regions
from torch_shallow.shallow.extended import ExtendedLayer, extended_weights
from torch_shallow.shallow.head import output_shape, run_head
from torch_shallow.shallow.layers import HalfSpaces, Indicator, Selection, mask_outside
from torch_shallow.shallow.points import as_given, check_rows, flatten_points, mask_head, unflatten

for leaf in ("inside", "as_given", "flatten_points", "mask_head", "unflatten"):
    torch.fx.wrap(leaf)  # of the traced graph, called from this module

DENSE_REGIONS = 64  # up to so many regions, evaluating every half-space costs less than descending the tree


class ShallowReLU(nn.Module):
    """A ReLU network with three hidden layers: half-spaces, indicator, selection.

    Computes exactly the function of the network it was made from (Villani & Schoots, "Any ReLU Network Is
    Shallow", arXiv 2306.11827), in float64 inside whatever the dtype outside. Its layers are masks in place of the
    paper's infinite weights; `extended_weights` gives those. Outside a bounded domain the output is NaN.

    What is piecewise linear is the trunk. Where the deep network goes on behind its last piecewise-linear operation, as
    with a softmax, that is the `head`; regions and affine maps are those of the trunk.

    Args:
        partition: the regions, such as the activation regions that `enumerate_regions` finds.
        maps: half-spaces and affine maps; those of the partition's program if None.
        dense: evaluate all half-spaces (True), descend the tree (False), or choose by the number of regions (None).
        head: makes the network's outputs of a batch of the trunk's, in float64, each by itself; nothing if None.

    Attributes:
        partition: tree and interior points of the regions; patterns too, if it is a `Partition`.
        half_spaces: the first layer.
        indicator: the second layer.
        selection: the third layer.
        head: what follows the trunk, or None.
    """

    first_limit: Tensor | None
    second_limit: Tensor | None
    head: nn.Module | None
    region_type: type[Region] = Region

    def __init__(
        self,
        partition: Tree,
        maps: AffineMaps | None = None,
        *,
        dense: bool | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.partition = partition
        self.dense = partition.num_regions <= DENSE_REGIONS if dense is None else dense
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
        self._out_shape = output_shape(head, trunk_shape)
        limits = domain.limits(in_shape)
        self.register_buffer("first_limit", torch.tensor(limits[0]) if limits else None)
        self.register_buffer("second_limit", torch.tensor(limits[1]) if limits else None)
        self.head = head

    @property
    def num_regions(self) -> int:
        """Number of activation regions in the domain (several can share one affine map)."""
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

    @property
    def regions(self) -> Regions:
        """The regions, as a sequence of `Region`."""
        return Regions(self)

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
        y, known = self._evaluate(x)
        if self.head is None:
            return unflatten(mask_outside(y, known), x, self.in_shape, self.out_shape)
        y = run_head(self.head, y.reshape(-1, *self.trunk_shape))
        return unflatten(mask_head(y, known), x, self.in_shape, self.out_shape)

    def trunk(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_trunk_shape"]:
        """The piecewise-linear part of the output, without the head: of a classifier, often the logits.

        Returns:
            The dtype and device of `x`, of shape `(*batch, *trunk_shape)`; NaN as in `forward`. Argument and errors as
            there.
        """
        y, known = self._evaluate(x)
        return unflatten(mask_outside(y, known), x, self.in_shape, self.trunk_shape)

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        """Values of the trunk, and where they are right."""
        points = flatten_points(x, self.in_shape)
        u = self.half_spaces.coordinates(points)
        return self.selection(self._region(u), u, points), inside(as_given(points, x), self._limits)

    @property
    def _limits(self) -> tuple[Tensor, ...]:
        return tuple(limit for limit in (self.first_limit, self.second_limit) if limit is not None)

    def _region(self, u: Float[Tensor, "points coordinates"]) -> Int64[Tensor, "points"]:
        return self.indicator(self.half_spaces(u, None if self.dense else self.indicator.tree))

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Index of the region of each input; -1 where `forward` gives NaN. Argument and errors as there."""
        points = flatten_points(x, self.in_shape)
        region = self._region(self.half_spaces.coordinates(points))
        region = torch.where(inside(as_given(points, x), self._limits), region, -1)
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

    def coverage(self, x: Float[Tensor, "rows *in_shape"]) -> float:
        """The share of a batch of inputs that lie in known regions.

        Raises:
            TransformError: `x` is not a floating-point tensor of shape `(rows, *in_shape)` with one or more rows.
        """
        check_rows("x", x, self.in_shape)
        return float((self.locate(x) >= 0).double().mean())

    def grow(self, x: Float[Tensor, "rows *in_shape"], *, progress: bool = False) -> int:
        """Add the regions of a batch of inputs, in place, where not all regions are known.

        Args:
            x: floating point, of shape `(rows, *in_shape)`.
            progress: show a bar.

        Returns:
            How many regions are new: none here, where all of them are known.

        Raises:
            TransformError: `x` has another shape, or is not floating point.
        """
        check_rows("x", x, self.in_shape)
        return 0

    def extended_weights(self) -> list[ExtendedLayer]:
        """The literal matrices of the theorem, entries -inf included: see `torch_shallow.shallow.extended`.

        Raises:
            TransformError: not all regions are known.
        """
        return extended_weights(self)

    def certify(
        self, model: nn.Module | ExportedProgram, *, sample: int | None = 1000, cells: int | None = None
    ) -> Certificate:
        """Check that this network is the model and that its regions are activation regions: all, if it is complete.

        `torch_shallow.certify.certify` is the same with more arguments.

        Args:
            model: the model that the network was made from; it is not changed.
            sample: number of regions for the checks that cost most (linear programs, vertices, facets); all if None.
            cells: number of regions on whose cells the signs of all neurons are checked; all if None.

        Returns:
            The certificate, to be printed or asked; `certificate.require()` raises if a check failed.

        Raises:
            TransformError: the model cannot be read, or its input or output has another shape.

        Example:
            >>> import torch_shallow
            >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
            >>> torch_shallow.transform(model).certify(model).passed
            True
        """
        return certify(self, model, sample=sample, cells=cells)

    def extra_repr(self) -> str:
        """Inputs, outputs, regions, half-spaces and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {self.num_regions} activation regions, "
            f"{self.partition.num_cuts} half-spaces, domain {self.domain!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ShallowReLU:
        """Move to another device, but keep float64: the dtype outside is that of the input, not of the buffers."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)
