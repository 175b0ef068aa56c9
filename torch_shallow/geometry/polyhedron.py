"""Polyhedron of given half-spaces, its facets, and the contacts between regions of a tree across them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.tree import Tree


@dataclass(frozen=True)
class Polyhedron:
    """The set conv(vertices) + cone(rays) + span(lines).

    If there are lines, the set has no vertex, and `vertices` holds a point of each of its smallest faces.

    Attributes:
        vertices: Vertices, or points of the smallest faces.
        rays: Unit directions to infinity.
        lines: Unit directions to infinity on both sides.
        vertex_on: Whether each vertex lies on the hyperplane of each half-space.
        ray_on: Whether each ray is parallel to the hyperplane of each half-space.
        facets: Whether each half-space is a facet; of several with the same hyperplane, only the first.
    """

    vertices: Float[np.ndarray, "vertices coordinates"]
    rays: Float[np.ndarray, "rays coordinates"]
    lines: Float[np.ndarray, "lines coordinates"]
    vertex_on: Bool[np.ndarray, "rows vertices"]
    ray_on: Bool[np.ndarray, "rows rays"]
    facets: Bool[np.ndarray, "rows"]


def polyhedron(
    half_spaces: Float[np.ndarray, "rows homogeneous"], max_rays: int, tolerance: float = 1e-9
) -> Polyhedron | None:
    """Compute the polyhedron of all v with `half_spaces @ [v, 1] >= 0` by double description; it must have an interior.

    Complete, and sound up to `tolerance`: a vertex further away than the reciprocal of the tolerance counts as a ray.

    Args:
        half_spaces: Rows, none of them zero.
        max_rays: Greatest number of vertices and rays, in the end or on the way, before giving up.
        tolerance: Size up to which a value counts as zero, for unit rows and unit homogeneous coordinates.

    Returns:
        The polyhedron; None if it was given up or has no interior.
    """
    half_spaces = half_spaces / np.linalg.norm(half_spaces, axis=1, keepdims=True)
    found = lines_and_rays(half_spaces, max_rays, tolerance)
    if found is None or sum(map(len, found)) == 0:
        return None
    lines, rays = found
    finite = rays[:, -1] > tolerance
    on = np.abs(half_spaces @ rays.T) <= tolerance
    vertices, directions = rays[finite, :-1] / rays[finite, -1:], rays[~finite, :-1]
    facets = _largest_sets(np.vstack([~finite, on]))[1:]
    return Polyhedron(vertices, directions, lines[:, :-1], on[:, finite], on[:, ~finite], facets)


def lines_and_rays(
    half_spaces: Float[np.ndarray, "rows homogeneous"], max_rays: int, tolerance: float = 1e-9
) -> tuple[Float[np.ndarray, "lines homogeneous"], Float[np.ndarray, "rays homogeneous"]] | None:
    """Return unit lines and rays of the cone of all (v, t) with t >= 0 and `half_spaces @ (v, t) >= 0`.

    Args:
        half_spaces: Unit rows.
        max_rays: As for `polyhedron`.
        tolerance: As for `polyhedron`.

    Returns:
        Lines and rays, both empty if the cone has no interior; None if it was given up.
    """
    from scipy.linalg import qr

    from torch_shallow.geometry.rays.generators import generators  # compiled code is imported only when used

    # Start with those that form the best corner: nearly parallel ones would make distant rays, which lose digits.
    _, order = qr(half_spaces[:, :-1].T, mode="r", pivoting=True)
    return generators(half_spaces[order], tolerance, max_rays)


def _largest_sets(sets: Bool[np.ndarray, "sets members"]) -> Bool[np.ndarray, "sets"]:
    """Return which sets are neither empty, nor contained in another one, nor equal to an earlier one."""
    counts = sets.astype(np.float64)
    contained = counts @ counts.T == counts.sum(axis=1)[:, None]  # row in column
    equal = contained & contained.T
    covered = (contained & ~equal).any(axis=1) | np.tril(equal, -1).any(axis=1)
    return sets.any(axis=1) & ~covered


@dataclass(frozen=True)
class Face:
    """A polyhedron in a hyperplane, in chart coordinates: conv(vertices) + cone(rays) + span(lines).

    Attributes:
        vertices: Vertices.
        rays: Unit directions.
        lines: Unit directions.
    """

    vertices: Float[np.ndarray, "vertices coordinates"]
    rays: Float[np.ndarray, "rays coordinates"]
    lines: Float[np.ndarray, "lines coordinates"]

    @property
    def directions(self) -> Float[np.ndarray, "directions coordinates"]:
        """Rays, and lines in both directions."""
        return np.concatenate([self.rays, self.lines, -self.lines])

    @property
    def generators(self) -> Float[np.ndarray, "generators homogeneous"]:
        """Vertices, rays and lines, as unit vectors of homogeneous coordinates."""
        finite = np.column_stack([self.vertices, np.ones(len(self.vertices))])
        finite /= np.linalg.norm(finite, axis=1, keepdims=True)
        directions = self.directions
        return np.concatenate([finite, np.column_stack([directions, np.zeros(len(directions))])])


@dataclass(frozen=True)
class Contact:
    """Common part of two regions: a facet of at least one of them, or a part of it.

    Attributes:
        region: The region on one side.
        other: The region on the other side.
        active: Whether `region` is on the active side of the cut between them.
        face: The common face.
    """

    region: int
    other: int
    active: bool
    face: Face


@dataclass(frozen=True)
class Contacts:
    """Contacts of the regions of any tree of cuts, whose facets need not meet face to face.

    Two regions that touch along a facet lie on the two sides of the cut where their paths part. So the regions across
    a facet are found by descending with it from the other side of its cut. Where a lower cut divides the facet, both
    parts continue; they are computed by double description in the hyperplane. Complete, and sound up to `tolerance`,
    relative to the size of a facet.

    Attributes:
        tree: The tree.
        cuts: Its cuts over homogeneous chart coordinates, as unit rows.
        max_rays: Greatest number of vertices and rays of a region or face before giving up.
        tolerance: As for `polyhedron`.
    """

    tree: Tree
    cuts: Float[np.ndarray, "cuts homogeneous"]
    max_rays: int
    tolerance: float = 1e-9

    def of(self, region: int, both: bool) -> Iterator[Contact]:
        """Yield the contacts of a region.

        Args:
            region: The region.
            both: Whether to yield all of them, or only those where the region is on the inactive side of the cut.

        Yields:
            Each common face, once.

        Raises:
            TransformError: The region has too many vertices and rays.
        """
        steps, walls = self.tree.path(region), self.tree.chart.inequalities
        signs = np.array([1.0 if active else -1.0 for _, active in steps])
        rows = np.concatenate([walls, signs[:, None] * self.cuts[[cut for cut, _ in steps]]])
        shape = polyhedron(rows, self.max_rays, self.tolerance) if steps else None
        if steps and shape is None and lines_and_rays(rows, self.max_rays, self.tolerance) is None:
            raise TransformError(self._too_many(region))
        for row, (cut, active) in enumerate(steps, len(walls)):
            if shape is None or not shape.facets[row] or (active and not both):
                continue
            vertices = _onto(rows[row], shape.vertices[shape.vertex_on[row]])
            face = Face(vertices, shape.rays[shape.ray_on[row]], shape.lines)
            node = int(self.tree.children[cut, int(not active)])
            for other, part in self._across(region, node, face, rows[row], np.delete(rows, row, axis=0)):
                yield Contact(region, other, active, part)

    def _across(
        self,
        region: int,
        node: int,
        face: Face,
        wall: Float[np.ndarray, "homogeneous"],
        rows: Float[np.ndarray, "rows homogeneous"],
    ) -> Iterator[tuple[int, Face]]:
        """Yield the regions below a node that touch a face of a region, each with the part that it touches."""
        from torch_shallow.geometry.tree_kernels import walk  # compiled code is imported only when used

        waiting = [(node, face, rows)]
        while waiting:
            node, face, rows = waiting.pop()
            node = walk(face.generators, -wall[:-1], self.cuts, self.tree.children, node, self.tolerance)
            if node < 0:
                yield ~node, face
                continue
            for side, sign in enumerate((-1.0, 1.0)):
                more = np.concatenate([rows, sign * self.cuts[node : node + 1]])
                part = self._part(region, face, wall, more)
                if part is not None:
                    waiting.append((int(self.tree.children[node, side]), part, more))

    def _part(
        self,
        region: int,
        face: Face,
        wall: Float[np.ndarray, "homogeneous"],
        rows: Float[np.ndarray, "rows homogeneous"],
    ) -> Face | None:
        """Return the part of a face in some half-spaces, given its hyperplane `wall`; None if it is at most an edge."""
        centre = face.vertices.mean(axis=0)
        extent = float(np.linalg.norm(face.vertices - centre, axis=1).max()) or 1.0
        _, _, axes = np.linalg.svd(wall[None, :-1])
        axes = axes[1:]
        inside = np.column_stack([extent * rows[:, :-1] @ axes.T, rows[:, :-1] @ centre + rows[:, -1]])
        inside = inside[np.linalg.norm(inside[:, :-1], axis=1) > extent * self.tolerance]
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        found = lines_and_rays(inside, self.max_rays, self.tolerance)
        if found is None:
            raise TransformError(self._too_many(region))
        lines, rays = found
        if len(lines) + len(rays) == 0:
            return None
        finite = rays[:, -1] > self.tolerance
        vertices = centre + extent * (rays[finite, :-1] / rays[finite, -1:]) @ axes
        return Face(_onto(wall, vertices), rays[~finite, :-1] @ axes, lines[:, :-1] @ axes)

    def _too_many(self, region: int) -> str:
        return (
            f"max_rays: region {region} has more than {self.max_rays} vertices and rays, in the end or on the way; "
            "allow more, or use a domain of fewer dimensions."
        )


def _onto(
    wall: Float[np.ndarray, "homogeneous"], points: Float[np.ndarray, "points coordinates"]
) -> Float[np.ndarray, "points coordinates"]:
    """Move points onto a hyperplane on which they lie up to a tolerance."""
    normal = wall[:-1]
    return points - np.outer((points @ normal + wall[-1]) / (normal @ normal), normal)
