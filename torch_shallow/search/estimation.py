"""Estimates of the number of regions, from as many random probes as time allows."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import comb, inf, sqrt
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines import engines
from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import Harvest, Quota


def upper_bound(problem: Problem) -> int:
    """Return an upper bound of the number of activation regions of a program.

    From T. Serra, C. Tjandraatmadja, S. Ramalingam, "Bounding and counting linear regions of deep neural networks"
    (2018), Theorem 1, extended to programs whose stages may read any earlier stage; in exact integers.

    Proof. In a cell where all earlier stages have a constant pattern, everything that this stage and later ones read is
    affine in the point; let its rank be at most `d`. The `n` neurons of the stage that change sign somewhere cut by
    hyperplanes of rank `r`, at most `d` and at most the rank of their weights. They leave at most sum of C(n, j) over
    j <= r cells (Zaslavsky), of which at most C(n, j) have exactly j of the neurons inactive. If later stages read
    nothing before this one, what they read has rank at most that of the stage and at most the number of its active
    neurons; otherwise still `d`. So a bound F(j) of the number of regions below a cell can only fall with j, and the
    sum over cells is greatest if there are as many cells as possible with few inactive neurons: at most the sum of
    C(n, j) F(j) over j <= r.

    Args:
        problem: The network and its domain. In a bounded box, neurons that keep their sign by interval arithmetic do
            not count.
    """
    program, chart, closed = problem.program, problem.chart, problem.network.closed
    ranks: list[tuple[int, int, int, int]] = []  # per stage: cutting neurons, active ones, both ranks
    for weight, signs in zip(_weights(program, chart), _known_signs(program, chart), strict=True):
        cutting = ~(signs[0] | signs[1])
        ranks.append((int(cutting.sum()), int(signs[0].sum()), _rank(weight[cutting]), _rank(weight[~signs[1]])))

    dimensions = range(chart.num_coordinates + 1)
    below = [1 for _ in dimensions]  # regions that later stages make of a cell, by its dimension
    for stage in range(len(ranks) - 1, -1, -1):
        (count, active, rank_of_cutting, rank_of_all), is_closed = ranks[stage], closed[stage]
        before = []
        for rank in dimensions:
            passed = min(rank, rank_of_all)
            before.append(
                sum(
                    comb(count, j) * below[min(passed, active + count - j) if is_closed else rank]
                    for j in range(min(rank, rank_of_cutting) + 1)
                )
            )
        below = before
    return below[-1]


def _weights(program: ReLUProgram, chart: Chart) -> list[Float[np.ndarray, "neurons sources"]]:
    """Return the weights of each stage, with chart coordinates in place of inputs."""
    d = program.num_inputs
    return [np.hstack([stage.weight[:, :d] @ chart.directions.T, stage.weight[:, d:]]) for stage in program.stages]


def _rank(weight: Float[np.ndarray, "rows columns"], most_entries: int = 1 << 22) -> int:
    """Return the rank of a matrix, whatever the units of its rows and columns; more if the matrix is large."""
    weight = weight[weight.any(axis=1)][:, weight.any(axis=0)]
    if weight.size == 0 or weight.size > most_entries:
        return min(weight.shape)
    weight = weight / np.abs(weight).max(axis=1, keepdims=True)
    return int(np.linalg.matrix_rank(weight / np.abs(weight).max(axis=0)))


def _known_signs(
    program: ReLUProgram, chart: Chart
) -> list[tuple[Bool[np.ndarray, "neurons"], Bool[np.ndarray, "neurons"]]]:
    """Return which neurons of each stage are active, and inactive, in the whole domain; none unless it is a box."""
    if not chart.is_box:
        return [(np.zeros(stage.num_neurons, dtype=bool),) * 2 for stage in program.stages]
    d, signs = program.num_inputs, []
    middle, radius = np.zeros(chart.num_coordinates), np.ones(chart.num_coordinates)
    for stage, weight in zip(program.stages, _weights(program, chart), strict=True):
        centre = weight @ middle + stage.weight[:, :d] @ chart.origin + stage.bias
        half = np.abs(weight) @ radius
        low, high = centre - half, centre + half
        signs.append((low >= 0.0, (high <= 0.0) & (low < 0.0)))
        low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        middle, radius = np.append(middle, (low + high) / 2), np.append(radius, (high - low) / 2)
    return signs


def thin(
    weights: Float[np.ndarray, "all"], most: int, start: float
) -> tuple[Int[np.ndarray, "some"], Float[np.ndarray, "some"]]:
    """Choose `most` of the given items, preferring large weights.

    An item is kept with some probability `p` and then gets the weight `weight / p`, so that no weight changes on
    average. Large weights are kept as they are; for all others, `p` is proportional to the weight and the new weights
    are equal. The choice is systematic, like taking every k-th item: neighbours seldom occur together, and the number
    kept is not random (Madow, "On the theory of systematic sampling, II", 1949).

    Args:
        weights: Positive weights.
        most: Number of items to keep, at least 1.
        start: Random number, uniform between 0 and 1, that decides the choice.

    Returns:
        The kept items, in order, and their new weights.
    """
    if len(weights) <= most:
        return np.arange(len(weights)), weights
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # sum of each weight and all smaller ones
    equal = rest[:most] / np.arange(most, 0, -1)  # weight of all others if this many large ones are kept
    large = int(np.argmax(falling[:most] < equal)) if (falling[:most] < equal).any() else most - 1
    threshold = equal[large]
    ends = np.cumsum(np.minimum(1.0, weights / threshold))
    steps = np.floor(ends - start)
    kept = np.flatnonzero(np.diff(steps, prepend=np.floor(-start)) > 0.0)
    return kept, np.maximum(weights[kept], threshold)


Path = Int32[np.ndarray, "_"]  # the cuts above a cell, as in `Task`

CUTS = 8  # per walk: with fewer, a walk mostly repeats the cuts above it; with more, it stays in one corner


class Prober:
    """Estimates the number of regions below given cells.

    D. E. Knuth, "Estimating the efficiency of backtrack programs" (1975), follows one random path and multiplies the
    numbers of choices on it. Here its variance is hopeless: one side of most cuts is a sliver, so a few paths are very
    long, with estimates of 2 to their length. P.-C. Chen, "Heuristic sampling" (1992), follows many paths together and
    thins them out where several reach the same stratum. Here a stratum is the neuron of the last cut, which indicates
    the size of a cell without a walk; along a path, neuron numbers only rise. Regions that a walk finds count with the
    weight of its cell, and the cells that it leaves have that weight.

    The estimate is unbiased whatever a walk leaves open, since thinning changes no weight on average.

    Args:
        problem: The enumeration problem.
        seed: Seed for the random choices.
        cuts: Number of cuts in each walk.
    """

    def __init__(self, problem: Problem, seed: int = 0, cuts: int = CUTS) -> None:
        # A single engine for all walks, since making one takes longer than a short walk.
        self._harvest = Harvest(Quota(cuts=cuts))
        self._walk = engines(problem, self._harvest)
        self._random = np.random.default_rng(seed)

    def probe(self, cells: Sequence[Path], width: int, deadline: float = inf) -> tuple[float, bool] | None:
        """Estimate the total number of regions below the given cells.

        Args:
            cells: Paths to the cells.
            width: Number of cells of each stratum that are walked.
            deadline: When to give up, by `time.monotonic()`.

        Returns:
            The estimate, and whether it is exact because nothing was thinned out; None if it took too long.
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
        """Walk a little below a cell; return the number of regions found, and the cells left open."""
        self._harvest.clear()
        self._harvest.begin(0, path)
        self._walk()
        piece = self._harvest.piece(np.array([0]))
        below = [np.array(piece.path(code)[1], dtype=np.int32) for code in piece.open_parents.tolist()]
        return len(piece.points), [np.append(path, steps) for steps in below]


