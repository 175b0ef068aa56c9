"""Least and greatest values of every output, in chart coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.over_cell import OverCell, bounding_box, half_spaces_of

if TYPE_CHECKING:
    from torch_shallow.explain.globally.cell_cones import CellPaths
    from torch_shallow.explain.globally.cell_programs import CellPrograms

OUTSIDE = 10  # multiple of the tolerance: how far a vertex may lie outside its region; thinner regions have none
MODELS = 256  # HiGHS models kept in memory
CORNERS = 16  # corners of a box for each output: with more, solving programs is faster than finding vertices


@dataclass(frozen=True, eq=False)
class Extrema:
    """The least (column 0) and greatest (column 1) value of each output, and where it is attained.

    Attributes:
        best: the values.
        where: numbers of their regions.
        at: their points (v, 1) in the chart, or directions (v, 0) along which a value is infinite.
    """

    best: Float[np.ndarray, "outputs 2"]
    where: Int[np.ndarray, "outputs 2"]
    at: Float[np.ndarray, "outputs 2 homogeneous"]


def find_extrema(
    subject: InChart, flat: Float[np.ndarray, "outputs"], max_rays: int, tolerance: float
) -> tuple[Extrema, int]:
    """Evaluate the vertices and rays of every region, or solve linear programs where there are too many.

    Slopes along a ray up to `flat` count as zero. Linear programs are solved over cells of more than `max_rays`
    vertices and rays, over cells with vertices outside of them, and in a box over all cells where that is faster.
    `tolerance` is that of `CellWalk`.

    Returns:
        The extrema, and the number of linear programs solved.
    """
    # Compiled code is imported when it is used.
    from torch_shallow.explain.globally.cell_cones import CellPaths, CellWalk, extremes
    from torch_shallow.geometry.tree_kernels import margins

    outputs, dimension = subject.function.num_outputs, subject.chart.num_coordinates + 1
    found = Extrema(
        np.tile([np.inf, -np.inf], (outputs, 1)),
        np.full((outputs, 2), -1),
        np.zeros((outputs, 2, dimension)),
    )
    cut_parents, region_parents = subject.function.tree.parents
    paths = CellPaths(region_parents, cut_parents, subject.cuts, OUTSIDE * tolerance)
    margin, doubtful = np.zeros(subject.function.num_regions), np.zeros(subject.function.num_regions, dtype=bool)
    margins(
        subject.function.tree.points,
        paths.regions,
        paths.parents,
        paths.cuts,
        margin,
        np.zeros(subject.function.num_regions, dtype=np.int64),
    )
    known = margin > paths.allowed
    thin, left = np.flatnonzero(~known), np.flatnonzero(known)
    state = (paths, known, found.best, found.where, found.at, doubtful)
    if not subject.chart.num_corners >= CORNERS * outputs:  # 0 if it is not a box
        walk = CellWalk(subject, max_rays, tolerance)
        for cells in walk:
            rows = subject.rows(cells.regions)
            extremes(cells.ends, cells.num_lines, cells.regions, cells.generators, rows, flat, tolerance, *state)
        thin = np.union1d(walk.thin, thin)
        left = np.setdiff1d(np.union1d(walk.large, np.flatnonzero(doubtful)), thin)
    if len(thin):  # only one point of each is known
        known[:] = True
        points = np.column_stack([subject.function.tree.points[thin], np.ones(len(thin))])
        ends, none = np.arange(len(thin) + 1), np.zeros(len(thin), dtype=np.int64)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        extremes(ends, none, thin, points, subject.rows(thin), flat, tolerance, *state)
    programs = improve_by_programs(found, subject, left, flat, paths) if len(left) else 0
    return found, programs


def improve_by_programs(
    extrema: Extrema,
    subject: InChart,
    regions: Int[np.ndarray, "regions"],
    flat: Float[np.ndarray, "outputs"],
    paths: CellPaths,
) -> int:
    """Improve the extrema by linear programs over some regions, in ascending order.

    In a bounded domain the programs are solved by compiled code (`CellPrograms`). HiGHS settles those that fail there,
    and all programs in an unbounded domain; that its solutions lie in the region, and that their duals prove that
    nothing in the region is better, is verified here.

    Returns:
        The number of linear programs solved.

    Raises:
        TransformError: a solution cannot be proven.
    """
    lower, upper = bounding_box(subject.chart.inequalities)
    bounded = bool(np.isfinite(lower).all() and np.isfinite(upper).all())
    solved, left = 0, dict.fromkeys(np.ndindex(extrema.best.shape), regions)
    if bounded:
        from torch_shallow.explain.globally.cell_programs import CellPrograms

        solved, left = _improve_compiled(extrema, subject, regions, CellPrograms(subject, paths, lower, upper))
    return solved + _improve_by_highs(extrema, subject, left, flat, bounded)


def _improve_compiled(
    extrema: Extrema, subject: InChart, regions: Int[np.ndarray, "regions"], programs: CellPrograms
) -> tuple[int, dict[tuple[int, ...], Int[np.ndarray, "some"]]]:
    """Improve the extrema by compiled programs, most promising regions first, so that fewer others remain.

    Returns:
        The number of linear programs solved, and for each output and side the regions whose program could not be
        settled.
    """
    blocks = np.split(regions, np.searchsorted(regions, [block.start for block in subject.blocks()][1:]))
    rows_of = lru_cache(maxsize=1)(lambda block: subject.rows(blocks[block]))
    known = {
        (output, side): programs.highest(float(extrema.best[output, side]) * (1.0 if side else -1.0))
        for output, side in np.ndindex(extrema.best.shape)
    }
    failed = {pair: [regions[:0]] for pair in known}
    for all_of_them in (False, True):
        for block, some in enumerate(blocks):
            for (output, side), highest in known.items():
                rows = rows_of(block)[:, output]
                unsettled = programs.raise_highest(highest, some, rows if side else -rows, all_of_them=all_of_them)
                failed[output, side].append(some[unsettled])
    for (output, side), highest in known.items():
        if highest.region[0] >= 0:
            extrema.best[output, side] = highest.value[0] if side else -highest.value[0]
            extrema.where[output, side], extrema.at[output, side] = highest.region[0], highest.point
    left: dict[tuple[int, ...], np.ndarray] = {pair: np.unique(np.concatenate(some)) for pair, some in failed.items()}
    return sum(int(highest.counts[0]) for highest in known.values()), left


def _improve_by_highs(
    extrema: Extrema,
    subject: InChart,
    left: dict[tuple[int, ...], Int[np.ndarray, "some"]],
    flat: Float[np.ndarray, "outputs"],
    bounded: bool,
) -> int:
    """Improve the extrema by a linear program for each of the regions that remain for each output and side."""
    regions = np.unique(np.concatenate(list(left.values())))
    rows = subject.rows(regions)
    programs = lru_cache(maxsize=MODELS)(lambda region: OverCell(half_spaces_of(subject, region), region, bounded))
    for (output, side), some in left.items():
        sign = 1.0 if side else -1.0
        for region, row in zip(some.tolist(), rows[np.searchsorted(regions, some), output], strict=True):
            value, at = programs(region).greatest(sign * row, flat[output])
            if value > sign * extrema.best[output, side]:
                extrema.best[output, side], extrema.where[output, side] = sign * value, region
                extrema.at[output, side] = at
    return sum(map(len, left.values()))
