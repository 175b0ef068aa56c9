"""The shallow network: an `nn.Module` of three hidden layers that computes what the deep one computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torch_shallow.certify import Certificate, certify
from torch_shallow.domain import Domain, inside
from torch_shallow.errors import TransformError
from torch_shallow.partition.affine_maps import affine_maps
from torch_shallow.partition.partition import Partition
from torch_shallow.region import Regions
from torch_shallow.shallow.extended import ExtendedLayer, extended_weights
from torch_shallow.shallow.layers import HalfSpaces, Indicator, Selection, mask_outside

torch.fx.wrap("inside")  # a leaf of the traced graph, called from this module

DENSE_REGIONS = 64  # up to so many regions, evaluating every half-space costs less than descending the tree


class ShallowReLU(nn.Module):
    """A ReLU network with three hidden layers: half-spaces, indicator, selection.

    Computes exactly the function of the network it was made from (Villani & Schoots, "Any ReLU Network Is
    Shallow", arXiv 2306.11827), in float64 inside whatever the dtype outside. Its layers are masks in place of the
    paper's infinite weights; `extended_weights` gives those. Outside a bounded domain the output is NaN.

    Args:
        partition: the activation regions, as `enumerate_regions` finds them.
        dense: evaluate all half-spaces (True), descend the tree (False), or choose by the number of regions (None).

    Attributes:
        partition: tree, patterns and interior points of the regions.
        half_spaces: the first layer.
        indicator: the second layer.
        selection: the third layer.
    """

    first_limit: Tensor | None
    second_limit: Tensor | None

    def __init__(self, partition: Partition, dense: bool | None = None) -> None:
        super().__init__()
        self.partition = partition
        self.dense = partition.num_regions <= DENSE_REGIONS if dense is None else dense
        maps = affine_maps(partition)
        self.half_spaces = HalfSpaces(maps)
        self.indicator = Indicator(partition, self.dense)
        self.selection = Selection(maps)
        limits = partition.domain.limits(self.in_shape)
        self.register_buffer("first_limit", torch.tensor(limits[0]) if limits else None)
        self.register_buffer("second_limit", torch.tensor(limits[1]) if limits else None)

    @property
    def num_regions(self) -> int:
        """Number of activation regions in the domain (several can share one affine map)."""
        return self.partition.num_regions

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.partition.program.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self.partition.program.out_shape

    @property
    def domain(self) -> Domain:
        """Where the network is exact; elsewhere `forward` gives NaN."""
        return self.partition.domain

    @property
    def complete(self) -> bool:
        """Whether every region of the domain was found."""
        return True

    @property
    def regions(self) -> Regions:
        """The regions, as a sequence of `Region`."""
        return Regions(self)

    def forward(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """The output at each input.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, none included.

        Returns:
            The dtype and device of `x`, of shape `(*batch, *out_shape)`; NaN where `x` is outside the domain.

        Raises:
            TransformError: `x` has another shape, or is not floating point.
        """
        points = flatten_points(x, self.in_shape)
        u = self.half_spaces.coordinates(points)
        y = self.selection(self._region(u), u, points)
        y = mask_outside(y, inside(as_given(points, x), self._limits))
        return unflatten(y, x, self.in_shape, self.out_shape)

    @property
    def _limits(self) -> tuple[Tensor, ...]:
        return tuple(limit for limit in (self.first_limit, self.second_limit) if limit is not None)

    def _region(self, u: Float[Tensor, "points coordinates"]) -> Int64[Tensor, "points"]:
        return self.indicator(self.half_spaces(u, None if self.dense else self.indicator.tree))

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Index of the region of each input; -1 outside the domain. Argument and errors as in `forward`."""
        points = flatten_points(x, self.in_shape)
        region = self._region(self.half_spaces.coordinates(points))
        region = torch.where(inside(as_given(points, x), self._limits), region, -1)
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def local_map(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "*batch_and_out_and_in_shape"], Float[Tensor, "*batch_and_out_shape"]]:
        """The affine map `weight x + bias` that the network computes around each input.

        Returns:
            `weight` of shape `(*batch, *out_shape, *in_shape)` and `bias` of shape `(*batch, *out_shape)`, in the dtype
            and on the device of `x`; NaN outside the domain. Argument and errors as in `forward`.
        """
        region = self.locate(x)
        weight, bias = self.affine_maps(region.reshape(-1).clamp(min=0))
        outside = region.reshape(-1) < 0
        weight[outside], bias[outside] = torch.nan, torch.nan
        batch = region.shape
        return (
            weight.to(x.dtype).reshape(*batch, *self.out_shape, *self.in_shape),
            bias.to(x.dtype).reshape(*batch, *self.out_shape),
        )

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Weight and bias, float64 and flattened, of the affine maps of some regions."""
        weight, bias = self.selection.weights[regions], self.selection.biases[regions].clone()
        if self.half_spaces.projection is not None:
            weight = weight @ self.half_spaces.projection
        if self.selection.skip is not None:
            weight = weight + self.selection.skip
        return weight.clone(), bias

    def extended_weights(self) -> list[ExtendedLayer]:
        """The literal matrices of the theorem, entries -inf included: see `torch_shallow.shallow.extended`."""
        return extended_weights(self)

    def certify(self, model: nn.Module, *, sample: int | None = 1000, cells: int | None = None) -> Certificate:
        """Check that this network is the model and that its regions are the activation regions.

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


@torch.fx.wrap
def flatten_points(
    x: Float[Tensor, "*batch_and_in_shape"], in_shape: tuple[int, ...]
) -> Float[Tensor, "points inputs"]:
    """Inputs as rows, in float64."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TransformError(
            f"x: expected a floating-point tensor, found {found}; convert it with .float() or .double()."
        )
    if x.shape[x.dim() - len(in_shape) :] != in_shape or x.dim() < len(in_shape):
        raise TransformError(
            f"x: expected shape (*batch, {', '.join(map(str, in_shape))}), found {tuple(x.shape)}; reshape the input."
        )
    size = 1
    for n in in_shape:
        size *= n
    return x.reshape(x.shape[: x.dim() - len(in_shape)].numel(), size).to(torch.float64)


@torch.fx.wrap
def as_given(points: Float[Tensor, "points inputs"], x: Tensor) -> Float[Tensor, "points inputs"]:
    """Rows in the dtype of the input, whose rounding decides whether they are on the boundary of the domain."""
    return points.detach().to(x.dtype)


@torch.fx.wrap
def unflatten(
    y: Float[Tensor, "points outputs"],
    x: Float[Tensor, "*batch_and_in_shape"],
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
) -> Float[Tensor, "*batch_and_out_shape"]:
    """Outputs in the dtype and batch shape of the input."""
    return y.to(x.dtype).reshape(*x.shape[: x.dim() - len(in_shape)], *out_shape)
