"""Build the network of the regions that data visit, and compare it with the deep network's own forward pass."""

from __future__ import annotations

import sys
from typing import Any

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
from torch_shallow.program.model import Model
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.traced import TracedModel
from torch_shallow.program.verification import MIXES_ROWS, UNSEEN, compare_in_own_precision, own_dtype

STORED_BYTES = 1 << 30  # affine maps that take more memory than this are computed when they are needed
ALONE = 3  # number of rows that are also run one at a time


class VisitedReLU(RegionNetwork):
    """A shallow network of those regions of a deep network that data visit; made by `transform(model, data=...)`.

    Use it like a `ShallowReLU`: call it, `locate` inputs, read its `regions`, `certify` it against the model, `save`
    it, or `grow` it with more data. Only the visited regions are built, so the deep network may have any size. A point
    lies in a region if each neuron of the deep network has the sign of the region's pattern, or is zero up to rounding.
    Elsewhere `locate` gives -1 and `forward` gives NaN. Regions are numbered in the order in which rows of the data
    first visit them.

    Args:
        traced: the deep network, which becomes a part of this one.
        domain: the domain in which this network is valid.

    Attributes:
        neurons: the first layer: the neurons of the deep network.
        known_patterns: the second layer: the patterns of the known regions.
        local_models: the third layer: the affine maps of the known regions. Empty if they would take more than a
            gigabyte; they are then computed when they are needed.
        points: for each region, the input that visited it first, flattened.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> visited = torch_shallow.transform(model, data=torch.zeros(3, 2))
        >>> type(visited).__name__, visited.num_regions, visited.complete
        ('VisitedReLU', 1, False)
    """

    points: Tensor
    region_type = VisitedRegion
    kind = "visited"
    _how_to_store = "they would take more than a gigabyte, so transform the model with fewer rows of data"

    def __init__(self, traced: TracedModel, domain: Domain) -> None:
        super().__init__()
        self.neurons = DeepFunction(traced)
        self.known_patterns = Patterns(self.neurons.num_neurons)
        self.local_models = LocalModels(self.neurons.num_outputs, self.neurons.num_inputs)
        self.register_buffer("points", torch.zeros(0, self.neurons.num_inputs, dtype=torch.float64))
        self.may_be_discontinuous = False
        self._describe(traced.in_shape, traced.out_shape, domain, traced.head, known_everywhere=False)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes, and explain why those that need a tree of cuts are missing."""
        if name in ("continuity_gap", "extended_weights", "merge", "resume", "soften", "to_sequential"):
            raise AttributeError(
                f"{name}: expected a network with a tree of cuts, found a VisitedReLU: {self.missing}."
            )
        return super().__getattr__(name)

    @property
    def function(self) -> VisitedFunction:
        """The trunk as a function that shares this network's tensors, as certificates and explanations use it."""
        return VisitedFunction(self)

    @property
    def stores_maps(self) -> bool:
        """Whether the affine maps are stored; if not, they are computed whenever they are needed."""
        return len(self.local_models) > 0

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        # As a decorator, this would import the whole compiler with the package.
        return torch.compiler.disable(self._look_up)(x) if "torch._dynamo" in sys.modules else self._look_up(x)

    def _look_up(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        y, region = self.function.evaluate(x)
        return y, region >= 0

    def patterns(self, regions: Int64[Tensor, "some"]) -> Bool[Tensor, "some neurons"]:
        """Return the activation patterns of the given regions."""
        return self.function.patterns(regions)

    def grow(self, x: Float[Tensor, "rows *in_shape"], *, progress: bool = False) -> int:
        """Add the regions of a batch of inputs, in place, and compare the network with the model on all of them.

        Args:
            x: floating point, of shape `(rows, *in_shape)`, inside the domain.
            progress: whether to show progress bars.

        Returns:
            The number of new regions.

        Raises:
            TransformError: `x` is no such batch, the network differs from the model on it, or its local models may have
                been trained.
        """
        if self.may_be_discontinuous:
            raise TransformError(
                "grow: expected untrained local models, found that they may have been trained, while new regions would "
                "get those of the model; grow the network before unfreeze()."
            )
        return self._visit("x", x, progress)

    @property
    def _trainable(self) -> nn.Module:
        return self.local_models

    @torch.inference_mode(False)  # inference tensors could not take part in gradients
    @torch.no_grad()
    def _visit(self, name: str, data: Tensor, progress: bool) -> int:
        check_data(name, data, self.in_shape, self.limits, self.neurons.blocks)
        count = len(data)
        blocks = with_progress(self.neurons.blocks(count), "finding regions", count, progress)
        rows = (rows_of(data, block, self.device, self.limits) for block in blocks)
        new = self.known_patterns.new(pack(self.neurons.signs(block)) for block in rows)
        self.known_patterns.add(new)
        first = torch.tensor(list(new.values()), dtype=torch.int64, device=data.device)
        self.points = torch.cat([self.points, rows_of(data, first, self.device, self.limits)])
        self._store_maps(progress)
        _verify_rows(self, data, progress)
        return len(new)

    def _store_maps(self, progress: bool) -> None:
        """Compute the maps of new regions, and store them unless all maps together take too much memory."""
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


def visited_network(read: Model, data: Tensor, domain: Domain, progress: bool = False) -> VisitedReLU:
    """Build the shallow network of the regions that data visit, and compare it with the model on all rows.

    Time and memory are linear in rows and in regions times neurons.

    Args:
        read: the model; its copy becomes a part of the network.
        data: floating point, of shape `(rows, *in_shape)`, on any device, inside the domain.
        domain: the domain in which the network is valid.
        progress: whether to show progress bars.
    """
    shallow = VisitedReLU(read.traced, domain).to(read.traced.device)
    shallow._visit("data", data, progress)
    _verify_in_own_precision(shallow, read.in_own_precision, data)
    shallow.source_hash = read.hash
    return shallow


@torch.no_grad()
def _verify_rows(shallow: VisitedReLU, data: Tensor, progress: bool, tolerance: float = 1e-9) -> None:
    """Compare the network with the model's own code, in float64, on all rows of some data.

    The allowed difference is the tolerance relative to the largest entry of the output over a block of rows, plus a
    thousandth of the tolerance relative to the terms that sum up to the trunk's output. Between a block and single
    rows, a hundred times as much is allowed for rounding.
    """
    deep = shallow.neurons
    for block in with_progress(deep.blocks(len(data)), "comparing", len(data), progress):
        rows = rows_of(data, block, shallow.device, shallow.limits)
        x = rows.reshape(-1, *shallow.in_shape)
        own, found = _own(deep, shallow.out_shape, x), shallow.trunk(x)
        # The input of a head is compared separately, as the head may hide differences.
        trunk = own if shallow.head is None else deep.run(rows, lambda _, z: z.relu()).reshape(found.shape)
        size, size_of_trunk = own.to(torch.complex128).abs().nan_to_num(0.0, 0.0).max(), trunk.abs().max()
        if block.start == 0:
            alone = torch.cat([_own(deep, shallow.out_shape, x[i : i + 1]) for i in range(min(ALONE, len(x)))])
            terms = deep.rounded(rows[:ALONE]).terms.max()
            allowed = 100 * tolerance * (size + size_of_trunk + 1e-3 * terms)
            _compare(alone, own[:ALONE], allowed, 0, MIXES_ROWS)
        allowed = tolerance * size_of_trunk
        if not ((found - trunk).abs() <= allowed).all():
            allowed = allowed + 1e-3 * tolerance * deep.rounded(rows).terms.reshape(trunk.shape)
        _compare(found, trunk, allowed, block.start, UNSEEN)
        if shallow.head is not None:
            _compare(shallow.head(trunk), own, tolerance * (size + size_of_trunk), block.start, UNSEEN)


@torch.no_grad()
def _verify_in_own_precision(shallow: VisitedReLU, model: nn.Module, data: Tensor) -> None:
    """Compare the network with the user's model in its own precision, on the first rows of some data."""
    x = data[:ALONE].detach().to(own_dtype(model))
    x = x[shallow.locate(x.double()) >= 0]  # rounding may move rows out of known regions
    found = shallow(x.double())
    if found.numel() and not found.is_complex():
        compare_in_own_precision(found.double().reshape(len(x), -1).cpu().numpy(), model, x)


def _own(deep: DeepFunction, out_shape: tuple[int, ...], x: Tensor) -> Tensor:
    """Run the model's own code on a batch."""
    with InFloat64():
        y = deep.root(x.clone())  # the model may work in place, so it gets a copy
    if not isinstance(y, Tensor) or y.shape != (len(x), *out_shape):
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            f"model: expected an output of shape {(len(x), *out_shape)} for {len(x)} inputs, found {found}; make the "
            "shape depend on nothing but the batch size."
        )
    return y


def _compare(found: Tensor, expected: Tensor, allowed: Tensor, first: int, what: str) -> None:
    same = found == expected  # integers, or infinities such as those of log_softmax
    if any(y.is_floating_point() or y.is_complex() for y in (found, expected)):
        same |= (found - expected).abs() <= allowed
    if not same.all():
        row, output = divmod(int((~same).flatten().nonzero()[0]), max(1, same[0].numel()))
        raise TransformError(
            f"model: {what}. In row {first + row} of the data, output {output} is {found[row].flatten()[output]:.9g} "
            f"instead of {expected[row].flatten()[output]:.9g}."
        )
