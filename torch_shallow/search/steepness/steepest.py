"""The steepest region of a domain: an exact answer when the search ends, a proven interval whenever it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
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

SAMPLES = 256  # points to begin with
STARTS = 24  # of the steepest of which one climbs to steeper neighbours


def steepest(
    asked: Steepness,
    bounded: Bounded | None = None,
    *,
    points: Sequence[Float[np.ndarray, "inputs"]] | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    patience: Patience | None = None,
) -> Answer:
    """The greatest slope, in a region with an interior, of which the answer has a point.

    Complete, and sound up to rounding: a region counts that is wider than 1e-10 of the domain.

    Args:
        asked: the question.
        bounded: its program on its domain, where several questions are asked of that.
        points: interior points of regions to begin with.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        time_limit: stop after about so many seconds; no limit if None.
        progress: show the interval that is proven.
        patience: as of `torch_shallow.search.ask.answer`.
    """
    begun = time.monotonic()
    bounded = Bounded.of(asked.program, asked.domain) if bounded is None else bounded
    x, value = None, asked.floor
    job = Steepening(asked, bounded)
    for point in climbed(job.engine, STARTS) if points is None else points:
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
        time_limit=time_limit,
        progress=progress,
        patience=patience,
    )
    seconds = time.monotonic() - begun
    if found.x is None:
        value = value if x is not None else -np.inf
        return replace(found, x=x, value=value, bound=max(value, found.bound), seconds=seconds)
    return replace(found, bound=max(found.value, found.bound), seconds=seconds)


def interior_points(bounded: Bounded) -> Float[np.ndarray, "points inputs"]:
    """Points of a domain that lie inside of their regions, always the same ones; at least one."""
    scaled, rng = bounded.scaled, np.random.default_rng(0)
    drawn = rng.uniform(-1.0, 1.0, (SAMPLES, scaled.num_free))
    drawn[::2] = np.sign(drawn[::2]) * (1.0 - 1e-3 * np.abs(drawn[::2]))  # near corners, where slopes are unusual
    slopes = bounded.walls[:, scaled.free] * scaled.half[scaled.free]
    constants = bounded.walls[:, :-1] @ scaled.middle + bounded.walls[:, -1]
    inside = (drawn @ slopes.T + constants > 0.0).all(axis=1)
    nearby = bounded.inner + 1e-6 * drawn[:1]
    return np.stack([scaled.unscaled(v) for v in np.concatenate([nearby, drawn[inside]])])


def climbed(engine: SlopeEngine, count: int) -> list[Float[np.ndarray, "inputs"]]:
    """Interior points of steep regions: from the steepest of some points, to steeper neighbours."""
    x, scaled = interior_points(engine.bounded), engine.scaled
    slopes = local_models(engine.asked.program, x)[..., engine.asked.moving]
    best = np.argsort([-engine.asked.of(each) for each in slopes], kind="stable")[:count]
    half, middle = scaled.half[scaled.free], scaled.middle[scaled.free]
    tops = [scaled.unscaled(engine.climb((point[scaled.free] - middle) / half)) for point in x[best]]
    return [*x[best[:1]], *tops]


def local_models(
    program: ReLUProgram, x: Float[np.ndarray, "points inputs"]
) -> Float[np.ndarray, "points outputs inputs"]:
    """The slopes of the outputs around each point."""
    return np.stack([program.affine_maps(pattern)[2] for pattern in program.pattern(x)])


@dataclass(frozen=True, eq=False)
class Steepening:
    """The job of finding the steepest region.

    Attributes:
        asked: the question.
        bounded: its program on its domain.
    """

    asked: Steepness
    bounded: Bounded

    @cached_property
    def engine(self) -> SlopeEngine:
        """What opens cells; each process makes its own."""
        return SlopeEngine(self.asked, self.bounded)

    def do(self, task: CellTask, interrupted: Callable[[], bool]) -> CellOutcome:
        """Open the cells of a task."""
        del interrupted  # tasks are short
        return self.engine.explore(task)
