"""Search of the tree of cuts from near to far, opening cells in the order of proven lower bounds on their distance."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.dual_simplex import Simplex
from torch_shallow.geometry.nearest_point import BEYOND, NEAREST, Quadratic, nearest

DONE, LEAVES, NEED_ROOM = range(3)
NUM_TALLIES = 4
BY_TARGET, BY_CELL, OPENED, SAME_POINT = range(NUM_TALLIES)


class OpenCells(Bundle):
    """Cells that are still to be opened, as a heap."""

    counts: np.ndarray  # int64 (2,): number of cells in the heap, and of all cells so far
    heap: np.ndarray  # int64 (capacity,): cells, nearest first
    bounds: np.ndarray  # float64 (capacity,): lower bound on the distance of counterfactuals in each cell
    children: np.ndarray  # int64 (capacity,): a cut, or ~region
    parents: np.ndarray  # int64 (capacity,): 2 * cut + side of the cut above; -1 for the root
    points: np.ndarray  # float64 (capacity, dimension): the nearest point of the cell; NaN if it is unknown


class Cuts(Bundle):
    """The tree of cuts, in coordinates in which x is 0."""

    children: np.ndarray  # int64 (cuts, 2)
    parents: np.ndarray  # int64 (cuts,): 2 * cut + side
    rows: np.ndarray  # float64 (cuts, dimension): unit rows, active where rows @ d + offsets > 0
    offsets: np.ndarray  # float64 (cuts,)
    by_target: np.ndarray  # float64 (cuts,): lower bound on the distance of the target below each cut
    of_regions: np.ndarray  # float64 (regions,): the same bound for each region


def frontier(dimension: int, capacity: int, root: int, bound: float) -> OpenCells:
    """A heap with one cell, the domain."""
    integers = [np.zeros(capacity, dtype=np.int64) for _ in range(3)]
    found = OpenCells(
        np.ones(2, dtype=np.int64),
        integers[0],
        np.zeros(capacity),
        integers[1],
        integers[2],
        np.zeros((capacity, dimension)),
    )
    found.bounds[0], found.children[0], found.parents[0], found.points[0] = bound, root, -1, np.nan
    return found


def with_more_room(found: OpenCells) -> OpenCells:
    """The same cells with room for twice as many."""
    counts, *others = found
    return OpenCells(counts, *(np.concatenate([array, np.zeros_like(array)]) for array in others))


@compiled()
def spread(cuts: Cuts) -> None:
    """Fill in `by_target` of all cuts from the bounds of the regions; a child comes after its parent."""
    for cut in range(cuts.children.shape[0] - 1, -1, -1):
        least = np.inf
        for side in range(2):
            child = cuts.children[cut, side]
            least = min(least, cuts.by_target[child] if child >= 0 else cuts.of_regions[~child])
        cuts.by_target[cut] = least


@compiled()
def advance(
    found: OpenCells,
    cuts: Cuts,
    work: Quadratic,
    simplex: Simplex,
    norm: float,
    extra: int,
    lower: np.ndarray,
    upper: np.ndarray,
    cutoff: float,
    leaves: np.ndarray,
    tallies: np.ndarray,
    floor: np.ndarray,
) -> tuple[int, int]:
    """Open cells until `leaves` is full of regions that may have a counterfactual nearer than the cutoff.

    The first `extra` half-spaces in `work` hold everywhere; `simplex` and `norm` are arguments of `nearest`. The counts
    of operations are added to `tallies`, and `floor[0]` becomes the least bound of all that is discarded. The cells of
    the regions are written into `leaves`.

    Returns:
        The state in which it ended, and the number of regions.
    """
    number = 0
    while found.counts[0] > 0:
        if found.counts[1] + 2 > found.bounds.shape[0]:
            return NEED_ROOM, number
        cell = found.heap[0]
        if found.bounds[cell] >= cutoff:
            floor[0] = min(floor[0], found.bounds[cell])
            found.counts[0] = 0
            break
        child = found.children[cell]
        if child < 0:
            if number == leaves.shape[0]:
                return LEAVES, number
            leaves[number] = cell
            number += 1
            pop(found)
            continue
        pop(found)
        tallies[OPENED] += 1
        value = cuts.offsets[child]
        for i in range(lower.shape[0]):
            value += cuts.rows[child, i] * found.points[cell, i]
        # On this side of the cut, the nearest point is the same as that of the cell.
        same = (1 if value > 0.0 else 0) if value == value else -1
        for side in range(2):
            below = cuts.children[child, side]
            bound = max(found.bounds[cell], cuts.by_target[below] if below >= 0 else cuts.of_regions[~below])
            if bound >= cutoff:
                tallies[BY_TARGET] += 1
                floor[0] = min(floor[0], bound)
                continue
            new = found.counts[1]
            if side == same:
                tallies[SAME_POINT] += 1
                for i in range(lower.shape[0]):
                    found.points[new, i] = found.points[cell, i]
            else:
                count = write_path(work, extra, 2 * child + side, cuts)
                status = nearest(work, simplex, norm, count, lower, upper, cutoff)
                bound = max(bound, work.bound[0])
                if status == BEYOND:
                    tallies[BY_CELL] += 1
                    floor[0] = min(floor[0], bound)
                    continue
                for i in range(lower.shape[0]):
                    found.points[new, i] = work.point[i] if status == NEAREST else np.nan
            found.bounds[new], found.children[new], found.parents[new] = bound, below, 2 * child + side
            found.counts[1] += 1
            push(found, new)
    return DONE if number == 0 else LEAVES, number


@compiled()
def solve_leaves(
    found: OpenCells,
    cuts: Cuts,
    work: Quadratic,
    simplex: Simplex,
    norm: float,
    extra: int,
    lower: np.ndarray,
    upper: np.ndarray,
    cutoff: float,
    leaves: np.ndarray,
    goals: np.ndarray,
    limits: np.ndarray,
    results: np.ndarray,
) -> None:
    """Find the nearest counterfactual in each of some regions.

    Arguments are those of `advance`, but the cutoff decreases to the nearest counterfactual found so far. `goals`, of
    shape (leaves, goals, dimension), holds the target in each region, as unit rows `goals @ d <= limits`. The row of
    each region in `results` receives the state in which it ended, the proven bound, and the point.
    """
    for leaf in range(leaves.shape[0]):
        count = write_path(work, extra, found.parents[leaves[leaf]], cuts)
        for j in range(goals.shape[1]):
            work.rhs[count + j] = limits[leaf, j]
            for i in range(lower.shape[0]):
                work.rows[count + j, i] = goals[leaf, j, i]
        status = nearest(work, simplex, norm, count + goals.shape[1], lower, upper, cutoff)
        results[leaf, 0] = status
        results[leaf, 1] = max(work.bound[0], found.bounds[leaves[leaf]])
        for i in range(lower.shape[0]):
            results[leaf, 2 + i] = work.point[i]


@compiled()
def write_path(work: Quadratic, extra: int, code: int, cuts: Cuts) -> int:
    """Write the half-spaces above a parent's code behind `extra` rows, and return the number of all rows."""
    row = extra
    while code >= 0:
        cut = code // 2
        sign = -1.0 if code % 2 == 1 else 1.0
        work.rhs[row] = -sign * cuts.offsets[cut]
        for i in range(work.point.shape[0]):
            work.rows[row, i] = sign * cuts.rows[cut, i]
        row += 1
        code = cuts.parents[cut]
    return row


@compiled()
def push(found: OpenCells, cell: int) -> None:
    """Push a cell onto the heap."""
    heap, bounds = found.heap, found.bounds
    at = found.counts[0]
    found.counts[0] += 1
    while at > 0 and bounds[heap[(at - 1) // 2]] > bounds[cell]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = cell


@compiled()
def pop(found: OpenCells) -> None:
    """Pop the nearest cell off the heap."""
    heap, bounds = found.heap, found.bounds
    found.counts[0] -= 1
    size = found.counts[0]
    cell, at = heap[size], 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and bounds[heap[below + 1]] < bounds[heap[below]]:
            below += 1
        if bounds[heap[below]] >= bounds[cell]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = cell
