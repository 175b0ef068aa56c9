"""The cell of every region as vertices, rays and lines, computed anew from the network's half-spaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt64

from torch_shallow.explain.facts.subject import Subject
from torch_shallow.partition.double_description.cone import NEED_WORDS
from torch_shallow.partition.double_description.storage import ConeStorage, grown, intersection
from torch_shallow.region.cone import generators

AT_ONCE = 1 << 17  # generators in memory


@dataclass(frozen=True, eq=False)
class Cells:
    """Some cells, each a cone in homogeneous chart coordinates.

    Attributes:
        regions: their numbers.
        ends: the generators of cell k are `ends[k]` to `ends[k + 1]`, its lines first.
        num_lines: of each cell.
        generators: unit lines and rays (v, t); a ray with t > 0 is the vertex v / t.
        sets: which half-spaces each generator lies on, as bits that mean the same within a cell.
    """

    regions: Int[np.ndarray, "cells"]
    ends: Int[np.ndarray, "cells_and_one"]
    num_lines: Int[np.ndarray, "cells"]
    generators: Float[np.ndarray, "generators homogeneous"]
    sets: UInt64[np.ndarray, "generators words"]


class CellWalk:
    """The cells of all regions, by double description down the tree; iterate over it once.

    Complete, and sound up to `tolerance`: a cut that the generators of a cell are no further from does not divide it,
    and a vertex further away than the reciprocal counts as a ray.

    Args:
        subject: the network.
        max_rays: a cell of more lines and rays is left out, with all that are below it.
        tolerance: a value up to this size, of a unit row at a unit vector, counts as zero.

    Attributes:
        thin: after the walk, the regions whose cells have no interior, up to the tolerance.
        large: likewise, the regions in cells of too many rays.
    """

    def __init__(self, subject: Subject, max_rays: int, tolerance: float) -> None:
        self._subject, self._max_rays, self._tolerance = subject, max_rays, tolerance
        self.thin = self.large = np.zeros(0, dtype=np.int64)

    def __iter__(self) -> Iterator[Cells]:
        """The cells, many at a time; the arrays are used again for the next ones.

        Yields:
            Cells whose generators fit into memory.
        """
        from torch_shallow.explain.facts import walk  # compiled code is imported when it is used

        subject, tree = self._subject, self._subject.tree
        walls, children = subject.chart.inequalities, tree.children.astype(np.int64)
        root = 0 if len(children) else ~0
        too_many = subject.chart.num_corners > self._max_rays
        if too_many or generators(walls, self._tolerance, self._max_rays) is None:
            self.large = np.arange(tree.num_regions)
            return
        storage, (lines, rays, top), used = intersection(walls, self._tolerance)
        room = max(AT_ONCE, 2 * self._max_rays)
        deepest = 2 + tree.depth
        stack = walk.Stack(np.zeros((deepest, 5), dtype=np.int64), np.zeros((deepest, storage.words), dtype=np.uint64))
        stack.frames[0], stack.used[0] = (root, 0, lines, rays, top), used
        harvest = _harvest(walk.Harvest, room, walls.shape[1], storage.words, len(children))
        counts = np.array([1, 0, 0, 0])
        while True:
            status = walk.walk(
                storage.cones,
                storage.scratch,
                stack,
                harvest,
                counts,
                children,
                subject.cuts,
                self._tolerance,
                self._max_rays,
            )
            if status in (walk.DONE, walk.FLUSH):
                count, end = counts[1], harvest.ends[counts[1]]
                yield Cells(
                    harvest.regions[:count],
                    harvest.ends[: count + 1],
                    harvest.num_lines[:count],
                    harvest.generators[:end],
                    harvest.sets[:end],
                )
                counts[1] = 0
            else:
                stack, harvest = _grow(storage, status, stack, harvest)
            if status == walk.DONE:
                break
        for name, nodes in (("thin", harvest.thin[: counts[2]]), ("large", harvest.large[: counts[3]])):
            found = np.zeros(tree.num_regions, dtype=np.int64)
            count = walk.below(nodes, children, np.zeros(deepest + 1, dtype=np.int64), found)
            setattr(self, name, np.sort(found[:count]))


def _harvest(kind: Any, room: int, dimension: int, words: int, cuts: int) -> Any:
    capacity = 1 + room // 2
    return kind(
        np.zeros(capacity, dtype=np.int64),
        np.zeros(capacity + 1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros((room, dimension)),
        np.zeros((room, words), dtype=np.uint64),
        np.zeros(2 * cuts + 1, dtype=np.int64),
        np.zeros(2 * cuts + 1, dtype=np.int64),
    )


def _grow(storage: ConeStorage, status: int, stack: Any, harvest: Any) -> tuple[Any, Any]:
    storage.grow(status)
    if status != NEED_WORDS:
        return stack, harvest
    wider = harvest.replaced(sets=grown(harvest.sets, axis=1))
    return stack.replaced(used=grown(stack.used, axis=1)), wider
