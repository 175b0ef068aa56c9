"""A shallow network as arrays in chart coordinates: cuts, local models, and the inputs that no neuron reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.functions import Region, TreeFunction
from torch_shallow.functions.shape import fixed_inputs, reads_of
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.sharing import blocks
from torch_shallow.search.partition import Partition

VALUES_AT_ONCE = 1 << 22  # entries of local models in one block: 32 MB


@dataclass(frozen=True, eq=False)
class InChart:
    """A network that knows all regions of its domain, in chart coordinates.

    An input is `chart.lift(v) + e`, where `v` determines the region and `e` changes inputs that no neuron reads: each
    separately (`idle`), or along `lines`. Along `e` the output changes by `skip @ e`, in every region.

    Attributes:
        function: the network.
    """

    function: TreeFunction

    @property
    def chart(self) -> Chart:
        """Chart of the tree."""
        return self.function.tree.chart

    @cached_property
    def cuts(self) -> Float[np.ndarray, "cuts homogeneous"]:
        """Cuts as unit rows over homogeneous chart coordinates."""
        return self.function.cut_rows()

    def blocks(self) -> Iterator[slice]:
        """All regions, in blocks whose local models fit into memory."""
        function = self.function
        return blocks(function.num_regions, function.num_outputs * (function.num_inputs + 1), VALUES_AT_ONCE)

    def maps(
        self, regions: slice | Int[np.ndarray, "some"]
    ) -> tuple[Float[np.ndarray, "some outputs inputs"], Float[np.ndarray, "some outputs"]]:
        """Weight and bias of the local models of some regions; read-only."""
        if self._all_maps is not None:
            weight, bias = self._all_maps
            return weight[regions], bias[regions]
        return self.function.map_arrays(np.arange(self.function.num_regions)[regions])

    @cached_property
    def _all_maps(self) -> tuple[Float[np.ndarray, "all outputs inputs"], Float[np.ndarray, "all outputs"]] | None:
        """Weight and bias of all local models, cached if they fit into memory at once."""
        every = next(self.blocks())
        if every.stop < self.function.num_regions:
            return None
        return self.function.map_arrays(np.arange(self.function.num_regions))

    def rows(self, regions: slice | Int[np.ndarray, "some"]) -> Float[np.ndarray, "some outputs homogeneous"]:
        """Local models of some regions over homogeneous chart coordinates."""
        weight, bias = self.maps(regions)
        constant = weight @ self.chart.origin + bias
        return np.concatenate([weight @ self.chart.directions.T, constant[..., None]], axis=-1)

    @cached_property
    def skip(self) -> Float[np.ndarray, "outputs inputs"]:
        """Weight by which the output reads inputs that no neuron reads, the same in every region."""
        function, skip = self.function, self.function.selection.skip
        return np.zeros((function.num_outputs, function.num_inputs)) if skip is None else skip.detach().cpu().numpy()

    @cached_property
    def fixed(self) -> Bool[np.ndarray, "inputs"]:
        """Which inputs have only one value in the domain."""
        return fixed_inputs(self.function.domain, (self.function.num_inputs,))

    @cached_property
    def bounds(self) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """Bounds of each input for a box; infinite for other domains."""
        if isinstance(self.function.domain, Box):
            return self.function.domain.bounds((self.function.num_inputs,))
        return np.full(self.function.num_inputs, -np.inf), np.full(self.function.num_inputs, np.inf)

    @cached_property
    def idle(self) -> Int[np.ndarray, "idle"]:
        """Inputs of a box that no neuron reads and that have a bound and more than one value."""
        bounded = np.isfinite(self.bounds[0]) | np.isfinite(self.bounds[1])
        return np.flatnonzero(~self.chart.directions.any(axis=0) & ~self.fixed & bounded)

    @cached_property
    def lines(self) -> Float[np.ndarray, "lines inputs"]:
        """Independent unit directions without bounds along which no neuron changes."""
        return self.chart.lines(reads_of(self.function), ~np.isfinite(self.bounds[0]) & ~np.isfinite(self.bounds[1]))

    @cached_property
    def terms(self) -> Float[np.ndarray, "outputs inputs"]:
        """Size of the terms that a slope is summed from, to which its rounding is relative.

        Without a deep network, this is the largest slope of all regions.
        """
        if isinstance(self.function.tree, Partition):
            return self.function.tree.program.slope_terms
        largest = np.zeros((self.function.num_outputs, self.function.num_inputs))
        for block in self.blocks():
            largest = np.maximum(largest, np.abs(self.maps(block)[0]).max(axis=0))
        return largest

    def tensor(self, array: np.ndarray, shape: tuple[int, ...]) -> Tensor:
        """An array as a tensor on the network's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).reshape(shape).to(self.function.device)

    def point(self, region: int) -> Float[Tensor, "*in_shape"]:
        """An interior point of a region."""
        return Region(self.function, region).interior_point


def check_limits(max_rays: int, tolerance: float) -> None:
    """Make sure that the limits for computing regions are in range.

    Raises:
        TransformError: they are out of range.
    """
    if not (max_rays >= 1 and 0.0 < tolerance < 1e-3):
        raise TransformError(
            f"max_rays, tolerance: expected a positive number, and a number between 0 and 0.001, found {max_rays} and "
            f"{tolerance}; leave them out."
        )


def continuous(shallow: TreeFunction, name: str) -> TreeFunction:
    """Make sure that a network is continuous.

    Raises:
        TransformError: its weights may have been trained.
    """
    if shallow.may_be_discontinuous:
        raise TransformError(
            f"{name}: expected a continuous network, found one whose weights may have been trained, so that it may "
            "jump between regions; ask before training, or see shallow.continuity_gap()."
        )
    return shallow