LEAST_PROBES = 4  # fewer say nothing about their spread
PATIENCE = 3.0  # a few probes may take this many times the time asked for
MOST_PROBES = 24  # enough for the spread; with more time, wider probes tell more about the number


@dataclass(frozen=True)
class Sample:
    """Independent estimates of the number of regions.

    Attributes:
        totals: Estimate of each probe, including the regions already known; a single number if it is exact.
        exact: Whether all regions were found.
    """

    totals: tuple[float, ...]
    exact: bool

    @property
    def regions(self) -> float:
        """The unbiased estimate of the number of regions."""
        return fmean(self.totals)

    @property
    def standard_error(self) -> float:
        """Standard error of the estimate, from the spread of the probes."""
        return 0.0 if self.exact else stdev(self.totals) / sqrt(len(self.totals))


def estimate_open(
    problem: Problem, known: int, cells: Sequence[Int32[np.ndarray, "depth"]], seconds: float, seed: int = 0
) -> Sample | None:
    """Estimate the number of regions from those that are known and from probes of the open cells.

    Probes are widened until one takes a fair share of the time. Their number is fixed then, and the earlier probes do
    not count, so the estimate is unbiased.

    Args:
        problem: The enumeration problem.
        known: Number of regions found so far.
        cells: The cuts above each open cell, from the root down, each as `2 * neuron + side`.
        seconds: Time to take, in seconds, approximately; a few probes are made in any case.
        seed: Seed for the random choices.

    Returns:
        The probes; None if even a few of the narrowest take, or would take, more than three times as long.
    """
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
        if now + LEAST_PROBES * (now - last) > deadline:
            return None
        if MOST_PROBES * (now - last) > seconds or now - begun > seconds / 4:
            break
        width *= 2
    count = max(LEAST_PROBES, min(MOST_PROBES, int((begun + seconds - now) / (now - last))))
    probes = [prober.probe(cells, width, deadline) for _ in range(count)]
    totals = tuple(known + probe[0] for probe in probes if probe is not None)
    return Sample(totals, exact=False) if len(totals) == count else None
