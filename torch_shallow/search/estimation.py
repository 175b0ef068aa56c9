"""Probes, as many as there is time for, and what they say together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, sqrt
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Float, Int, Int32

from torch_shallow.search.growing_tree import Growth, Piece
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.task import engines
from torch_shallow.search.task_output import Harvest, Quota


def thin(
    weights: Float[np.ndarray, "all"], most: int, start: float
) -> tuple[Int[np.ndarray, "some"], Float[np.ndarray, "some"]]:
    """Choose `most` of some things, those of large weight with more probability.

    Each is kept with some probability `p` and then has weight `weight / p`, so on average none has changed. Large
    weights are kept as they are; all others become equal, for which `p` is proportional to the weight. The choice is
    systematic, as of every k-th thing: neighbours seldom come together, and the number kept is not random (Madow, "On
    the theory of systematic sampling, II", 1949).

    Args:
        weights: positive.
        most: how many to keep, at least 1.
        start: a random number, uniform between 0 and 1, which decides.

    Returns:
        Which are kept, in order, and their new weights.
    """
    if len(weights) <= most:
        return np.arange(len(weights)), weights
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # what each and all smaller ones weigh together
    equal = rest[:most] / np.arange(most, 0, -1)  # the weight of all others if so many large ones are kept
    large = int(np.argmax(falling[:most] < equal)) if (falling[:most] < equal).any() else most - 1
    threshold = equal[large]
    ends = np.cumsum(np.minimum(1.0, weights / threshold))
    steps = np.floor(ends - start)
    kept = np.flatnonzero(np.diff(steps, prepend=np.floor(-start)) > 0.0)
    return kept, np.maximum(weights[kept], threshold)


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


LEAST_PROBES = 4  # fewer say nothing of their spread
PATIENCE = 5.0  # times as long as asked for, a few probes may take
MOST_PROBES = 24  # so many say enough of it; if there is time for more, wider ones say more of the number


@dataclass(frozen=True)
class Sample:
    """Independent estimates of the number of regions.

    Attributes:
        totals: what each probe says, those known before included; one number if it is exact.
        exact: whether all regions were found.
    """

    totals: tuple[float, ...]
    exact: bool

    @property
    def regions(self) -> float:
        """The estimate: unbiased."""
        return fmean(self.totals)

    @property
    def standard_error(self) -> float:
        """How far the estimate may well be off: its standard deviation, as the spread of the probes tells it."""
        return 0.0 if self.exact else stdev(self.totals) / sqrt(len(self.totals))


def estimate_open(problem: Problem, growth: Growth, seconds: float, seed: int = 0) -> Sample | None:
    """Estimate how many regions there are, from those that are known and probes of the cells that are open.

    Probes are made wider until one takes a fair share of the time. How many there will be is decided then, and those
    before do not count: so the estimate is unbiased.

    Args:
        problem: what is enumerated.
        growth: what is known.
        seconds: about how long to take. A few probes are made in any case.
        seed: of the random choices.

    Returns:
        The probes; None if a few of the narrowest take more than five times as long.
    """
    known, cells = growth.num_regions, [growth.path(code) for code in growth.open]
    prober = Prober(problem, seed)
    width, begun = 1, time.monotonic()
    deadline = begun + PATIENCE * seconds
    while True:
        last = time.monotonic()
        probe = prober.probe(cells, width, deadline)
        now = time.monotonic()
        if probe is None:
            return None
        if probe[1]:
            return Sample((known + probe[0],), exact=True)
        if MOST_PROBES * (now - last) > seconds or now - begun > seconds / 4:
            break
        width *= 2
    count = max(LEAST_PROBES, min(MOST_PROBES, int((begun + seconds - now) / (now - last))))
    probes = [prober.probe(cells, width, deadline) for _ in range(count)]
    totals = tuple(known + probe[0] for probe in probes if probe is not None)
    return Sample(totals, exact=False) if len(totals) == count else None
