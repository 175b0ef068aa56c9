"""The network under examination: the check of its tree, and its arrays in chart coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.dyadic import Dyadic, shortened
from torch_shallow.geometry.exact_cell import cell_with_interior
from torch_shallow.geometry.sharing import blocks
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.partition import Partition, activation_partition

THIN = 16 * float(np.finfo(np.float64).eps)  # margin up to which rounding decides about a point


@dataclass(frozen=True)
class Paths:
    """Paths upward from each cut and each region.

    Attributes:
        cuts: Parent of each cut, coded `2 * cut + side` (side 1: active); -1 for the root.
        regions: Parent of each region, coded likewise.
        longest: Number of cuts on the longest path.
    """

    cuts: Int[np.ndarray, "cuts"]
    regions: Int[np.ndarray, "regions"]
    longest: int


def check_tree(function: TreeFunction) -> tuple[Check, Paths | None]:
    """Count cuts, leaves and patterns, and follow the tree that the network descends.

    Returns:
        The check, and the paths if all arrays fit together well enough for other checks to follow them.
    """
    partition, tally = activation_partition(function.tree), Tally()
    children, half_spaces = np.split(function.indicator.tree.cpu().numpy(), [2], axis=1)
    num_cuts, num_regions = len(children), function.indicator.num_regions
    open_cells = int((children == ~num_regions).sum())
    counts = {
        "leaves": (num_regions + open_cells, num_cuts + 1),
        "cuts with a neuron": (len(partition.cut_neurons), num_cuts),
        "local models": (len(function.selection), num_regions),
        "patterns": (len(partition.packed_patterns), num_regions),
        "interior points": (len(partition.points), num_regions),
    }
    for name, (found, expected) in counts.items():
        if found != expected:
            tally.add(Failure(f"expected {expected} {name} for a tree of {num_cuts} cuts, found {found}"))
    missing = (half_spaces < 0) | (half_spaces >= function.num_half_spaces)
    tally.add_where(missing[:, 0], "half-space {} does not exist", half_spaces[:, 0], cut=range(num_cuts))
    sound = tally.count == 0
    paths = _follow(children, num_regions, tally)
    if sound:
        message = "the network continues with [{}, {}], the partition with [{}, {}]"
        other = (children != partition.children).any(axis=1)
        tally.add_where(other, message, *children.T, *partition.children.T, cut=range(num_cuts))
        if paths is not None and function.dense:
            _compare_masks(function, paths, tally)
        _look_for_twins(partition.packed_patterns, tally)
    claim = "P leaves, P - 1 cuts, one path to every region, and no activation pattern twice"
    note = f"of {num_cuts + 1:,} leaves {open_cells:,} are unexplored cells, of which nothing is claimed"
    check = tally.check("tree", claim, "regions", num_regions, num_regions, note=note * (open_cells > 0))
    return check, paths if sound else None


def _follow(children: Int[np.ndarray, "cuts 2"], num_regions: int, tally: Tally) -> Paths | None:
    """Walk down level by level; return None unless every cut and every region is met exactly once."""
    num_cuts = len(children)
    cuts, regions = np.full(num_cuts, -1), np.full(num_regions, -1)
    met_cuts, met_regions = np.zeros(num_cuts, dtype=np.int64), np.zeros(num_regions, dtype=np.int64)
    outside = np.any((children >= num_cuts) | (children < ~num_regions), axis=1)
    tally.add_where(outside, "children [{}, {}] do not exist", *children.T, cut=range(num_cuts))
    if outside.any():
        return None
    level, depth = np.zeros(min(num_cuts, 1), dtype=np.int64), 0
    met_cuts[level] = 1
    if num_cuts == 0:
        met_regions[0] = 1
    while len(level):
        depth += 1
        below = children[level].reshape(-1)
        codes = (2 * level[:, None] + np.arange(2)).reshape(-1)
        inner, known = below >= 0, (below < 0) & (below > ~num_regions)
        np.add.at(met_regions, ~below[known], 1)
        regions[~below[known]] = codes[known]
        level = below[inner]
        np.add.at(met_cuts, level, 1)
        cuts[level] = codes[inner]
        level = np.unique(level[met_cuts[level] == 1])
    for met, place in ((met_cuts, "cut"), (met_regions, "region")):
        tally.add_where(met != 1, "expected one path from the root, found {}", met, **{place: range(len(met))})
    return Paths(cuts, regions, depth) if (met_cuts == 1).all() and (met_regions == 1).all() else None


def _compare_masks(function: TreeFunction, paths: Paths, tally: Tally) -> None:
    expected = np.zeros((2, len(paths.regions), function.num_half_spaces))
    half_space_of = function.half_space_of().cpu().numpy()
    for region, code in enumerate(paths.regions):
        while code >= 0:
            expected[code % 2, region, half_space_of[code // 2]] = 1.0
            code = paths.cuts[code // 2]
    for side, name in enumerate(("must_be_inactive", "must_be_active")):
        mask = getattr(function.indicator, name).cpu().numpy()
        wrong = np.any(mask != expected[side], axis=1)
        tally.add_where(wrong, "its mask differs from its path in the tree", region=range(len(wrong)))


def _look_for_twins(packed: UInt8[np.ndarray, "regions bytes"], tally: Tally) -> None:
    if packed.shape[1] == 0:
        same, order = np.ones(len(packed) - 1, dtype=bool), np.arange(len(packed))
    else:
        keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
    tally.add_where(same, "its activation pattern is that of region {} too", order, region=order[1:])


@dataclass(frozen=True)
class NeuronRows:
    """Pre-activations of all neurons on some regions, as linear functions of homogeneous chart coordinates.

    Attributes:
        rows: The functions.
        sizes: Scales for their values at unit vectors: the length of the row, or a ten-thousandth of the sum of its
            terms, if that is more (then most of what is left may be rounding).
        active: Activation patterns.
    """

    rows: Float[np.ndarray, "regions homogeneous neurons"]
    sizes: Float[np.ndarray, "regions neurons"]
    active: Bool[np.ndarray, "regions neurons"]


@dataclass(frozen=True)
class Examined:
    """Data for the checks: the arrays that the network itself uses, and the partition's description of them.

    Attributes:
        function: Trunk of the network.
        paths: Paths upward in its tree.
        tolerance: Relative size that counts as rounding.
        errors: Proven and allowed bound of |network - program| on each region; None if there is none.
        errors_grow: Whether the errors are to be multiplied by 1 + |x|_1.
        rounding: How much of them may be rounding.
    """

    function: TreeFunction
    paths: Paths
    tolerance: float
    errors: Float[np.ndarray, "regions"] | None = None
    errors_grow: bool = False
    rounding: float = 0.0

    @property
    def partition(self) -> Partition:
        """The activation regions."""
        return cast("Partition", self.function.tree)

    @property
    def program(self) -> ReLUProgram:
        """The program from which the network was made."""
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
        """Half-spaces of the network's first layer over homogeneous chart coordinates, in unit length."""
        norms = np.linalg.norm(self.stored_rows, axis=1, keepdims=True)
        return self.stored_rows / np.where(norms > 0.0, norms, 1.0)

    @cached_property
    def stored_rows(self) -> Float[np.ndarray, "cuts homogeneous"]:
        """The same half-spaces in the length in which the network stores them."""
        layer, chart = self.function.half_spaces, self.chart
        rows = layer.rows[self.function.half_space_of()].cpu().numpy()
        normals, offsets = rows[:, :-1], rows[:, -1]
        origin, directions = chart.origin, chart.directions.T
        if layer.projection is not None:
            projection = layer.projection.cpu().numpy()
            origin, directions = projection @ origin, projection @ directions
        return np.column_stack([normals @ directions, normals @ origin + offsets])

    @cached_property
    def margins(self) -> tuple[Float[np.ndarray, "regions"], Int[np.ndarray, "regions"]]:
        """Least distance of each region's interior point from its half-spaces, and the cut that has it."""
        from torch_shallow.geometry.tree_kernels import margins  # compiled code is imported only when used

        least, cuts = np.full(self.num_regions, np.inf), np.full(self.num_regions, -1)
        margins(self.partition.points, self.paths.regions, self.paths.cuts, self.cut_rows, least, cuts)
        return least, cuts

    @cached_property
    def is_thick(self) -> Bool[np.ndarray, "regions"]:
        """Mask of the regions whose margin exceeds rounding, so that float64 can tell points inside from others."""
        return self.margins[0] > THIN

    def measured_margins(self, regions: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
        """The margins, where a half-space whose terms cancel is as long as `NeuronRows.sizes` says, not of length 1."""
        found: list[float] = []
        for block in self.blocks(regions, self.program.num_neurons * (self.chart.num_coordinates + 1)):
            neurons, points = self.neuron_rows(block), self.partition.points[block]
            shares = np.linalg.norm(neurons.rows, axis=1) / np.where(neurons.sizes > 0.0, neurons.sizes, 1.0)
            for region, point, share in zip(block.tolist(), points, shares, strict=True):
                v, least, code = (
                    np.append(point, 1.0) / np.sqrt(1.0 + point @ point),
                    np.inf,
                    self.paths.regions[region],
                )
                while code >= 0:
                    value = self.cut_rows[code // 2] @ v * share[self.partition.cut_neurons[code // 2]]
                    least, code = min(least, value if code % 2 else -value), self.paths.cuts[code // 2]
                found.append(least)
        return np.array(found)

    def doubts(self, regions: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some neurons"]:
        """How large a value of the other sign may be that enters a neuron at regions' interior points.

        So much is left out by the search where no output is off by more than rounding, as is proven. It is 0 where
        nothing is proven.
        """
        network = self.program.network
        found = np.zeros((len(regions), len(network.active)))
        if self.errors is not None:
            lengths = np.sqrt(1.0 + (self.partition.points[regions] ** 2).sum(axis=1, keepdims=True))
            found[:, network.neurons] = self.left_out * lengths * self.neuron_rows(regions).sizes
        return found

    @property
    def left_out(self) -> float:
        """The size of what the search leaves out of a cell, relative to it."""
        return min(self.tolerance, self.partition.search.tolerance)

    @cached_property
    def clear_regions(self) -> Int[np.ndarray, "some"]:
        """Regions whose interior point has the model's pattern and Jacobian: thick ones, with no neuron left out."""
        return np.flatnonzero(self.is_thick if self.errors is None else self.is_thick & (self.errors <= self.rounding))

    def known_error(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points 1"]:
        """Return the proven bound of |network - program| at points; 0 where there is none."""
        if self.errors is None:
            return np.zeros((len(x), 1))
        at = self.locate(x)
        errors = np.where(at >= 0, self.errors[at], 0.0)
        return (errors * (1.0 + np.abs(x).sum(axis=1)) if self.errors_grow else errors)[:, None]

    def blocks(self, regions: Int[np.ndarray, "regions"], entries: int) -> Iterator[Int[np.ndarray, "some"]]:
        """Yield regions in blocks small enough for arrays with `entries` entries per region."""
        return (regions[block] for block in blocks(len(regions), entries, 1 << 22))

    def sample(self, count: int | None, rng: np.random.Generator) -> Int[np.ndarray, "regions"]:
        """Return `count` random regions, in order; all of them if there are no more, or for None."""
        if count is None or count >= self.num_regions:
            return np.arange(self.num_regions)
        return np.sort(rng.choice(self.num_regions, count, replace=False))

    def half_spaces(self, region: int) -> Float[np.ndarray, "rows homogeneous"]:
        """Return all half-spaces of a region, the domain's first; the region is where none is negative."""
        return self._half_spaces(region, self.cut_rows)

    def has_interior(self, region: int) -> bool:
        """Return whether a region's half-spaces, as stored, have an interior point, in exact arithmetic."""
        rows = Dyadic.of(self._half_spaces(region, self.stored_rows)).numbers.tolist()
        guess = np.append(self.partition.points[region], 1.0)
        last = [0] * (len(guess) - 1) + [1]
        return cell_with_interior(tuple(map(shortened, [last, *rows])), guess) is not None

    def _half_spaces(
        self, region: int, cut_rows: Float[np.ndarray, "cuts homogeneous"]
    ) -> Float[np.ndarray, "rows homogeneous"]:
        rows, code = [], self.paths.regions[region]
        while code >= 0:
            rows.append(cut_rows[code // 2] * (1.0 if code % 2 else -1.0))
            code = self.paths.cuts[code // 2]
        return np.concatenate([self.chart.inequalities, np.array(rows[::-1]).reshape(-1, cut_rows.shape[1])])

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
            rows = rows.reshape(count, dimension, stop - start) + chart.pull_back(weight, stage.bias).T
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
        """Run the network's own forward pass, in the precision of the points, up to the trunk's outputs."""
        with torch.no_grad():
            y = self.function(self.tensor(x))
        return y.reshape(len(x), self.program.num_outputs).cpu().numpy()

    def locate(self, x: Float[np.ndarray, "points inputs"]) -> Int[np.ndarray, "points"]:
        """Return the region of each point, as found by the network's own forward pass."""
        return self.function.locate(self.tensor(x)).cpu().numpy()

    def tensor(self, x: Float[np.ndarray, "points inputs"]) -> torch.Tensor:
        """Convert points to an input of the network."""
        return torch.tensor(x, device=self.function.half_spaces.offsets.device).reshape(len(x), *self.program.in_shape)
