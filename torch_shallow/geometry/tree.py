"""A tree of cuts that were chosen freely, by no neuron of a deep network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.domain import Domain
from torch_shallow.geometry.chart import Chart


class Tree(ABC):
    """A tree of cuts in flat arrays, root first: P regions, P - 1 cuts if it is complete.

    A cut divides a cell in two by a half-space; several cuts may use the same one. Its inactive child is the side
    z <= 0, its active child the side z > 0, so the leaves partition the domain exactly. A leaf is a region, or an open
    cell: a part of the domain that is not explored, and has one or more regions. P regions and Q open cells are
    P + Q - 1 cuts. There is a region below every cut.

    Attributes:
        domain: what is partitioned.
        chart: the coordinates of `points`.
        children: inactive and active child of each cut; `c >= 0` is a cut, which comes after its parent; `c < 0` is
            region `~c`, or an open cell if `~c` is the number of regions.
        points: an interior point of each region, in chart coordinates.
    """

    domain: Domain
    chart: Chart
    children: Int[np.ndarray, "cuts 2"]
    points: Float[np.ndarray, "regions coordinates"]

    @property
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the regions are, in words."""

    @abstractmethod
    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """The neuron that makes each of some cuts, numbered through all stages of the whole network; -1 if none."""

    @abstractmethod
    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Sides of cuts in words."""

    @property
    def num_regions(self) -> int:
        """Number of known regions."""
        return self.points.shape[0]

    @property
    def num_cuts(self) -> int:
        """Number of cuts: one less than leaves, which are the regions and the open cells."""
        return self.children.shape[0]

    @property
    def depth(self) -> int:
        """Number of cuts on the longest path."""
        depth, level = 0, np.arange(min(1, self.num_cuts))
        while level.size:
            depth, below = depth + 1, self.children[level]
            level = below[below >= 0]
        return depth

    @property
    def complete(self) -> bool:
        """Whether no cell is open, so that the regions are all regions of the domain."""
        return self.num_cuts == self.num_regions - 1

    @property
    def open_cells(self) -> Int[np.ndarray, "open"]:
        """Each open cell as its parent's code, `2 * cut + side` (side 1: active)."""
        return np.flatnonzero(self.children.reshape(-1) == ~self.num_regions)

    def interior_points(
        self, regions: slice | Int[np.ndarray, "some"] = slice(None)
    ) -> Float[np.ndarray, "some inputs"]:
        """An interior point of some regions (all by default), as flattened inputs."""
        return self.chart.lift(self.points[regions])

    @cached_property
    def parents(self) -> tuple[Int[np.ndarray, "cuts"], Int[np.ndarray, "regions"]]:
        """Parent of each cut and of each region, coded `2 * cut + side` (side 1: active); -1 for the root."""
        cuts, regions = np.full(self.num_cuts, -1), np.full(self.num_regions, -1)
        flat = self.children.reshape(-1)
        codes = np.arange(flat.size)
        inner, known = flat >= 0, (flat < 0) & (flat > ~self.num_regions)
        cuts[flat[inner]], regions[~flat[known]] = codes[inner], codes[known]
        return cuts, regions

    def path(self, region: int) -> list[tuple[int, bool]]:
        """The cuts above a region, from the root down, each with the side (True: active) the region is on."""
        cuts, regions = self.parents
        code, steps = int(regions[region]), []
        while code >= 0:
            steps.append((code // 2, bool(code % 2)))
            code = int(cuts[code // 2])
        return steps[::-1]


@dataclass(frozen=True, kw_only=True)
class FreeTree(Tree):
    """A tree of cuts without a deep network behind them, such as those of a network whose half-spaces were trained.

    The attributes are those of `Tree`.
    """

    in_shape: tuple[int, ...] = ()  # without a default, the property of `Tree` would be one
    out_shape: tuple[int, ...] = ()
    domain: Domain
    chart: Chart
    children: Int[np.ndarray, "cuts 2"]
    points: Float[np.ndarray, "regions coordinates"]

    @property
    def kind(self) -> str:
        """What the regions are, in words."""
        return "regions"

    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """No neuron, -1, for each of some cuts."""
        return np.full(len(cuts), -1)

    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Sides of cuts in words, such as `"cut 3 positive"`."""
        return [f"cut {cut} {'positive' if side else 'negative'}" for cut, side in steps]
