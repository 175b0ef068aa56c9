"""Probes, as many as there is time for, and what they say together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from torch_shallow.partition.estimate.probe import Prober
from torch_shallow.partition.growth import Growth
from torch_shallow.partition.problem import Problem

LEAST_PROBES = 4  # fewer say nothing of their spread
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


def estimate_open(problem: Problem, growth: Growth, seconds: float, seed: int = 0) -> Sample:
    """Estimate how many regions there are, from those that are known and probes of the cells that are open.

    Probes are made wider until one takes a fair share of the time. How many there will be is decided then, and those
    before do not count: so the estimate is unbiased.

    Args:
        problem: what is enumerated.
        growth: what is known.
        seconds: about how long to take. A few probes are made in any case.
        seed: of the random choices.
    """
    known, cells = growth.num_regions, [growth.path(code) for code in growth.open]
    prober = Prober(problem, seed)
    width, begun = 1, time.monotonic()
    while True:
        last = time.monotonic()
        total, exact = prober.probe(cells, width)
        now = time.monotonic()
        if exact:
            return Sample((known + total,), exact=True)
        if MOST_PROBES * (now - last) > seconds or now - begun > seconds / 4:
            break
        width *= 2
    count = max(LEAST_PROBES, min(MOST_PROBES, int((begun + seconds - now) / (now - last))))
    return Sample(tuple(known + prober.probe(cells, width)[0] for _ in range(count)), exact=False)
