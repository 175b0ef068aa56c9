"""Trees of cuts in flat arrays, including trees whose cuts belong to no deep network."""

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
    """A tree of cuts in flat arrays, root first; if it is complete, P regions have P - 1 cuts.

    A cut divides a cell in two by a half-space; several cuts may share one. Its inactive child is the side z <= 0, its
    active child the side z > 0, so the leaves partition the domain exactly. A leaf is a region or an open cell: an
    unexplored part of the domain, with one or more regions. P regions and Q open cells have P + Q - 1 cuts. There is a
    region below every cut.

    Attributes:
        domain: The domain that is partitioned.
        chart: The coordinates of `points`.
        children: Inactive and active child of each cut; `c >= 0` is a cut, which comes after its parent; `c < 0` is
            region `~c`, or an open cell if `~c` is the number of regions.
        points: Interior point of each region, in chart coordinates.
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
        """Name of a region of this tree."""

    @abstractmethod
    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """Return the neuron of each given cut, numbered through all stages of the whole network; -1 if none."""

    @abstractmethod
    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Return the sides of cuts in words."""

    @property
    def num_regions(self) -> int:
        """Number of known regions."""
        return self.points.shape[0]

    @property
    def num_cuts(self) -> int:
        """Number of cuts: one less than the number of leaves, which are the regions and the open cells."""
        return self.children.shape[0]

    @property
    def depth(self) -> int:
        """Number of cuts on the longest path."""
        # Imported here because importing numba takes a while.
        from torch_shallow.geometry.tree_kernels import greatest_depth

        return int(greatest_depth(self.children, np.zeros(self.num_cuts, dtype=np.int64)))

    @property
    def complete(self) -> bool:
        """Whether no cell is open, so that all regions of the domain are known."""
        return self.num_cuts == self.num_regions - 1

    @property
    def open_cells(self) -> Int[np.ndarray, "open"]:
        """Open cells, each as its parent's code, `2 * cut + side` (side 1: active)."""
        return np.flatnonzero(self.children.reshape(-1) == ~self.num_regions)

    def interior_points(
        self, regions: slice | Int[np.ndarray, "some"] = slice(None)
    ) -> Float[np.ndarray, "some inputs"]:
        """Return an interior point of each given region (all by default), as flattened inputs."""
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
        """Return the cuts above a region, from the root down, each with the region's side (True: active)."""
        cuts, regions = self.parents
        code, steps = int(regions[region]), []
        while code >= 0:
            steps.append((code // 2, bool(code % 2)))
            code = int(cuts[code // 2])
        return steps[::-1]


@dataclass(frozen=True, kw_only=True)
class FreeTree(Tree):
    """A tree of cuts without a deep network, such as that of a network whose half-spaces were trained.

    The attributes are those of `Tree`.
    """

    in_shape: tuple[int, ...] = ()  # without a default, the property of `Tree` would become the default
    out_shape: tuple[int, ...] = ()
    domain: Domain
    chart: Chart
    children: Int[np.ndarray, "cuts 2"]
    points: Float[np.ndarray, "regions coordinates"]

    @property
    def kind(self) -> str:
        """Name of a region of this tree."""
        return "region"

    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """Return -1, for no neuron, for each given cut."""
        return np.full(len(cuts), -1)

    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Return the sides of cuts in words, such as `"cut 3 positive"`."""
        return [f"cut {cut} {'positive' if side else 'negative'}" for cut, side in steps]
