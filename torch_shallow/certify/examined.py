"""The network under examination, as arrays in chart coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from torch_shallow.certify.tree_check import Paths
from torch_shallow.functions import TreeFunction

if TYPE_CHECKING:
    from torch_shallow.geometry.chart import Chart
    from torch_shallow.program.relu_program import ReLUProgram
    from torch_shallow.search.partition import Partition


@dataclass(frozen=True)
class NeuronRows:
    """Pre-activations of all neurons on some regions, as linear functions of homogeneous chart coordinates.

    Attributes:
        rows: the functions.
        sizes: what their values at unit vectors are measured against: the length of the row, or a ten-thousandth of
            the terms that it was added up from, if that is more (then most of what is left may be rounding).
        active: the activation patterns.
    """

    rows: Float[np.ndarray, "regions homogeneous neurons"]
    sizes: Float[np.ndarray, "regions neurons"]
    active: Bool[np.ndarray, "regions neurons"]


@dataclass(frozen=True)
class Examined:
    """What the checks look at: the arrays that the network itself runs on, and what the partition says of them.

    Attributes:
        function: the network's trunk.
        paths: the way up its tree.
        tolerance: relative size of what counts as rounding.
    """

    function: TreeFunction
    paths: Paths
    tolerance: float

    @property
    def partition(self) -> Partition:
        """The activation regions."""
        return cast("Partition", self.function.tree)

    @property
    def program(self) -> ReLUProgram:
        """The program that the network was made from."""
        return self.partition.program

    @property
    def chart(self) -> Chart:
        """The chart of the partition."""
        return self.partition.chart

    @property
    def num_regions(self) -> int:
        """Number of regions."""
        return len(self.paths.regions)

    @cached_property
    def cut_rows(self) -> Float[np.ndarray, "cuts homogeneous"]:
        """The half-spaces of the network's first layer over homogeneous chart coordinates, in unit length."""
        layer, chart = self.function.half_spaces, self.chart
        normals, offsets = layer.normals.cpu().numpy(), layer.offsets.cpu().numpy()
        origin, directions = chart.origin, chart.directions.T
        if layer.projection is not None:
            projection = layer.projection.cpu().numpy()
            origin, directions = projection @ origin, projection @ directions
        rows = np.column_stack([normals @ directions, normals @ origin + offsets])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norms > 0.0, norms, 1.0)

    def blocks(self, regions: Int[np.ndarray, "regions"], entries: int) -> Iterator[Int[np.ndarray, "some"]]:
        """Regions in blocks, small enough for arrays of so many entries for each region."""
        size = max(1, (1 << 22) // max(entries, 1))
        for start in range(0, len(regions), size):
            yield regions[start : start + size]

    def sample(self, count: int | None, rng: np.random.Generator) -> Int[np.ndarray, "regions"]:
        """So many regions, drawn at random, in order; all of them if there are no more, or for None."""
        if count is None or count >= self.num_regions:
            return np.arange(self.num_regions)
        return np.sort(rng.choice(self.num_regions, count, replace=False))

    def half_spaces(self, region: int) -> Float[np.ndarray, "rows homogeneous"]:
        """All half-spaces of a region, the domain's first: it is where none of them is negative."""
        rows, code = [], self.paths.regions[region]
        while code >= 0:
            rows.append(self.cut_rows[code // 2] * (1.0 if code % 2 else -1.0))
            code = self.paths.cuts[code // 2]
        return np.concatenate([self.chart.inequalities, np.array(rows[::-1]).reshape(-1, self.cut_rows.shape[1])])

    def neuron_rows(self, regions: Int[np.ndarray, "regions"]) -> NeuronRows:
        """Compose the program under the patterns of some regions, by matrix products over all of them."""
        program, chart, d = self.program, self.chart, self.program.num_inputs
        active = self.partition.patterns(regions)
        count, dimension = len(regions), chart.num_coordinates + 1
        sources, source_sizes = np.zeros((count, dimension, 0)), np.zeros((count, 0))
        all_rows, all_sizes = [sources], [source_sizes]
        for stage, start, stop in zip(program.stages, program.offsets, program.offsets[1:], strict=False):
            weight, hidden = stage.weight[:, :d], stage.weight[:, d:]
            rows = sources.reshape(count * dimension, start) @ hidden.T
            rows = rows.reshape(count, dimension, -1) + chart.pull_back(weight, stage.bias).T
            outer = np.abs(weight) @ np.abs(chart.origin) + np.abs(stage.bias)
            outer += np.linalg.norm(weight @ chart.directions.T, axis=1)
            sizes = np.maximum(np.linalg.norm(rows, axis=1), 1e-4 * (source_sizes @ np.abs(hidden).T + outer))
            all_rows.append(rows)
            all_sizes.append(sizes)
            mask = active[:, start:stop]
            sources = np.concatenate([sources, rows * mask[:, None]], axis=2)
            source_sizes = np.concatenate([source_sizes, sizes * mask], axis=1)
        return NeuronRows(np.concatenate(all_rows, axis=2), np.concatenate(all_sizes, axis=1), active)

    def evaluate(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """The network's own forward pass, in the precision of the points, up to the trunk's outputs."""
        with torch.no_grad():
            y = self.function(self.tensor(x))
        return y.reshape(len(x), self.program.num_outputs).cpu().numpy()

    def locate(self, x: Float[np.ndarray, "points inputs"]) -> Int[np.ndarray, "points"]:
        """The region of each point, as the network's own forward pass of these points finds it."""
        return self.function.locate(self.tensor(x)).cpu().numpy()

    def tensor(self, x: Float[np.ndarray, "points inputs"]) -> torch.Tensor:
        """Points as an input of the network."""
        return torch.tensor(x, device=self.function.half_spaces.offsets.device).reshape(len(x), *self.program.in_shape)

    def name(self, neuron: int) -> str:
        """A neuron of the program in words."""
        return self.program.neuron_name(int(self.program.network.neurons[neuron]))
