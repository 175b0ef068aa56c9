"""The least and greatest value of every output on cells, compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled


class CellPaths(Bundle):
    """The cuts above each region, and how far a vertex may be on their wrong side."""

    regions: np.ndarray  # int64 (regions,): `2 * cut + side` above each region, -1 at the root
    parents: np.ndarray  # int64 (cuts,): likewise above each cut
    cuts: np.ndarray  # float64 (cuts, dimension): unit rows
    allowed: float


@compiled()
def lies_inside(vertex: Float[np.ndarray, "homogeneous"], region: int, paths: CellPaths) -> bool:
    """Whether a vertex, as a unit vector, lies on the right side of all cuts above its region."""
    code = paths.regions[region]
    while code >= 0:
        value, cut = 0.0, code // 2
        for k in range(vertex.shape[0]):
            value += paths.cuts[cut, k] * vertex[k]
        if (value if code % 2 == 1 else -value) < -paths.allowed:
            return False
        code = paths.parents[cut]
    return True


@compiled()
def extremes(
    ends: Int[np.ndarray, "cells_and_one"],
    num_lines: Int[np.ndarray, "cells"],
    regions: Int[np.ndarray, "cells"],
    generators: Float[np.ndarray, "generators homogeneous"],
    rows: Float[np.ndarray, "cells outputs homogeneous"],
    flat: Float[np.ndarray, "outputs"],
    tolerance: float,
    paths: CellPaths,
    known: Bool[np.ndarray, "all"],
    best: Float[np.ndarray, "outputs 2"],
    where: Int[np.ndarray, "outputs 2"],
    at: Float[np.ndarray, "outputs 2 homogeneous"],
    doubtful: Bool[np.ndarray, "all"],
) -> None:
    """Improve the least (column 0) and greatest (column 1) value known of each output by those on some cells.

    Args:
        ends: see `Cells`, as for the two that follow.
        num_lines: see there.
        regions: see there.
        generators: see there.
        rows: the local model of each cell.
        flat: a slope up to this size is none.
        tolerance: a ray with t up to this size is a direction.
        paths: the cuts above the regions.
        known: which regions are looked at; others are so thin that their vertices are rounding.
        best: the values; infinite ones along a direction.
        where: their regions.
        at: where they are: a point (v, 1), or a direction (v, 0).
        doubtful: set for each region of which a vertex would be better, but does not lie in its half-spaces, as happens
            where walls nearly coincide.
    """
    dimension = generators.shape[1]
    for cell in range(regions.shape[0]):
        for r in range(ends[cell], ends[cell + 1] if known[regions[cell]] else ends[cell]):
            height = generators[r, dimension - 1]
            is_line, is_ray = r - ends[cell] < num_lines[cell], height <= tolerance
            for i in range(rows.shape[1]):
                value = 0.0
                for k in range(dimension - is_ray):
                    value += rows[cell, i, k] * generators[r, k]
                for side in range(2):
                    sign, scale = 1.0 if side == 1 else -1.0, 1.0
                    if is_ray:
                        slope = abs(value) if is_line else sign * value
                        if slope <= flat[i] or (np.isinf(best[i, side]) and where[i, side] >= 0):
                            continue
                        best[i, side] = sign * np.inf
                        if is_line and sign * value < 0.0:
                            scale = -1.0
                    else:
                        if sign * (value / height) <= sign * best[i, side]:
                            continue
                        if not lies_inside(generators[r], regions[cell], paths):
                            doubtful[regions[cell]] = True
                            continue
                        best[i, side] = value / height
                        scale = 1.0 / height
                    where[i, side] = regions[cell]
                    for k in range(dimension):
                        at[i, side, k] = scale * generators[r, k]
                    at[i, side, dimension - 1] = 0.0 if is_ray else 1.0
