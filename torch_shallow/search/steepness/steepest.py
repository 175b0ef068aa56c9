"""Steepest region of a domain: exact when the search completes, a proven interval whenever it stops earlier."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.ask import search_cells
from torch_shallow.search.question import Answer, CellOutcome, CellTask
from torch_shallow.search.runs.fingerprint import Setting, fingerprint_of
from torch_shallow.search.runs.patience import Patience
from torch_shallow.search.steepness.slope_engine import Bounded, SlopeEngine
from torch_shallow.search.steepness.steepness import Steepness

SAMPLES = 256  # initial points
NEURONS, CLIMBING = 0.4, 0.6  # shares of a time limit after which neurons are bounded, and points have climbed
NOTHING = 1e-3  # time in seconds for a search that only opens its first cells
STARTS = 24  # number of steepest points from which to climb to steeper neighbours


def steepest(
    asked: Steepness,
    bounded: Bounded | None = None,
    *,
    points: Sequence[Float[np.ndarray, "inputs"]] | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    patience: Patience | None = None,
    begun: float | None = None,
) -> Answer:
    """Find the greatest slope of all regions that have an interior; the answer has a point of the steepest one.

    Complete, and sound up to rounding: a region counts if it is wider than 1e-10 of the domain.

    Args:
        asked: The question.
        bounded: Its program on its domain, for sharing among several questions.
        points: Interior points of regions from which to start.
        workers: A number of threads, or any `concurrent.futures.Executor`.
        time_limit: Seconds after which to stop, approximately; no limit by default.
        progress: Whether to show the proven interval.
        patience: Logs a line in a long search without a limit; its own by default.
        begun: Time on the monotonic clock at which the time limit starts; now by default.
    """
    begun = time.monotonic() if begun is None else begun
    patience = patience or Patience(begun=begun)

    def after(share: float) -> float:
        """Return the time when this share of the limit is used up."""
        return np.inf if time_limit is None else begun + share * time_limit

    x, value = None, asked.floor
    with ExitStack() as stack:
        if time_limit is None and not progress:
            stack.enter_context(patience.watching())
        bounded = Bounded.of(asked.program, asked.domain, after(NEURONS)) if bounded is None else bounded
        job = Steepening(asked, bounded)
        for point in climbed(job.engine, STARTS, after(CLIMBING)) if points is None else points:
            slope = asked.at(point)
            if slope > value:
                x, value = point, slope
    settings: dict[str, Setting] = {"norm": asked.norm, "floor": value, "enough": asked.enough}
    if x is not None and value > asked.enough:
        return Answer(x, value, np.inf, 0, time.monotonic() - begun)
    found = search_cells(
        job,
        lambda: fingerprint_of(asked.program, None, asked.domain, settings),
        floor=value,
        enough=asked.enough,
        workers=workers,
        time_limit=None if time_limit is None else max(NOTHING, begun + time_limit - time.monotonic()),
        progress=progress,
        patience=patience,
    )
    if found.reason.startswith("time_limit"):
        found = replace(found, reason=f"time_limit={time_limit}")
    seconds = time.monotonic() - begun
    if found.x is None:
        value = value if x is not None else -np.inf
        return replace(found, x=x, value=value, bound=max(value, found.bound), seconds=seconds)
    return replace(found, bound=max(found.value, found.bound), seconds=seconds)


def interior_points(bounded: Bounded) -> Float[np.ndarray, "points inputs"]:
    """Return points of a domain inside their regions, the same in every call; at least one."""
    scaled, rng = bounded.scaled, np.random.default_rng(0)
    drawn = rng.uniform(-1.0, 1.0, (SAMPLES, scaled.num_free))
    drawn[::2] = np.sign(drawn[::2]) * (1.0 - 1e-3 * np.abs(drawn[::2]))  # near corners, where slopes are unusual
    slopes = bounded.walls[:, scaled.free] * scaled.half[scaled.free]
    constants = bounded.walls[:, :-1] @ scaled.middle + bounded.walls[:, -1]
    inside = (drawn @ slopes.T + constants > 0.0).all(axis=1)
    nearby = bounded.inner + 1e-6 * drawn[:1]
    return np.stack([scaled.unscaled(v) for v in np.concatenate([nearby, drawn[inside]])])


def climbed(engine: SlopeEngine, count: int, until: float = np.inf) -> list[Float[np.ndarray, "inputs"]]:
    """Return interior points of steep regions, climbing from the steepest of some points to steeper neighbours.

    Args:
        engine: The engine, which knows the question.
        count: Number of points from which to climb.
        until: Time on the monotonic clock at which to stop.
    """
    x, scaled = interior_points(engine.bounded), engine.scaled
    slopes = local_models(engine.asked.program, x)[..., engine.asked.moving]
    best = np.argsort([-engine.asked.of(each) for each in slopes], kind="stable")[:count]
    half, middle = scaled.half[scaled.free], scaled.middle[scaled.free]
    tops = [scaled.unscaled(engine.climb((point[scaled.free] - middle) / half, until)) for point in x[best]]
    return [*x[best[:1]], *tops]


def local_models(
    program: ReLUProgram, x: Float[np.ndarray, "points inputs"]
) -> Float[np.ndarray, "points outputs inputs"]:
    """Return the slopes of the outputs around each point."""
    return np.stack([program.affine_maps(pattern)[2] for pattern in program.pattern(x)])


@dataclass(frozen=True, eq=False)
class Steepening:
    """The job of finding the steepest region.

    Attributes:
        asked: The question.
        bounded: Its program on its domain.
    """

    asked: Steepness
    bounded: Bounded

    @cached_property
    def engine(self) -> SlopeEngine:
        """The engine that opens cells; each process makes its own."""
        return SlopeEngine(self.asked, self.bounded)

    def do(self, task: CellTask, interrupted: Callable[[], bool]) -> CellOutcome:
        """Open the cells of a task."""
        del interrupted  # tasks are short
        return self.engine.explore(task)
