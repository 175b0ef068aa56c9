"""One random look at everything below some cells."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf

import numpy as np
from jaxtyping import Int32

from torch_shallow.partition.estimate.thinning import thin
from torch_shallow.partition.exploration.task import engines
from torch_shallow.partition.growth import Piece
from torch_shallow.partition.harvest import Harvest, Quota
from torch_shallow.partition.problem import Problem

Path = Int32[np.ndarray, "_"]  # the cuts above a cell, as in `Task`

CUTS = 8  # of one walk: fewer, and it mostly makes the cuts above it again; more, and it stays in one corner


class Prober:
    """Estimates how many regions are below some cells.

    D. E. Knuth, "Estimating the efficiency of backtrack programs" (1975), goes down one random path and multiplies the
    numbers of ways there were. Here that has a hopeless variance: one side of most cuts is a sliver, so a few paths are
    very long, and 2 to their length is the estimate. P.-C. Chen, "Heuristic sampling" (1992), goes down many paths
    together, and thins them out where several have come to the same stratum. A stratum here is the neuron of the last
    cut, which tells much of how large a cell is without a walk; along a path, neurons only rise. What a walk finds
    counts with the weight of its cell, and the cells that it leaves have that weight.

    The estimate is unbiased, whatever a walk leaves open, since thinning changes no weight on average.

    Args:
        problem: what is enumerated.
        seed: of the random choices.
        cuts: how many a walk makes.
    """

    def __init__(self, problem: Problem, seed: int = 0, cuts: int = CUTS) -> None:
        self._harvest = Harvest(
            Quota(cuts=cuts)
        )  # one for all walks, as to make an engine takes longer than a short walk
        self._walk = engines(problem, self._harvest)
        self._random = np.random.default_rng(seed)

    def probe(self, cells: Sequence[Path], width: int, deadline: float = inf) -> tuple[float, bool] | None:
        """Estimate the number of regions below all of some cells.

        Args:
            cells: paths to them.
            width: how many cells of each stratum are walked.
            deadline: when to give up, as `time.monotonic` tells the time.

        Returns:
            The estimate, and whether it is exact, as nothing had to be thinned out; None if it took too long.
        """
        strata: dict[int, list[tuple[Path, float]]] = defaultdict(list)
        next_strata: list[int] = []

        def put(path: Path, weight: float) -> None:
            stratum = int(path[-1]) >> 1 if len(path) else -1
            if stratum not in strata:
                heappush(next_strata, stratum)
            strata[stratum].append((path, weight))

        for path in cells:
            put(path, 1.0)
        regions, exact = 0.0, True
        while next_strata:
            stratum = strata.pop(heappop(next_strata))
            exact &= len(stratum) <= width
            kept, weights = thin(np.array([weight for _, weight in stratum]), width, self._random.random())
            for at, weight in zip(kept, weights.tolist(), strict=True):
                if time.monotonic() > deadline:
                    return None
                found, left = self._below(stratum[at][0])
                regions += weight * found
                for path in left:
                    put(path, weight)
        return regions, exact

    def _below(self, path: Path) -> tuple[int, list[Path]]:
        """Walk a little below a cell: how many regions there are, and the cells that are left."""
        self._harvest.clear()
        self._harvest.begin(0, path)
        self._walk()
        piece = self._harvest.piece(np.array([0]))
        return len(piece.points), [np.append(path, _steps(piece, code)) for code in piece.open_parents.tolist()]


def _steps(piece: Piece, code: int) -> Path:
    """The cuts between the start of a piece and a place in it."""
    steps = []
    while code >= 0:
        steps.append(2 * int(piece.cut_neurons[code // 2]) + code % 2)
        code = int(piece.cut_parents[code // 2])
    return np.array(steps[::-1], dtype=np.int32)
