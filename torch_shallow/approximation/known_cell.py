"""A cell of a domain in which a network is known by its regions: with the vertices of all of their parts in it."""

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

MOST_REGIONS, MOST_INPUTS = 20_000, 6  # with more of either, vertices take longer than searches
MOST_RAYS = 1000  # of a region, on the way too
TOLERANCE = 1e-9  # of vertices, in units of the chart
SAME = 10  # decimals in which vertices of neighbours are one


@dataclass(frozen=True, eq=False)
class Part:
    """What of a region lies in a cell, in chart coordinates.

    Attributes:
        rows: its facets: `rows @ (v, 1) >= 0`.
        vertices: its vertices.
    """

    rows: Float[np.ndarray, "rows homogeneous"]
    vertices: Float[np.ndarray, "vertices coordinates"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows homogeneous"]) -> Part | None:
        """The part that some half-spaces leave; None if it is too thin to have an interior.

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
    """A cell whose points are the vertices of all parts of regions: an affine map is farthest off at one of them.

    Attributes, beside those of `SampledCell`:
        parts: these parts.
        function: the network.
        slopes: of each output, how much it changes at most along all chart coordinates together.
    """

    parts: tuple[Part, ...]
    function: TreeFunction
    slopes: Float[np.ndarray, "outputs"]

    @classmethod
    def whole(cls, function: TreeFunction) -> KnownCell | None:
        """The whole domain of a function; None if it has too many regions, or they have too many vertices."""
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
        """Whether the points are all that matter."""
        return True

    def side(self, cut: Float[np.ndarray, "homogeneous"], active: bool, rng: np.random.Generator) -> SampledCell:
        """The part on one side of a cut: regions that lie on both sides are cut, too."""
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
        kept = tuple(parts) or self.parts  # of a side too thin to have parts, these are more than enough
        lower, upper, rows = self.bounds_of(cut, active)
        return replace(self, lower=lower, upper=upper, rows=rows, x=_points(kept, self.function.tree.chart), parts=kept)

    def filled(self, rng: np.random.Generator, walks: int = 0) -> SampledCell:
        """The same: its points are all that matter."""
        del rng, walks
        return self

    def for_cuts(self, rng: np.random.Generator) -> SampledCell:
        """With points anywhere in the cell besides vertices, which tell little of what is between them."""
        middles = self.function.tree.chart.lift(np.array([part.vertices.mean(axis=0) for part in self.parts]))
        known = np.concatenate([rng.permutation(middles)[: POINTS // 4], rng.permutation(self.x)[: POINTS // 2]])
        return SampledCell(self.lower, self.upper, self.rows, known).filled(rng)

    def slack(self, maps: Float[np.ndarray, "outputs homogeneous"]) -> Float[np.ndarray, "outputs"]:
        """What the distance from affine maps may change within the tolerance of vertices."""
        return (
            10.0 * TOLERANCE * (self.slopes + np.abs(maps[:, :-1] @ self.function.tree.chart.directions.T).sum(axis=1))
        )


def _points(parts: Sequence[Part], chart: Chart) -> Float[np.ndarray, "points inputs"]:
    every = np.concatenate([part.vertices for part in parts])
    return chart.lift(every[np.sort(np.unique(np.round(every, SAME), axis=0, return_index=True)[1])])
