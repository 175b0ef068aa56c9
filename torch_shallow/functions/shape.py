"""Compute the half-spaces of a region, with their names, and the polyhedron that they define."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torch_shallow.display import counted
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions.tree_function import TreeFunction
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.polyhedron import Polyhedron, polyhedron
from torch_shallow.modes import outside_modes


@dataclass(frozen=True, eq=False)
class RegionHalfSpaces:
    """Hold the half-spaces `A x <= b` of a region, over flattened inputs.

    Attributes:
        A: coefficients, float64 and not scaled: the row of a cut is plus or minus the pre-activation of its neuron.
        b: right-hand sides, float64.
        neurons: the neuron of each row, numbered through all stages of the whole network; -1 for the domain.
        names: description of each row, such as `"stage 1 neuron 3 active"` (stages are counted from 1, the neurons of a
            stage from 0) or `"domain"`.
    """

    A: Float[Tensor, "rows inputs"]
    b: Float[Tensor, "rows"]
    neurons: Int64[Tensor, "rows"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        inputs, rows = counted(self.A.shape[1], "input"), counted(len(self), "row")
        return f"RegionHalfSpaces(A x <= b in {inputs}, {rows}: {', '.join(self.names)})"

    def numpy(self) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]:
        """Return `A` and `b` as arrays."""
        return self.A.cpu().numpy(), self.b.cpu().numpy()

    def pick(self, rows: Bool[Tensor, "rows"]) -> RegionHalfSpaces:
        """Select rows."""
        names = tuple(name for name, keep in zip(self.names, rows.tolist(), strict=True) if keep)
        return RegionHalfSpaces(self.A[rows], self.b[rows], self.neurons[rows], names)


@outside_modes
def region_half_spaces(function: TreeFunction, region: int) -> RegionHalfSpaces:
    """Return the cuts on a region's path, root first, followed by the domain."""
    tree, layer = function.tree, function.half_spaces
    steps = tree.path(region)
    cuts = [cut for cut, _ in steps]
    rows = layer.rows[function.half_space_of(cuts)]
    like = rows[:, -1]
    sign = torch.tensor([-1.0 if side else 1.0 for _, side in steps], dtype=like.dtype, device=like.device)
    normals = rows[:, :-1] if layer.projection is None else rows[:, :-1] @ layer.projection
    a, b = (torch.tensor(array, device=like.device) for array in tree.domain.inequalities(tree.in_shape))
    neurons = torch.cat([torch.tensor(tree.neurons(cuts), dtype=torch.int64), torch.full((len(b),), -1)])
    return RegionHalfSpaces(
        torch.cat([sign[:, None] * normals, a]),
        torch.cat([-sign * like, b]),
        neurons.to(like.device),
        (*tree.names(steps), *["domain"] * len(b)),
    )


