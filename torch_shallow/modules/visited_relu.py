"""Data in, the network of the regions that they visit out."""

from __future__ import annotations

import sys

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import VisitedFunction, VisitedRegion
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.patterns import LocalModels, Patterns, pack
from torch_shallow.functions.points import check_data, rows_of, with_progress
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.modules.visited_verification import verify_rows
from torch_shallow.program.traced import TracedModel

STORED_BYTES = 1 << 30  # affine maps that take more than this are computed when they are needed


class VisitedReLU(RegionNetwork):
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

    Example:
        >>> import torch_shallow
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> visited = torch_shallow.transform(model, data=torch.zeros(3, 2))
        >>> type(visited).__name__, visited.num_regions, visited.complete
        ('VisitedReLU', 1, False)
    """

    points: Tensor
    region_type = VisitedRegion
    kind = "visited"

    def __init__(self, traced: TracedModel, domain: Domain) -> None:
        super().__init__()
        self.neurons = DeepFunction(traced)
        self.known_patterns = Patterns(self.neurons.num_neurons)
        self.local_models = LocalModels(self.neurons.num_outputs, self.neurons.num_inputs)
        self.register_buffer("points", torch.zeros(0, self.neurons.num_inputs, dtype=torch.float64))
        self.may_be_discontinuous = False
        self._describe(traced.in_shape, traced.out_shape, domain, traced.head, known_everywhere=False)

    @property
    def function(self) -> VisitedFunction:
        """The trunk as a function, on the very tensors of this network: what certificates and explanations look at."""
        return VisitedFunction(
            self.neurons,
            self.known_patterns,
            self.local_models,
            self.points,
            self.domain,
            self._limits,
            self.head,
            self.may_be_discontinuous,
        )

    @property
    def stores_maps(self) -> bool:
        """Whether the affine maps are stored; if not, they are computed when they are needed."""
        return len(self.local_models) > 0

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        evaluate = self.function.evaluate
        # As a decorator, this would import the whole compiler with the package.
        y, region = torch.compiler.disable(evaluate)(x) if "torch._dynamo" in sys.modules else evaluate(x)
        return y, region >= 0

    def patterns(self, regions: Int64[Tensor, "some"]) -> Bool[Tensor, "some neurons"]:
        """Activation patterns of some regions."""
        return self.function.patterns(regions)

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
    def _trainable(self) -> nn.Module:
        return self.local_models

    @property
    def _how_to_store(self) -> str:
        return "they would take more than a gigabyte, so transform the model with fewer rows of data"

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
        verify_rows(self, self.function, data, progress)
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
            weights[regions], biases[regions] = self.function.composed_maps(regions)
        self.local_models.weights, self.local_models.biases = weights, biases


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
