"""Vertices, rays and lines of the cell of every region, computed anew from the half-spaces; and the outputs there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.geometry.rays.cone import NEED_PAIRS, NEED_WORDS, OK, Cones, Scratch, evaluate, split
from torch_shallow.geometry.rays.generators import generators
from torch_shallow.geometry.rays.storage import ConeStorage, grown, intersection

NODE, START, LINES, RAYS, TOP = range(5)  # columns of a frame
DONE, FLUSH = -1, -2  # beside the statuses of a cut; there are as many frames as cuts on a path, so one is always free
AT_ONCE = 1 << 17  # generators in one block


class ConeStack(Bundle):
    """Stack of cells to be processed, the next one last."""

    frames: np.ndarray  # int64 (capacity, 5): node, start, lines and rays in the arena, first free row of the pool
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each cell


class WrittenCones(Bundle):
    """Cells of regions, and nodes whose cells are not computed."""

    regions: np.ndarray  # int64 (capacity,)
    ends: np.ndarray  # int64 (capacity + 1,): generators of cell k are ends[k] to ends[k + 1], lines first
    num_lines: np.ndarray  # int64 (capacity,)
    generators: np.ndarray  # float64 (room, dimension): unit vectors
    sets: np.ndarray  # uint64 (room, words): half-spaces on whose boundary each generator lies
    thin: np.ndarray  # int64 (nodes,): nodes whose cells have no interior
    large: np.ndarray  # int64 (nodes,): nodes whose cells have too many rays


@compiled()
def walk(
    cones: Cones,
    scratch: Scratch,
    stack: ConeStack,
    harvest: WrittenCones,
    counts: Int[np.ndarray, "4"],
    children: Int[np.ndarray, "cuts 2"],
    cuts: Float[np.ndarray, "cuts homogeneous"],
    tolerance: float,
    max_rays: int,
) -> int:
    """Process the cells on the stack.

    `counts` holds the numbers of cells on the stack, of regions in the harvest, of thin nodes and of large nodes. A
    cell that a cut does not divide passes to the side of the cut on which it lies; the other side is thin.

    Returns:
        DONE; FLUSH to have the regions taken out of the harvest; or a status of `split` to have more room made. After
        the last two, call again.
    """
    frames, values = stack.frames, scratch.values
    while counts[0] > 0:
        frame = frames[counts[0] - 1]
        node, start, lines, rays = frame[NODE], frame[START], frame[LINES], frame[RAYS]
        if lines + rays > max_rays:
            harvest.large[counts[3]] = node
            counts[3] += 1
            counts[0] -= 1
            continue
        if node < 0:
            at = harvest.ends[counts[1]]
            if counts[1] == harvest.regions.shape[0] or at + lines + rays > harvest.generators.shape[0]:
                return FLUSH
            for r in range(lines + rays):
                for k in range(cuts.shape[1]):
                    harvest.generators[at + r, k] = cones.pool[cones.ids[start + r], k]
                for w in range(cones.sets.shape[1]):
                    harvest.sets[at + r, w] = cones.sets[start + r, w]
            harvest.regions[counts[1]], harvest.num_lines[counts[1]] = ~node, lines
            counts[1] += 1
            harvest.ends[counts[1]] = at + lines + rays
            counts[0] -= 1
            continue
        if lines + rays > values.shape[0]:
            return NEED_PAIRS
        low, high = evaluate(cones.pool, cones.ids, start, lines + rays, cuts[node], values)
        for r in range(lines):
            low, high = min(low, -abs(values[r])), max(high, abs(values[r]))
        if high <= tolerance or low >= -tolerance:
            side = 0 if high <= tolerance else 1
            harvest.thin[counts[2]] = children[node, 1 - side]
            counts[2] += 1
            frame[NODE] = children[node, side]
            continue
        used = stack.used[counts[0] - 1]
        code, top = split(cones, scratch, frame[START:TOP], used, tolerance, frame[TOP])
        if code != OK:
            return code
        for side in (1, 0):
            at = counts[0] - side
            frames[at, NODE], frames[at, TOP] = children[node, side], top
            for k in range(3):
                frames[at, START + k] = scratch.children[side, k]
            for w in range(used.shape[0]):
                stack.used[at, w] = scratch.child_used[side, w]
        counts[0] += 1
    return DONE


@compiled()
def below(
    nodes: Int[np.ndarray, "nodes"],
    children: Int[np.ndarray, "cuts 2"],
    stack: Int[np.ndarray, "room"],
    regions: Int[np.ndarray, "regions"],
) -> int:
    """Write the regions below some nodes, and return their number."""
    count = 0
    for root in range(nodes.shape[0]):
        stack[0], top = nodes[root], 1
        while top > 0:
            top -= 1
            at = stack[top]
            if at < 0:
                regions[count] = ~at
                count += 1
                continue
            stack[top], stack[top + 1] = children[at, 1], children[at, 0]
            top += 2
    return count


@dataclass(frozen=True, eq=False)
class CellCones:
    """Some cells, each a cone in homogeneous chart coordinates.

    Attributes:
        regions: numbers of the regions.
        ends: offsets of the generators: those of cell k are `ends[k]` to `ends[k + 1]`, its lines first.
        num_lines: number of lines of each cell.
        generators: unit lines and rays (v, t); a ray with t > 0 is the vertex v / t.
        sets: half-spaces on whose boundary each generator lies, as bits that have the same meaning within a cell.
    """

    regions: Int[np.ndarray, "cells"]
    ends: Int[np.ndarray, "cells_and_one"]
    num_lines: Int[np.ndarray, "cells"]
    generators: Float[np.ndarray, "generators homogeneous"]
    sets: UInt64[np.ndarray, "generators words"]


class CellWalk:
    """Iterator over the cells of all regions, by double description down the tree; can be used once.

    Complete, and sound up to `tolerance`: a cut divides a cell only if there are generators further away than this on
    both sides, and a vertex further away than the reciprocal counts as a ray.

    Args:
        subject: the network.
        max_rays: number of lines and rays above which a cell is left out, with everything below it.
        tolerance: size up to which the value of a unit row at a unit vector counts as zero.

    Attributes:
        thin: after the walk, the regions whose cells have no interior, up to the tolerance.
        large: after the walk, the regions in cells of too many rays.
    """

    def __init__(self, subject: InChart, max_rays: int, tolerance: float) -> None:
        self._subject, self._max_rays, self._tolerance = subject, max_rays, tolerance
        self.thin = self.large = np.zeros(0, dtype=np.int64)

    def __iter__(self) -> Iterator[CellCones]:
        """Iterate over blocks of cells; their arrays are overwritten by the next block.

        Yields:
            Cells whose generators fit into memory.
        """
        subject, tree = self._subject, self._subject.function.tree
        walls, children = subject.chart.inequalities, tree.children.astype(np.int64)
        root = 0 if len(children) else ~0
        too_many = subject.chart.num_corners > self._max_rays
        if too_many or generators(walls, self._tolerance, self._max_rays) is None:
            self.large = np.arange(tree.num_regions)
            return
        storage, (lines, rays, top), used = intersection(walls, self._tolerance)
        room = max(AT_ONCE, 2 * self._max_rays)
        deepest = 2 + tree.depth
        stack = ConeStack(np.zeros((deepest, 5), dtype=np.int64), np.zeros((deepest, storage.words), dtype=np.uint64))
        stack.frames[0], stack.used[0] = (root, 0, lines, rays, top), used
        harvest = _harvest(room, walls.shape[1], storage.words, len(children))
        counts = np.array([1, 0, 0, 0])
        while True:
            status = walk(
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
            if status in (DONE, FLUSH):
                count, end = counts[1], harvest.ends[counts[1]]
                yield CellCones(
                    harvest.regions[:count],
                    harvest.ends[: count + 1],
                    harvest.num_lines[:count],
                    harvest.generators[:end],
                    harvest.sets[:end],
                )
                counts[1] = 0
            else:
                stack, harvest = _grow(storage, status, stack, harvest)
            if status == DONE:
                break
        for name, nodes in (("thin", harvest.thin[: counts[2]]), ("large", harvest.large[: counts[3]])):
            found = np.zeros(tree.num_regions, dtype=np.int64)
            count = below(nodes, children, np.zeros(deepest + 1, dtype=np.int64), found)
            setattr(self, name, np.sort(found[:count]))


def _harvest(room: int, dimension: int, words: int, cuts: int) -> WrittenCones:
    capacity = 1 + room // 2
    return WrittenCones(
        np.zeros(capacity, dtype=np.int64),
        np.zeros(capacity + 1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros((room, dimension)),
        np.zeros((room, words), dtype=np.uint64),
        np.zeros(2 * cuts + 1, dtype=np.int64),
        np.zeros(2 * cuts + 1, dtype=np.int64),
    )


def _grow(storage: ConeStorage, status: int, stack: ConeStack, harvest: WrittenCones) -> tuple[ConeStack, WrittenCones]:
    storage.grow(status)
    if status != NEED_WORDS:
        return stack, harvest
    wider = harvest.replaced(sets=grown(harvest.sets, axis=1))
    return stack.replaced(used=grown(stack.used, axis=1)), wider


class CellPaths(Bundle):
    """The cuts above each region, and how far a vertex may lie on their wrong side."""

    regions: np.ndarray  # int64 (regions,): `2 * cut + side` above each region, -1 at the root
    parents: np.ndarray  # int64 (cuts,): `2 * cut + side` above each cut, -1 at the root
    cuts: np.ndarray  # float64 (cuts, dimension): unit rows
    allowed: float


@compiled()
def lies_inside(vertex: Float[np.ndarray, "homogeneous"], region: int, paths: CellPaths) -> bool:
    """Whether a vertex, given as a unit vector, lies on the right side of all cuts above its region."""
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
    """Improve the least (column 0) and greatest (column 1) known value of each output by those on some cells.

    Cells are given as in `CellCones`, each with its local model in `rows`. Slopes up to `flat` count as zero, and a ray
    with t up to `tolerance` is a direction. `known` marks the regions to be examined; others are so thin that their
    vertices are rounding errors. `doubtful` is set for each region with a vertex that would be better but lies outside
    its half-spaces, as happens where walls nearly coincide. Results are written to `best`, `where` and `at`, as in
    `Extrema`.
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
