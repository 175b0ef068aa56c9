"""The least and greatest values of every output in the chart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.explain.globally.subject import Subject

OUTSIDE = 10  # times the tolerance: a vertex may be so far outside of its region, and a thinner region has no vertices


@dataclass(frozen=True, eq=False)
class Extrema:
    """The least (column 0) and greatest (column 1) value of each output, and where.

    Attributes:
        best: the values.
        where: their regions.
        at: where they are: a point (v, 1) of the chart, or a direction (v, 0) along which a value is infinite.
    """

    best: Float[np.ndarray, "outputs 2"]
    where: Int[np.ndarray, "outputs 2"]
    at: Float[np.ndarray, "outputs 2 homogeneous"]


def find_extrema(
    subject: Subject, flat: Float[np.ndarray, "outputs"], max_rays: int, tolerance: float
) -> tuple[Extrema, int]:
    """Look at the vertices and rays of every region, or solve linear programs where there are too many.

    Args:
        subject: the network.
        flat: of each output, a slope along a ray up to this size is none.
        max_rays: a cell of more vertices and rays is left to linear programs, as is one with vertices outside of it.
        tolerance: as for `CellWalk`.

    Returns:
        What was found, and how many linear programs were solved.
    """
    from torch_shallow.certify.cell_signs import margins
    from torch_shallow.explain.globally.cell_cones import CellWalk  # compiled code is imported when it is used
    from torch_shallow.explain.globally.extrema_by_programs import improve_by_programs
    from torch_shallow.explain.globally.extremes import Paths, extremes

    outputs, dimension = subject.num_outputs, subject.chart.num_coordinates + 1
    found = Extrema(
        np.tile([np.inf, -np.inf], (outputs, 1)),
        np.full((outputs, 2), -1),
        np.zeros((outputs, 2, dimension)),
    )
    cut_parents, region_parents = subject.tree.parents
    paths = Paths(region_parents, cut_parents, subject.cuts, OUTSIDE * tolerance)
    margin, doubtful = np.zeros(subject.num_regions), np.zeros(subject.num_regions, dtype=bool)
    margins(
        subject.tree.points,
        paths.regions,
        paths.parents,
        paths.cuts,
        margin,
        np.zeros(subject.num_regions, dtype=np.int64),
    )
    known = margin > paths.allowed
    state = (paths, known, found.best, found.where, found.at, doubtful)
    walk = CellWalk(subject, max_rays, tolerance)
    for cells in walk:
        rows = subject.rows(cells.regions)
        extremes(cells.ends, cells.num_lines, cells.regions, cells.generators, rows, flat, tolerance, *state)
    thin = np.union1d(walk.thin, np.flatnonzero(~known))
    if len(thin):  # what is known of them is a point
        known[:] = True
        points = np.column_stack([subject.tree.points[thin], np.ones(len(thin))])
        ends, none = np.arange(len(thin) + 1), np.zeros(len(thin), dtype=np.int64)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        extremes(ends, none, thin, points, subject.rows(thin), flat, tolerance, *state)
    left = np.setdiff1d(np.union1d(walk.large, np.flatnonzero(doubtful)), thin)
    programs = improve_by_programs(found, subject, left, flat) if len(left) else 0
    return found, programs
