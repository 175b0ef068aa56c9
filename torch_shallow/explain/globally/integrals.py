"""Volume, centroid and covariance of every region, in the chart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.explain.globally.subject import Subject, check_limits
from torch_shallow.geometry.polyhedron import lines_and_rays

RESIDUAL = 1e-6  # how far the sum of volumes may be from the volume of the domain, relative to that


@dataclass(frozen=True, eq=False)
class Integrals:
    """What is integrated over the cells.

    Attributes:
        volume: of each region in the chart; inf where it is unbounded there.
        centroid: of each bounded region.
        covariance: of the uniform distribution on each bounded region.
        factor: volume in the moving inputs of a piece of the chart of volume 1, with the inputs that no neuron reads.
        total: volume of the domain in the moving inputs, computed by other means.
        residual: how far the sum of all volumes is from that, relative to it; 0 where both are infinite.
    """

    volume: Float[np.ndarray, "regions"]
    centroid: Float[np.ndarray, "regions coordinates"]
    covariance: Float[np.ndarray, "regions coordinates coordinates"]
    factor: float
    total: float
    residual: float


def integrals(subject: Subject, max_rays: int, max_simplices: int, tolerance: float) -> Integrals:
    """Cut the cell of every region into simplices.

    Raises:
        TransformError: there are too many vertices or simplices, the volumes do not add up to that of the domain, or a
            limit is none.
    """
    # Compiled code is imported when it is used.
    from torch_shallow.explain.globally.cell_cones import CellWalk
    from torch_shallow.geometry.simplices import TOO_MANY_SIMPLICES, integrate

    check_limits(max_rays, tolerance)
    k, regions = subject.chart.num_coordinates, subject.num_regions
    volume, centroid = np.zeros(regions), np.zeros((regions, k))
    covariance, left = np.zeros((regions, k, k)), np.array([max_simplices])
    walk, room = CellWalk(subject, max_rays, tolerance), None
    for cells in walk:
        most = int(np.diff(cells.ends).max(initial=1))
        half_spaces = 64 * cells.sets.shape[1]
        if room is None or len(room.points) < most or len(room.walls) < half_spaces:
            room = _room(most, half_spaces, k)
        status = integrate(
            cells.ends, cells.num_lines, cells.regions, cells.generators, cells.sets, room, tolerance, left, volume,
            centroid, covariance,
        )  # fmt: skip
        if status == TOO_MANY_SIMPLICES:
            raise TransformError(
                f"max_simplices: the regions are cut into more than {max_simplices:,} simplices, whose number grows "
                f"fast with the dimension ({k}); allow more, or fix inputs with a Box; moments(samples=...) can sample "
                "a Box."
            )
    if len(walk.large):
        raise TransformError(
            f"max_rays: {len(walk.large)} of {regions} regions lie in cells of more than {max_rays} vertices and rays; "
            "allow more, or fix inputs with a Box; moments(samples=...) can sample a Box."
        )
    factor, total = _factor(subject), _domain_volume(subject, tolerance)
    found = factor * volume.sum()
    both_infinite = np.isinf(found) and np.isinf(total)
    residual = 0.0 if both_infinite else float(abs(found - total) / total)
    if not residual <= RESIDUAL:
        raise TransformError(
            f"tolerance: the volumes of the regions add up to {found:.9g}, that of the domain is {total:.9g}: regions "
            "are too thin for this tolerance; try another one."
        )
    return Integrals(volume, centroid, covariance, factor, total, residual)


def _room(vertices: int, half_spaces: int, k: int) -> Any:
    from torch_shallow.geometry.simplices import Room

    words = 1 + (vertices - 1) // 64
    return Room(
        np.zeros((vertices, k)),
        np.zeros((half_spaces, words), dtype=np.uint64),
        np.zeros((k + 1, words), dtype=np.uint64),
        np.zeros((k + 1, half_spaces + 1, words), dtype=np.uint64),
        np.zeros((k + 1, 2), dtype=np.int64),
        np.zeros(k + 1, dtype=np.int64),
        np.zeros((k, k)),
        np.zeros(k),
    )


def _factor(subject: Subject) -> float:
    lower, upper = subject.bounds
    if len(subject.lines):
        return np.inf
    units = subject.chart.lengths
    moving = units > 0.0
    volume = abs(np.linalg.det(subject.chart.directions[:, moving] / units[moving])) * np.prod(units[moving])
    return float(volume * np.prod((upper - lower)[subject.idle]))


def _domain_volume(subject: Subject, tolerance: float) -> float:
    """Volume in the moving inputs: of a box by its widths, of a polytope by Qhull."""
    from scipy.spatial import ConvexHull

    lower, upper = subject.bounds
    walls, k = subject.chart.inequalities, subject.chart.num_coordinates
    if np.isfinite(lower).any() or np.isfinite(upper).any() or subject.fixed.all():
        return float(np.prod((upper - lower)[~subject.fixed]))
    if len(subject.lines) or k == 0:
        return np.inf
    found = lines_and_rays(walls, 1 << 16, tolerance)
    if found is None or len(found[0]) or (found[1][:, -1] <= tolerance).any():
        return np.inf
    vertices = found[1][:, :-1] / found[1][:, -1:]
    volume = np.ptp(vertices) if k == 1 else ConvexHull(vertices).volume
    return float(volume * _factor(subject))
