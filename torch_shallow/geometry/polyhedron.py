"""A polyhedron from its half-spaces: vertices, rays, lines, and which of the half-spaces are facets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Polyhedron:
    """The set conv(vertices) + cone(rays) + span(lines).

    Where there are lines the set has no vertex, and `vertices` are points of its smallest faces, one of each.

    Attributes:
        vertices: points.
        rays: unit directions to infinity.
        lines: unit directions to infinity on both sides.
        vertex_on: whether each vertex lies on the hyperplane of each half-space.
        ray_on: whether each ray is parallel to it.
        facets: whether each half-space is a facet; of several with one hyperplane, only the first.
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
    """The polyhedron of all v with `half_spaces @ [v, 1] >= 0`, by double description; it must have an interior.

    Complete, and sound up to `tolerance`: a vertex further away than its reciprocal counts as a ray.

    Args:
        half_spaces: rows, none of them zero.
        max_rays: give up when there are more vertices and rays, in the end or on the way.
        tolerance: a value up to this size, for unit rows and unit homogeneous coordinates, counts as zero.

    Returns:
        The polyhedron; None if it was given up, or has no interior.
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
    """Unit lines and rays of the cone of all (v, t) with t >= 0 and `half_spaces @ (v, t) >= 0`; see `polyhedron`.

    Args:
        half_spaces: unit rows.
        max_rays: as for `polyhedron`.
        tolerance: as for `polyhedron`.

    Returns:
        Lines and rays, none of either if the cone has no interior; None if it was given up.
    """
    from scipy.linalg import qr

    from torch_shallow.geometry.rays.generators import generators  # compiled code is imported when it is used

    # First those that make the best corner: nearly parallel ones would make rays far out, where digits are lost.
    _, order = qr(half_spaces[:, :-1].T, mode="r", pivoting=True)
    return generators(half_spaces[order], tolerance, max_rays)


def _largest_sets(sets: Bool[np.ndarray, "sets members"]) -> Bool[np.ndarray, "sets"]:
    """Which sets are not empty and not contained in another one, nor equal to an earlier one."""
    counts = sets.astype(np.float64)
    contained = counts @ counts.T == counts.sum(axis=1)[:, None]  # row in column
    equal = contained & contained.T
    covered = (contained & ~equal).any(axis=1) | np.tril(equal, -1).any(axis=1)
    return sets.any(axis=1) & ~covered
