"""Observers of a run: progress, memory, the time to finish, and a forecast of the number of regions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from torch_shallow.domain import Domain
from torch_shallow.search.affine_maps import seconds_for_each_map
from torch_shallow.search.estimation import estimate_open
from torch_shallow.search.growing_tree import Growth, Piece
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.budget import Budget
from torch_shallow.search.runs.memory import check_memory
from torch_shallow.search.runs.schedule import WalkedTree

FORMAT = "{percentage:5.1f} % explored |{bar}| {unit} [{elapsed}<{remaining}]"


@contextmanager
def shown(growth: WalkedTree[Any]) -> Iterator[Callable[[WalkedTree[Any], object], None]]:
    """Show a bar of the explored share of the tree, with the number of regions and their rate.

    Each cut gives half of its cell's weight to either side. The remaining time assumes that the rest takes as long for
    its weight as the part already done, which the first seconds predict poorly.

    Args:
        growth: The growing tree.

    Yields:
        The function that updates the bar.
    """
    from tqdm.auto import tqdm

    known = growth.num_regions
    with tqdm(total=1.0, initial=growth.explored, bar_format=FORMAT, unit=f"{known:,} regions") as bar:

        def move(growth: WalkedTree[Any], _: object) -> None:
            seconds = max(bar.format_dict["elapsed"], 1e-9)
            rate = (growth.num_regions - known) / seconds
            bar.unit = f"{growth.num_regions:,} regions, {rate:,.0f} a second"
            bar.update(growth.explored - bar.n)

        yield move


logger = logging.getLogger(__name__)


class MemoryWatch:
    """Raises an error before memory runs out.

    Args:
        problem: The enumeration problem.
        store_maps: Whether local models will be stored.
        interval: Seconds between two checks.
    """

    def __init__(self, problem: Problem, store_maps: bool, interval: float = 0.25) -> None:
        self.problem, self.store_maps, self.interval = problem, store_maps, interval
        self.looked = time.monotonic()

    def __call__(self, growth: Growth, _: Piece) -> None:
        """Check the memory, if it is time.

        Raises:
            TransformError: There is not enough memory to make a network of what has been found.
        """
        if time.monotonic() - self.looked >= self.interval:
            program, chart = self.problem.program, self.problem.chart
            check_memory(program, chart, growth.num_regions, self.store_maps, growth.explored)
            self.looked = time.monotonic()


MARGIN = 1.15  # on the time reserved for the network: a large one takes longer than its parts


class FinishingTime:
    """Measures the time to make a network of the regions found, which a time limit must reserve.

    It is measured once there are a few regions, then each time that their number has doubled; the slowest counts.

    Args:
        problem: The enumeration problem.
        domain: The domain.
        store_maps: Whether local models will be stored.
        threads: Number of threads that will make them.
        budget: Where the time is recorded.
        enough: Number of regions before the first measurement.
    """

    def __init__(
        self, problem: Problem, domain: Domain, store_maps: bool, threads: int, budget: Budget, enough: int = 32
    ) -> None:
        self.problem, self.domain, self.store_maps = problem, domain, store_maps
        self.threads, self.budget, self.enough = threads, budget, enough

    def __call__(self, growth: Growth, _: Piece) -> None:
        """Measure, if there are enough regions."""
        if growth.num_regions >= self.enough:
            self.enough = 2 * growth.num_regions
            so_far = replace(growth, pieces=[*growth.pieces])  # finishing discards the pieces
            partition = so_far.finish(self.problem, self.domain)
            seconds = seconds_for_each_map(partition, local_models=self.store_maps) / self.threads
            self.budget.finishing = max(self.budget.finishing, MARGIN * seconds)


class Forecast:
    """Logs, once in a long run, an estimate of the number of regions and of the remaining time, as far as known.

    The clock starts with the first piece, since code may have been compiled before.

    Args:
        problem: The enumeration problem.
        growth: What is known at the start.
        patience: Seconds after which a run is long.
        seconds: Seconds to spend on the estimate.
    """

    def __init__(self, problem: Problem, growth: WalkedTree[Any], patience: float = 5.0, seconds: float = 1.0) -> None:
        self.problem, self.patience, self.seconds = problem, patience, seconds
        self.known, self.begun, self.is_told = growth.num_regions, np.inf, False

    def __call__(self, growth: WalkedTree[Any], _: object) -> None:
        """Estimate, if it is time and has not been done."""
        if self.begun == np.inf:
            self.known, self.begun = growth.num_regions, time.monotonic()
            return
        elapsed = time.monotonic() - self.begun
        if self.is_told or elapsed < self.patience or not growth.open:
            return
        self.is_told = True
        sample = estimate_open(self.problem, growth.num_regions, list(map(growth.path, growth.open)), self.seconds)
        rate = (growth.num_regions - self.known) / elapsed
        if sample is None:
            expected = "so many in all that not even an estimate is done in this time"
        else:
            expected = f"about {sample.regions:,.3g} in all (standard error {sample.standard_error:,.2g})"
            if rate:
                left = max(0.0, sample.regions - growth.num_regions) / rate
                expected += f", which would take about {left:,.3g} s more"
        logger.warning(
            "%s regions so far, %.3g %% of the tree explored; %s; Ctrl-C, time_limit and max_regions stop with what is "
            "known; a smaller domain, such as a box around one input, has fewer regions",
            f"{growth.num_regions:,}",
            100 * growth.explored,
            expected,
        )