@dataclass(frozen=True)
class Shape:
    """Compute a region's vertices, rays, lines and facets.

    The region is the lifted polyhedron of the chart, times an interval for each input of a box that no neuron reads,
    times the lines along which nothing changes.

    Attributes:
        a: coefficients of the region `a x <= b`.
        b: right-hand sides of the region.
        domain: the domain.
        chart: the chart.
        reads: rows that span what network and domain read of the inputs.
        max_rays: largest number of vertices and rays to compute.
    """

    a: Float[np.ndarray, "rows inputs"]
    b: Float[np.ndarray, "rows"]
    domain: Domain
    chart: Chart
    reads: Float[np.ndarray, "reading inputs"]
    max_rays: int

    def vertices(self) -> Float[np.ndarray, "vertices inputs"]:
        """Return the vertices, as `Region.vertices` describes.

        Raises:
            TransformError: there are more than `max_rays`.
        """
        lower, upper = self._limits
        corners = [i for i in np.flatnonzero(self._idle) if np.isfinite(lower[i]) and np.isfinite(upper[i])]
        inner = self.chart.lift(self._in_chart.vertices)
        inner[:, self._half_idle] = self._ends[self._half_idle]
        if len(inner) << min(len(corners), 60) > self.max_rays:
            raise TransformError(
                self._too_many(f"{len(corners)} inputs that no neuron reads are bounded by the domain")
            )
        outer = np.array(list(product(*((lower[i], upper[i]) for i in corners))))
        vertices = np.repeat(inner, len(outer), axis=0)
        vertices[:, corners] = np.tile(outer, (len(inner), 1))
        return vertices

    def rays(self) -> Float[np.ndarray, "rays inputs"]:
        """Return the rays, as `Region.rays` describes."""
        outer = np.diag(self._inwards)[self._half_idle]
        return _unit(np.concatenate([self._in_chart.rays @ self.chart.directions, outer]))

    def inside(self, point: Float[np.ndarray, "inputs"]) -> Float[np.ndarray, "inputs"]:
        """Return an interior point, given one that is interior in the chart, which may lie at the domain's edge."""
        return np.where(self._half_idle, self._ends + self._inwards, point)

    def lines(self) -> Float[np.ndarray, "lines inputs"]:
        """Return the lines, as `Region.lines` describes."""
        lower, upper = self._limits
        still = self.chart.lines(self.reads, ~np.isfinite(lower) & ~np.isfinite(upper))
        return _unit(np.concatenate([self._in_chart.lines @ self.chart.directions, still]))

    def needed(self) -> Bool[np.ndarray, "rows"]:
        """Tell which rows are facets (one for each), or fix an input."""
        needed = self.a.any(axis=1) & ~self._in_chart_rows
        needed[self._in_chart_rows] = self._in_chart.facets
        return needed

    @property
    def fixed(self) -> Bool[np.ndarray, "inputs"]:
        """Whether each input has only one value in the domain."""
        return fixed_inputs(self.domain, (self.a.shape[1],))

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of each input of a box; in a polytope's chart, only entirely free inputs are idle."""
        size = self.a.shape[1]
        if isinstance(self.domain, Box):
            return self.domain.bounds((size,))
        return np.full(size, -np.inf), np.full(size, np.inf)

    @property
    def _idle(self) -> Bool[np.ndarray, "inputs"]:
        return ~self.chart.directions.any(axis=0) & ~self.fixed

    @property
    def _half_idle(self) -> Bool[np.ndarray, "inputs"]:
        """Whether each input is read by no neuron and has one bound."""
        lower, upper = self._limits
        return self._idle & (np.isfinite(lower) ^ np.isfinite(upper))

    @property
    def _ends(self) -> Float[np.ndarray, "inputs"]:
        lower, upper = self._limits
        return np.where(np.isfinite(lower), lower, upper)

    @property
    def _inwards(self) -> Float[np.ndarray, "inputs"]:
        return np.where(np.isfinite(self._limits[0]), 1.0, -1.0)

    @cached_property
    def _homogeneous(self) -> Float[np.ndarray, "rows homogeneous"]:
        return self.chart.pull_back(-self.a, self.b)

    @property
    def _in_chart_rows(self) -> Bool[np.ndarray, "rows"]:
        return np.any(self._homogeneous[:, :-1], axis=1)

    @cached_property
    def _in_chart(self) -> Polyhedron:
        found = polyhedron(self._homogeneous[self._in_chart_rows], self.max_rays)
        if found is None:
            raise TransformError(self._too_many("in the result or during its computation"))
        return found

    def _too_many(self, why: str) -> str:
        return (
            f"max_rays: expected at most {self.max_rays} vertices and rays, found more ({why}); allow more, or "
            "optimise over the region with cvxpy, through its constraints()."
        )


def fixed_inputs(domain: Domain, in_shape: tuple[int, ...]) -> Bool[np.ndarray, "inputs"]:
    """Tell which inputs have only one value in a domain."""
    if isinstance(domain, Box):
        return np.equal(*domain.bounds(in_shape))
    return np.zeros(np.prod(in_shape, dtype=np.int64), dtype=bool)


def reads_of(function: TreeFunction) -> Float[np.ndarray, "rows inputs"]:
    """Return rows that span what a function and its domain read of the inputs."""
    a, _ = function.domain.inequalities(function.in_shape)
    projection = function.half_spaces.projection
    own = np.eye(a.shape[1]) if projection is None else projection.cpu().numpy()
    return np.concatenate([own, a])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
