"""Output of a task, its limits, and the repeated calls of a compiled walk that fill it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.errors import TransformError
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.problem import Problem

DONE = 10  # nothing left to do
FULL = 11  # the output arrays are full
NEED_FRAMES = 13  # the stack is full
OFF_PATH = 14  # the first cuts are not those of the path
UNDECIDED = 2  # status of a neuron that may take both signs on a cell; otherwise 0 or 1

# Counts of a walk: top of its stack, cuts found in all calls, rows of `Found` in use, and rows that may be in use.
TOP, CUTS, CUT_ROWS, REGION_ROWS, MOST_CUT_ROWS, MOST_REGION_ROWS = range(6)
NUM_COUNTS = 6

BLOCK, BLOCK_BYTES = 1 << 15, 1 << 24  # most rows of a block, and most bytes unless that would be few rows


class Found(Bundle):
    """Cuts and regions found, in order. A parent is coded `2 * cut + side`; `-1 - k` is the cell after k given cuts."""

    cut_parents: np.ndarray  # int64
    cut_neurons: np.ndarray  # int64
    region_parents: np.ndarray  # int64
    patterns: np.ndarray  # uint8 (capacity, bytes)
    points: np.ndarray  # float64 (capacity, dimension - 1)


@compiled()
def guided_side(path, depth, neuron):
    """Return the side to take of a cut: -1 for both, after the end of the path; or OFF_PATH.

    Each entry of the path is `2 * neuron + side`.
    """
    if depth >= path.shape[0]:
        return -1
    return path[depth] & 1 if path[depth] >> 1 == neuron else OFF_PATH


FIRST_CUTS, FIRST_REGIONS = 4, 1  # room given to a walk at first: a single cut or region may take a second
RESPONSE = 0.05  # seconds that a compiled walk should take between two checks of the clock
MOST_GROWTH = 64  # the room for a walk grows by at most this factor from one check to the next


@dataclass(frozen=True)
class Quota:
    """Limits of one task. A task always finds something, and ends at the next check of the clock.

    Attributes:
        seconds: Greatest duration, in seconds.
        regions: Greatest number of regions to find; None for no limit.
        cuts: Greatest number of cuts to make; None for no limit.
    """

    seconds: float = float("inf")
    regions: int | None = None
    cuts: int | None = None


class Harvest:
    """Cuts, regions and open cells of a task, in the order found.

    Args:
        quota: Limits of the task.
        interrupted: Returns whether to stop early; asked from time to time.
    """

    def __init__(self, quota: Quota, interrupted: Callable[[], bool] = lambda: False) -> None:
        self.quota, self.interrupted = quota, interrupted
        self._cut_rows, self._region_rows = FIRST_CUTS, FIRST_REGIONS
        self._block: Found | None = None  # the arrays that walks write to, and their numbers of rows in use
        self._used = 0, 0
        self.clear()

    def clear(self) -> None:
        """Forget everything that was found, and restart the quota."""
        self.num_cuts = self.num_regions = 0
        self._blocks: list[tuple[np.ndarray, ...]] = []
        self._first_cuts: list[int] = []
        self._open: list[np.ndarray] = []
        self._method: dict[str, int] = {}
        self._begun = self._looked = time.monotonic()
        self.begin(0, np.zeros(0, dtype=np.int32))

    def begin(self, start: int, path: Int32[np.ndarray, "depth"]) -> None:
        """Place everything added from now on below a start of the task, after the cuts of its path."""
        self._start, self.given = start, path

    @property
    def spent(self) -> bool:
        """Whether the quota is used up or the task interrupted; never before something is found."""
        cuts, regions = self.num_cuts, self.num_regions
        return cuts + regions > 0 and (
            self._left(cuts, regions) <= 0 or time.monotonic() - self._begun >= self.quota.seconds or self.interrupted()
        )

    def _left(self, cuts: int, regions: int) -> float:
        """Return how many more regions, or cuts, are allowed."""
        limits = ((self.quota.cuts, cuts), (self.quota.regions, regions))
        return min((float(limit - found) for limit, found in limits if limit is not None), default=float("inf"))

    def room(self, counts: Int[np.ndarray, "counts"], width: int, coordinates: int) -> Found:
        """Return the arrays that a walk should write to, and set how far, up to the next check of the clock.

        Args:
            counts: The counts of the walk.
            width: Number of bytes of a pattern.
            coordinates: Number of coordinates of a point.
        """
        self._looked = time.monotonic()
        if self._block is None or max(self._used) == len(self._block.points):
            size = max(1024, min(BLOCK, BLOCK_BYTES // (8 * (coordinates + 1) + width)))
            cut_parents, cut_neurons, region_parents = np.empty((3, size), dtype=np.int64)
            patterns, points = np.empty((size, width), dtype=np.uint8), np.empty((size, coordinates))
            self._block, self._used = Found(cut_parents, cut_neurons, region_parents, patterns, points), (0, 0)
        size, left = len(self._block.points), self._left(self.num_cuts, self.num_regions)
        counts[CUT_ROWS], counts[REGION_ROWS] = cuts, regions = self._used
        counts[MOST_CUT_ROWS] = min(size, cuts + max(1, min(self._cut_rows, left)))
        counts[MOST_REGION_ROWS] = min(size, regions + max(1, min(self._region_rows, left)))
        return self._block

    def take(self, engine: str, found: Found, counts: Int[np.ndarray, "counts"]) -> None:
        """Append what a walk has written since it was given room."""
        before, self._used = self._used, (int(counts[CUT_ROWS]), int(counts[REGION_ROWS]))
        of_cuts, of_regions = map(slice, before, self._used)
        cuts, regions = (end - start for start, end in zip(before, self._used, strict=True))
        seconds = time.monotonic() - self._looked
        more = int(min(MOST_GROWTH, RESPONSE / max(seconds, 1e-9)))
        # The time of cuts before the first region says nothing about the time that regions take.
        if more > 1:
            self._region_rows = min(self._region_rows * (more if regions >= self._region_rows else 1), BLOCK)
            self._cut_rows = min(self._cut_rows * (more if cuts >= self._cut_rows else 1), BLOCK)
            self._cut_rows = max(self._cut_rows, self._region_rows)  # regions come with about as many cuts
        elif seconds > RESPONSE * 2:
            self._cut_rows, self._region_rows = max(self._cut_rows // 4, 1), max(self._region_rows // 4, 1)
        self.add(
            engine,
            found.cut_parents[of_cuts],
            found.cut_neurons[of_cuts],
            found.region_parents[of_regions],
            found.patterns[of_regions],
            found.points[of_regions],
        )

    def add(
        self,
        engine: str,
        cut_parents: Int[np.ndarray, "cuts"],
        cut_neurons: Int[np.ndarray, "cuts"],
        region_parents: Int[np.ndarray, "regions"],
        packed_patterns: UInt8[np.ndarray, "regions bytes"],
        points: Float[np.ndarray, "regions coordinates"],
    ) -> None:
        """Append cuts, numbered from `num_cuts` on, and regions, with parents coded as in `Found`.

        Raises:
            TransformError: A region is found before the path has ended.
        """
        self._first_cuts.append(self.num_cuts)
        self._blocks.append(
            (self._placed(cut_parents), cut_neurons, self._placed(region_parents), packed_patterns, points)
        )
        self.num_cuts += len(cut_neurons)
        self.num_regions += len(points)
        if len(points):
            self._method[engine] = self._method.get(engine, 0) + len(points)

    def leave(self, parents: Int[np.ndarray, "open"]) -> None:
        """Record cells that are left open; one before the end of the path stands for the cell at its end."""
        self._open.append(np.where(parents >= 0, parents, -1 - self._start))

    def _placed(self, parents: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        given = np.flatnonzero(parents < 0)
        if len(given) == 0:
            return parents
        if (parents[given] != -1 - len(self.given)).any():
            raise off_path()
        placed = parents.copy()
        placed[given] = -1 - self._start
        return placed

    def path(self, parent: int, depth: int) -> list[tuple[int, int]]:
        """Return the cuts above a cell, from the root down, each as its neuron and the side taken (1: active).

        Args:
            parent: Code of the cell, as in `Found`.
            depth: Number of cuts above it.
        """
        steps = []
        while parent >= 0:
            at = bisect_right(self._first_cuts, parent // 2) - 1
            parents, neurons = self._blocks[at][:2]
            row = parent // 2 - self._first_cuts[at]
            steps.append((int(neurons[row]), parent % 2))
            parent = int(parents[row])
        given = [(int(step) // 2, int(step) % 2) for step in self.given[:depth]]
        return given + steps[::-1]

    def piece(self, starts: Int[np.ndarray, "starts"]) -> Piece:
        """Return everything that was found below some cells of the whole tree."""
        *codes, patterns, points = zip(*self._blocks, strict=True)
        # Small, to send quickly; only a task of billions of cuts needs larger numbers.
        code = np.int32 if self.num_cuts < 1 << 30 else np.int64
        cut_parents, cut_neurons, region_parents = (
            np.concatenate(each, dtype=code, casting="same_kind") for each in codes
        )
        open_parents = np.concatenate([np.zeros(0, dtype=np.int64), *self._open])
        regions = region_parents, np.concatenate(patterns), np.concatenate(points)
        return Piece(starts, cut_parents, cut_neurons, *regions, open_parents, self._method)


def off_path() -> TransformError:
    """Return the error for a path that does not exist."""
    return TransformError(
        "model: expected the network of the regions found so far, on the same kind of machine, found one whose cells "
        "are cut by other neurons; start again without the earlier results."
    )


class CompiledWalk(ABC):
    """Gives cuts and regions to a harvest, and in the end the cells left open.

    Args:
        problem: The enumeration problem.
        harvest: Where to append the results.
    """

    engine: str
    parent_and_spent: ClassVar[tuple[int, int]]  # columns of the frames
    stack: Any  # a bundle with frames

    def __init__(self, problem: Problem, harvest: Harvest) -> None:
        self.problem, self.harvest = problem, harvest

    @abstractmethod
    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        """Continue the compiled walk, and return its status."""

    @abstractmethod
    def _serve(self, status: int, counts: Int[np.ndarray, "counts"]) -> None:
        """Serve the request of the walk, usually for room."""

    def _walk_all(self) -> None:
        """Walk everything that is below both the one cell on the stack and the path of the harvest."""
        harvest, counts = self.harvest, np.zeros(NUM_COUNTS, dtype=np.int64)
        sizes = (self.problem.program.num_neurons + 7) // 8, self.problem.chart.num_coordinates
        counts[CUTS] = harvest.num_cuts
        while True:
            found = harvest.room(counts, *sizes)
            status = self._walk(found, counts)
            harvest.take(self.engine, found, counts)
            if status == DONE:
                return
            if status == OFF_PATH:
                raise off_path()
            if status != FULL:
                self._serve(status, counts)
            if harvest.spent:
                parent, spent = self.parent_and_spent
                frames = self.stack.frames[: counts[TOP] + 1]
                harvest.leave(frames[frames[:, spent] == 0, parent])
                return
