"""Represent a function that is known in the regions of a deep network that data have visited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torch_shallow.display import counted
from torch_shallow.domain import Domain, inside
from torch_shallow.errors import TransformError
from torch_shallow.functions.deep_function import DeepFunction, clean_neuron_maps, local_maps
from torch_shallow.functions.patterns import LocalModels, Patterns, pack
from torch_shallow.functions.piecewise_affine import LayeredFunction, Layers
from torch_shallow.functions.points import clamp_into_box, flatten_points, rounding_of, unflatten


@runtime_checkable
class VisitedLayers(Layers, Protocol):
    """Define the layers that a function of visited regions reads; `VisitedReLU` has them."""

    neurons: DeepFunction
    known_patterns: Patterns
    local_models: LocalModels
    points: Tensor

    @property
    def domain(self) -> Domain:
        """Domain in which it is valid."""


@dataclass(frozen=True, repr=False)
class VisitedFunction(LayeredFunction):
    """A `PiecewiseAffine` function whose regions are found by their activation patterns, in a table.

    Attributes:
        layers: the network.
    """

    layers: VisitedLayers

    @property
    def deep(self) -> DeepFunction:
        """The deep network."""
        return self.layers.neurons

    @property
    def known_patterns(self) -> Patterns:
        """The pattern of each region."""
        return self.layers.known_patterns

    @property
    def local_models(self) -> LocalModels:
        """The affine map of each region; empty if maps are computed when they are needed."""
        return self.layers.local_models

    @property
    def points(self) -> Float[Tensor, "regions inputs"]:
        """For each region, the input that visited it first."""
        return self.layers.points

    @property
    def domain(self) -> Domain:
        """Domain in which it is valid."""
        return self.layers.domain

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.deep.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self.deep.out_shape

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return self.points.device

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known: this cannot be told, so it is False."""
        return False

    @property
    def missing(self) -> str:
        """Which part of the domain is unknown, and what to do about it, in words."""
        return "this network knows only the regions that its data visit; transform the model without data, or in a Box"

    @property
    def num_regions(self) -> int:
        """Number of known regions."""
        return len(self.points)

    def __call__(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """Compute the output for each input, in the dtype of `x`; NaN where no region is known."""
        return unflatten(self.evaluate(x)[0], x, self.in_shape, self.out_shape)

    def evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Int64[Tensor, "points"]]:
        """Return the output for each input, as rows of float64, and its region."""
        points, region = flatten_points(x, self.in_shape).double(), self.locate(x).reshape(-1)
        y = torch.full((len(points), self.deep.num_outputs), torch.nan, dtype=points.dtype, device=points.device)
        known = region >= 0
        return y.index_put((known.nonzero()[:, 0],), self._values(region[known], points[known])), region

    def _values(
        self, region: Int64[Tensor, "points"], x: Float[Tensor, "points inputs"]
    ) -> Float[Tensor, "points outputs"]:
        if len(self.local_models):
            return self.local_models(region, x)
        parts = [x.new_zeros(0, self.deep.num_outputs)]
        for block in self.deep.blocks(len(x)):
            if x.requires_grad:
                weight, bias = self.affine_maps(region[block])
                parts.append(torch.einsum("poi,pi->po", weight, x[block]) + bias)
            else:
                parts.append(self.deep.frozen(x[block], self.patterns(region[block]))[1])
        return torch.cat(parts)

    @torch.no_grad()
    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Return the index of the region of each input; -1 where none is known.

        A point on a boundary belongs to the region of its own pattern if that is known, and else to the first known
        region that contains it.
        """
        _check_values(x)
        points = flatten_points(x, self.in_shape).double()
        region = torch.full((len(points),), -1, device=points.device)
        within = inside(points, self.limits, rounding=rounding_of(x)).nonzero()[:, 0]
        for block in self.deep.blocks(len(within)):
            region[within[block]] = self._find(clamp_into_box(points[within[block]], self.limits))
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def _find(self, x: Float[Tensor, "points inputs"]) -> Int64[Tensor, "points"]:
        region = self.known_patterns.find(pack(self.deep.signs(x)))
        unknown = np.flatnonzero(region < 0)
        for block in self.deep.blocks(len(unknown)):
            rows = unknown[block]
            found = self.deep.rounded(x[torch.from_numpy(rows).to(x.device)])
            region[rows] = self.known_patterns.find_agreeing(pack(found.positive), pack(found.undecided))
        return torch.from_numpy(region).to(x.device)

    def patterns(self, regions: Int64[Tensor, "some"]) -> Bool[Tensor, "some neurons"]:
        """Return the activation patterns of the given regions."""
        return torch.from_numpy(self.known_patterns.unpacked(regions.cpu().numpy())).to(self.device)

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Return weight and bias of the given regions, float64, over flattened inputs and outputs."""
        regions = regions.to(self.device)
        if len(self.local_models):
            return self.local_models.weights[regions], self.local_models.biases[regions]
        return self.composed_maps(regions)

    def composed_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Return the maps as `affine_maps` does, but always computed from the deep network."""
        deep = self.deep
        weight = torch.zeros(len(regions), deep.num_outputs, deep.num_inputs, dtype=torch.float64, device=self.device)
        bias = torch.zeros(weight.shape[:2], dtype=torch.float64, device=self.device)
        for block in deep.blocks(len(regions)):
            weight[block], bias[block] = local_maps(deep, self.patterns(regions[block]))
        return weight, bias

    def neuron_maps(self, region: int) -> tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]]:
        """Return weight and bias, float64 and flattened, of the pre-activation of each neuron in a region."""
        return clean_neuron_maps(self.deep, self.patterns(torch.tensor([region]))[0])

    def describe(self, out_shape: tuple[int, ...] | None = None) -> str:
        """Describe inputs, outputs (after the head, if its shape is given), regions, neurons and domain in a line."""
        return (
            f"{self.in_shape} -> {self.out_shape if out_shape is None else out_shape}, "
            f"{counted(self.num_regions, 'visited activation region')} of {counted(self.deep.num_neurons, 'neuron')}, "
            f"domain {self.domain!r}" + ", may be discontinuous" * self.may_be_discontinuous
        )


def _check_values(x: Tensor) -> None:
    """Check that a tensor has values, which it has not while torch traces code."""
    try:
        x.data_ptr()
        missing = x.is_meta
    except RuntimeError:
        missing = True
    if missing:
        raise TransformError(
            "x: expected a tensor with values, since a network of visited regions looks up patterns in a table, found "
            "one without, as in torch.func, torch.export or on the meta device; use torch.autograd, or transform the "
            "model without data in a Box."
        )
