"""Data in, the network of the regions that they visit out."""

from __future__ import annotations

import sys

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torch_shallow.domain import Domain, inside
from torch_shallow.errors import TransformError
from torch_shallow.functions import VisitedRegion
from torch_shallow.functions.data import check_data, clamp_into_box, rows_of, with_progress
from torch_shallow.functions.deep_function import Neurons
from torch_shallow.functions.local_maps import clean_neuron_maps, local_maps
from torch_shallow.functions.patterns import LocalModels, Patterns, pack
from torch_shallow.functions.points import flatten_points, rounding_of
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.visited_verification import verify_rows
from torch_shallow.program.traced import TracedModel

STORED_BYTES = 1 << 30  # affine maps that take more than this are computed when they are needed


class VisitedReLU(ShallowReLU):
    """The shallow network of some of a deep network's regions: those that data visit.

    Only what is visited is built, so the deep network may have any size. A point lies in a region if every neuron of
    the deep network agrees: it has the sign of the region's pattern, or is zero up to rounding. Elsewhere `locate` is
    -1 and `forward` NaN. Regions are numbered in the order in which rows of the data first visit them.

    Args:
        traced: the deep network, which becomes a part of this one.
        domain: where this one is right.

    Attributes:
        neurons: the first layer: the neurons of the deep network.
        known_patterns: the second layer: the patterns of the known regions.
        local_models: the third layer: the affine maps of the known regions. Empty if they would take more than a
            gigabyte, for then they are computed when they are needed.
        points: a row for each region: the input that visited it first.
    """

    points: Tensor
    region_type = VisitedRegion
    _has_tree = False

    def __init__(self, traced: TracedModel, domain: Domain) -> None:
        nn.Module.__init__(self)  # there is no partition to make layers from
        self.neurons = Neurons(traced)
        self.known_patterns = Patterns(self.neurons.num_neurons)
        self.local_models = LocalModels(self.neurons.num_outputs, self.neurons.num_inputs)
        self.register_buffer("points", torch.zeros(0, self.neurons.num_inputs, dtype=torch.float64))
        self.may_be_discontinuous = False
        self._describe(traced.in_shape, traced.out_shape, domain, traced.head)

    @property
    def num_regions(self) -> int:
        """Number of activation regions that are known (several can share one affine map)."""
        return len(self.points)

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known: not as far as anyone knows."""
        return False

    @property
    def missing(self) -> str:
        """What is unknown of the domain, and what to do about it, in words."""
        return "this network knows only the regions that its data visit; transform the model without data, or in a Box"

    @property
    def stores_maps(self) -> bool:
        """Whether the affine maps are stored; if not, they are computed when they are needed."""
        return len(self.local_models) > 0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.points.device

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        # As a decorator, this would import the whole compiler with the package.
        return torch.compiler.disable(self._look_up)(x) if "torch._dynamo" in sys.modules else self._look_up(x)

    def _look_up(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        points, region = flatten_points(x, self.in_shape).double(), self.locate(x).reshape(-1)
        y = torch.full((len(points), self.neurons.num_outputs), torch.nan, dtype=points.dtype, device=points.device)
        known = region >= 0
        return y.index_put((known.nonzero()[:, 0],), self._values(region[known], points[known])), known

    def _values(
        self, region: Int64[Tensor, "points"], x: Float[Tensor, "points inputs"]
    ) -> Float[Tensor, "points outputs"]:
        if len(self.local_models):
            return self.local_models(region, x)
        parts = [x.new_zeros(0, self.neurons.num_outputs)]
        for block in self.neurons.blocks(len(x)):
            if x.requires_grad:
                weight, bias = self.affine_maps(region[block])
                parts.append(torch.einsum("poi,pi->po", weight, x[block]) + bias)
            else:
                parts.append(self.neurons.frozen(x[block], self.patterns(region[block]))[1])
        return torch.cat(parts)

    @torch.no_grad()
    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Index of the region of each input; -1 where it is in none that is known. Argument and errors as in `forward`.

        A point on the boundary of several known regions is in that of its own pattern, or else in the first.
        """
        _check_values(x)
        points = flatten_points(x, self.in_shape).double()
        region = torch.full((len(points),), -1, device=points.device)
        within = inside(points, self._limits, rounding=rounding_of(x)).nonzero()[:, 0]
        for block in self.neurons.blocks(len(within)):
            region[within[block]] = self._find(clamp_into_box(points[within[block]], self._limits))
        return region.reshape(x.shape[: x.dim() - len(self.in_shape)])

    def _find(self, x: Float[Tensor, "points inputs"]) -> Int64[Tensor, "points"]:
        region = self.known_patterns.find(pack(self.neurons.signs(x)))
        unknown = np.flatnonzero(region < 0)
        for block in self.neurons.blocks(len(unknown)):
            rows = unknown[block]
            found = self.neurons.rounded(x[torch.from_numpy(rows).to(x.device)])
            region[rows] = self.known_patterns.find_agreeing(pack(found.positive), pack(found.undecided))
        return torch.from_numpy(region).to(x.device)

    def patterns(self, regions: Int64[Tensor, "some"]) -> Bool[Tensor, "some neurons"]:
        """Activation patterns of some regions."""
        return torch.from_numpy(self.known_patterns.unpacked(regions.cpu().numpy())).to(self.device)

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Weight and bias, float64 and flattened, of the trunk's affine maps of some regions."""
        regions = regions.to(self.device)
        if len(self.local_models):
            return self.local_models.weights[regions], self.local_models.biases[regions]
        weight = torch.zeros(
            len(regions), *self.local_models.weights.shape[1:], dtype=torch.float64, device=self.device
        )
        bias = torch.zeros(weight.shape[:2], dtype=torch.float64, device=self.device)
        for block in self.neurons.blocks(len(regions)):
            weight[block], bias[block] = local_maps(self.neurons, self.patterns(regions[block]))
        return weight, bias

    def neuron_maps(self, region: int) -> tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]]:
        """Weight and bias, float64 and flattened, of what enters each neuron on a region."""
        return clean_neuron_maps(self.neurons, self.patterns(torch.tensor([region]))[0])

    def grow(self, x: Float[Tensor, "rows *in_shape"], *, progress: bool = False) -> int:
        """Add the regions of a batch of inputs, in place, and compare the network with the model on all of them.

        Args:
            x: floating point, of shape `(rows, *in_shape)`, in the domain.
            progress: show bars.

        Returns:
            How many regions are new.

        Raises:
            TransformError: `x` is no such batch, the network differs from the model on it, or its local models may have
                been trained.
        """
        if self.may_be_discontinuous:
            raise TransformError(
                "grow: the local models of this network may have been trained, and new regions would have those of the "
                "model; grow the network before unfreeze()."
            )
        return self._visit("x", x, progress)

    @property
    def _trainable(self) -> LocalModels:
        return self.local_models

    def unfreeze(self) -> VisitedReLU:
        """Make the local models parameters: see `ShallowReLU.unfreeze`."""
        if not len(self.local_models):
            raise TransformError(
                "unfreeze: the local models of this network take more than a gigabyte, so they are not stored but "
                "computed when they are needed; transform the model with fewer rows of data."
            )
        super().unfreeze()
        return self

    @torch.inference_mode(False)  # or what is stored could not take part in gradients
    @torch.no_grad()
    def _visit(self, name: str, data: Tensor, progress: bool) -> int:
        check_data(name, data, self.in_shape, self._limits, self.neurons.blocks)
        count = len(data)
        blocks = with_progress(self.neurons.blocks(count), "finding regions", count, progress)
        rows = (rows_of(data, block, self.device, self._limits) for block in blocks)
        new = self.known_patterns.new(pack(self.neurons.signs(block)) for block in rows)
        self.known_patterns.add(new)
        first = torch.tensor(list(new.values()), dtype=torch.int64, device=data.device)
        self.points = torch.cat([self.points, rows_of(data, first, self.device, self._limits)])
        self._store_maps(progress)
        verify_rows(self, data, progress)
        return len(new)

    def _store_maps(self, progress: bool) -> None:
        """Compute the maps of the regions that have none, and keep them unless all of them take too much."""
        old, shape = len(self.local_models), (self.num_regions, *self.local_models.weights.shape[1:])
        if torch.Size(shape).numel() * 8 > STORED_BYTES:
            self.local_models.forget()
            return
        weights = torch.zeros(shape, dtype=torch.float64, device=self.device)
        biases = torch.zeros(shape[:2], dtype=torch.float64, device=self.device)
        weights[:old], biases[:old] = self.local_models.weights, self.local_models.biases
        count = self.num_regions - old
        for block in with_progress(self.neurons.blocks(count), "affine maps", count, progress):
            regions = torch.arange(old + block.start, old + block.stop)
            weights[regions], biases[regions] = local_maps(self.neurons, self.patterns(regions))
        self.local_models.weights, self.local_models.biases = weights, biases

    def extra_repr(self) -> str:
        """Inputs, outputs, regions, neurons and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {self.num_regions} visited activation regions of "
            f"{self.neurons.num_neurons} neurons, domain {self.domain!r}" + self._warning
        )


def _check_values(x: Tensor) -> None:
    """Make sure that a tensor has values to be looked at: while torch traces code it has none."""
    try:
        x.data_ptr()
        missing = x.is_meta
    except RuntimeError:
        missing = True
    if missing:
        raise TransformError(
            "x: a network of visited regions looks patterns up in a table, which torch.func, torch.export and the meta "
            "device cannot follow; use torch.autograd, or transform the model without data in a Box."
        )


def visited_network(traced: TracedModel, data: Tensor, domain: Domain, progress: bool = False) -> VisitedReLU:
    """The shallow network of the regions that data visit, compared with the model on all rows of them.

    Time and memory are linear in rows and regions times neurons.

    Args:
        traced: the model; its copy becomes a part of the network.
        data: floating point, of shape `(rows, *in_shape)`, on any device.
        domain: the data lie in it, and the network is only right in it.
        progress: show bars.

    Raises:
        TransformError: the data are no such batch, or some rows are not finite or outside the domain; or the network
            differs from the model.
    """
    shallow = VisitedReLU(traced, domain).to(traced.device)
    shallow._visit("data", data, progress)
    return shallow
