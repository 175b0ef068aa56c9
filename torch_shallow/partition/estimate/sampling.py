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
