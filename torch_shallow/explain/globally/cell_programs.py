"""Compiled linear programs for the greatest value of an affine function on each of many bounded cells."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Int64

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.explain.globally.cell_cones import CellPaths
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.geometry.dual_simplex import ABOVE, FAILED, Simplex, maximise, room
from torch_shallow.geometry.tree_kernels import write_path

FIRST = 32  # regions with the best interior points, which are examined first so that fewer others remain
ROUNDING = (
    1e-15  # rounding error of each term of a value, relative to it: a value must exceed another by more to be better
)
LOOSE = 1e-6  # by how much the box of a polytope is widened, relative to its size, because a solver found it


class Highest(Bundle):
    """The highest known value of an affine function for each region, and where it is attained."""

    value: np.ndarray  # float64 (1,)
    region: np.ndarray  # int64 (1,)
    point: np.ndarray  # float64 (dimension,): homogeneous
    counts: np.ndarray  # int64 (2,): linear programs solved, and those of the last call that could not be settled


@compiled()
def raise_highest(
    simplex: Simplex,
    num_walls: int,
    paths: CellPaths,
    regions: Int[np.ndarray, "some"],
    order: Int[np.ndarray, "chosen"],
    rows: Float[np.ndarray, "some homogeneous"],
    bounds: Float[np.ndarray, "some"],
    highest: Highest,
    failed: Int64[np.ndarray, "some"],
) -> None:
    """Look for higher values in the regions listed by `order`, one after the other.

    A region is skipped if its bound is not above the highest value. For each other region, a linear program over its
    cell, whose first `num_walls` half-spaces are set already, finds its best point, or multipliers prove that no value
    exceeds the highest one by more than `ROUNDING` (see `maximise`). If neither succeeds, the region is added to
    `failed`.
    """
    dimension = rows.shape[1]
    for place in range(order.shape[0]):
        k = order[place]
        if bounds[k] <= highest.value[0]:
            continue
        square, terms = 0.0, 0.0
        for i in range(dimension):
            if i < dimension - 1:
                square += rows[k, i] ** 2
            terms += abs(rows[k, i]) * max(abs(simplex.lower[i]), abs(simplex.upper[i]))
        length = np.sqrt(square) if square > 0.0 else 1.0
        for i in range(dimension):
            simplex.objective[i] = rows[k, i] / length
        rounding = dimension * ROUNDING * terms / length
        count = write_path(simplex.rows, num_walls, paths.regions[regions[k]], paths.parents, paths.cuts)
        highest.counts[0] += 1
        outcome = maximise(simplex, count, simplex.objective, highest.value[0] / length + rounding, rounding)
        if outcome == ABOVE:  # the best point of the region, because no pivot remains
            value = 0.0
            for i in range(dimension):
                value += rows[k, i] * simplex.point[i]
                highest.point[i] = simplex.point[i]
            highest.value[0], highest.region[0] = value, regions[k]
        elif outcome == FAILED:
            failed[highest.counts[1]] = k
            highest.counts[1] += 1


class CellPrograms:
    """Linear programs over the cells of a network whose domain is bounded.

    Args:
        subject: the network.
        paths: the cuts above each region.
        lower: least value of each coordinate in the domain.
        upper: greatest value of each coordinate in the domain.
    """

    def __init__(
        self,
        subject: InChart,
        paths: CellPaths,
        lower: Float[np.ndarray, "coordinates"],
        upper: Float[np.ndarray, "coordinates"],
    ) -> None:
        is_box, walls = subject.chart.is_box, subject.chart.inequalities
        walls = walls[:0] if is_box else walls
        wider = 0.0 if is_box else LOOSE * (1.0 + float(np.maximum(np.abs(lower), np.abs(upper)).max(initial=0.0)))
        self._lower, self._upper = np.append(lower - wider, 1.0), np.append(upper + wider, 1.0)
        self._simplex = room(self._lower, self._upper, len(walls) + subject.function.tree.depth)
        self._simplex.rows[: len(walls)] = walls
        self._num_walls, self._paths, self._points = len(walls), paths, subject.function.tree.points

    def highest(self, value: float) -> Highest:
        """The initial state: a known value, which belongs to no region."""
        none, point = np.full(1, -1), np.zeros(len(self._lower))
        return Highest(np.array([value]), none, point, np.zeros(2, dtype=np.int64))

    def raise_highest(
        self,
        highest: Highest,
        regions: Int64[np.ndarray, "some"],
        rows: Float[np.ndarray, "some homogeneous"],
        *,
        all_of_them: bool,
    ) -> Int64[np.ndarray, "failed"]:
        """Look for higher values of an affine function for each of some regions, most promising ones first.

        Args:
            highest: the highest values known, which are updated.
            regions: numbers of the regions.
            rows: the affine functions.
            all_of_them: whether to examine all regions, ordered by their bound in the box of the domain; otherwise only
                a few, those with the best interior points.

        Returns:
            The positions of the regions whose programs could not be settled.
        """
        rows = np.ascontiguousarray(rows)
        bounds = np.maximum(rows * self._lower, rows * self._upper).sum(axis=1)
        if all_of_them:
            order = np.argsort(-bounds, kind="stable")
        else:
            values = (rows[:, :-1] * self._points[regions]).sum(axis=1) + rows[:, -1]
            order = np.argsort(-values, kind="stable")[:FIRST]
        failed = np.zeros(len(order), dtype=np.int64)
        highest.counts[1] = 0
        raise_highest(self._simplex, self._num_walls, self._paths, regions, order, rows, bounds, highest, failed)
        return failed[: highest.counts[1]]
