"""Represent a cell in which the regions of a network are known, with the vertices of all their parts in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.sampled_cell import POINTS, SampledCell
from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.polyhedron import Polyhedron, lines_and_rays, polyhedron

MOST_REGIONS, MOST_INPUTS = 20_000, 6  # beyond either limit, vertices take longer than searches
MOST_RAYS = 1000  # largest number of rays of a region, including intermediate ones
TOLERANCE = 1e-9  # tolerance of vertices, in units of the chart
SAME = 10  # decimals to which vertices of neighbours are identified


@dataclass(frozen=True, eq=False)
class Part:
    """Hold the part of a region in a cell, in chart coordinates.

    Attributes:
        rows: its facets: `rows @ (v, 1) >= 0`.
        vertices: its vertices.
    """

    rows: Float[np.ndarray, "rows homogeneous"]
    vertices: Float[np.ndarray, "vertices coordinates"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows homogeneous"]) -> Part | None:
        """Return the part inside some half-spaces; None if it is too thin to have an interior.

        Raises:
            OverflowError: it has too many vertices.
        """
        shape: Polyhedron | None = polyhedron(rows, MOST_RAYS, TOLERANCE)
        if shape is not None:
            return cls(rows[shape.facets], shape.vertices)
        if lines_and_rays(rows / np.linalg.norm(rows, axis=1, keepdims=True), MOST_RAYS, TOLERANCE) is None:
            raise OverflowError
        return None


@dataclass(frozen=True, eq=False)
class KnownCell(SampledCell):
    """A cell whose points are the vertices of all parts of regions, at one of which any affine map is farthest off.

    Attributes, beside those of `SampledCell`:
        parts: the parts of regions. function: the network. slopes: for each output, the largest change along all chart
        coordinates together.
    """

    parts: tuple[Part, ...]
    function: TreeFunction
    slopes: Float[np.ndarray, "outputs"]

    @classmethod
    def whole(cls, function: TreeFunction) -> KnownCell | None:
        """Return the whole domain of a function; None if it has too many regions, or they have too many vertices."""
        tree, chart = function.tree, function.tree.chart
        if tree.num_regions > MOST_REGIONS or not function.num_inputs == chart.num_coordinates <= MOST_INPUTS:
            return None
        cuts, parts = function.cut_rows(), []
        try:
            for region in range(tree.num_regions):
                steps = tree.path(region)
                signs = np.array([1.0 if active else -1.0 for _, active in steps])
                own = signs[:, None] * cuts[[cut for cut, _ in steps]]
                parts.append(Part.of(np.concatenate([chart.inequalities, own])))
        except OverflowError:
            return None
        weights, _ = function.map_arrays(np.arange(tree.num_regions))
        slopes = np.abs(weights @ chart.directions.T).sum(axis=2).max(axis=0)
        lower, upper = bounding_box(function.domain, function.in_shape)
        rows = np.zeros((0, len(lower) + 1))
        if not isinstance(function.domain, Box):
            a, b = function.domain.inequalities(function.in_shape)
            rows = np.column_stack([-a, b])
        known = tuple(part for part in parts if part is not None)
        return cls(lower, upper, rows, _points(known, chart), known, function, slopes)

    @property
    def is_known(self) -> bool:
        """Whether only the points matter, which is so here."""
        return True

    def side(self, cut: Float[np.ndarray, "homogeneous"], active: bool, rng: np.random.Generator) -> SampledCell:
        """Return the part on one side of a cut; regions that lie on both sides are cut, too."""
        del rng
        row = self.function.tree.chart.pull_back(cut[None, :-1], cut[None, -1])[0]
        row *= (1.0 if active else -1.0) / np.linalg.norm(row)
        starts = np.cumsum([0, *(len(part.vertices) for part in self.parts)])[:-1]
        values = np.concatenate([part.vertices for part in self.parts]) @ row[:-1] + row[-1]
        least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        parts = []
        for part, low, high in zip(self.parts, least.tolist(), most.tolist(), strict=True):
            if low >= -TOLERANCE:
                parts.append(part)
            elif high > TOLERANCE and (cut_part := Part.of(np.concatenate([part.rows, row[None]]))) is not None:
                parts.append(cut_part)
        kept = tuple(parts) or self.parts  # for a side too thin to have parts, these are more than enough
        lower, upper, rows = self.bounds_of(cut, active)
        return replace(self, lower=lower, upper=upper, rows=rows, x=_points(kept, self.function.tree.chart), parts=kept)

    def filled(self, rng: np.random.Generator, walks: int = 0) -> SampledCell:
        """Return the cell unchanged, since only its points matter."""
        del rng, walks
        return self

    def for_cuts(self, rng: np.random.Generator) -> SampledCell:
        """Return the cell with points between its vertices, too, as vertices tell little about the space between."""
        middles = self.function.tree.chart.lift(np.array([part.vertices.mean(axis=0) for part in self.parts]))
        known = np.concatenate([rng.permutation(middles)[: POINTS // 4], rng.permutation(self.x)[: POINTS // 2]])
        return SampledCell(self.lower, self.upper, self.rows, known).filled(rng)

    def slack(self, maps: Float[np.ndarray, "outputs homogeneous"]) -> Float[np.ndarray, "outputs"]:
        """Return how far the distance from affine maps may change within the tolerance of vertices."""
        return (
            10.0 * TOLERANCE * (self.slopes + np.abs(maps[:, :-1] @ self.function.tree.chart.directions.T).sum(axis=1))
        )


def _points(parts: Sequence[Part], chart: Chart) -> Float[np.ndarray, "points inputs"]:
    every = np.concatenate([part.vertices for part in parts])
    return chart.lift(every[np.sort(np.unique(np.round(every, SAME), axis=0, return_index=True)[1])])
