"""Search for the nearest point that reaches one of some targets, in one ball after another, each larger."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from torch_shallow.explain.asking import Asking
from torch_shallow.explain.nearby.box_questions import box_questions
from torch_shallow.explain.nearby.first_reach import Reached, first_reach
from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.explain.nearby.vantage import Vantage
from torch_shallow.explain.searched import Vector
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.nearest.descent import descended
from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.seeking import Seeking
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.runs.budget import interruptible
from torch_shallow.search.runs.schedule import INTERRUPTED

GROWTH = 2.0  # ratio of successive radii where nothing is known
RUNG = 1.25  # ratio of successive radii below the nearest known point
AT_ONCE = 0.4  # the same, where no time is left
SHRINK = 0.7  # ratio of successive radii until the bound alone shows that a ball is empty
FIRST = 1e-2  # radius of the first ball where nothing is known, in lengths of the input
FARTHEST = 1e6  # radius of the last ball where the domain is unbounded, in lengths of the input
SLACK = 1e-11  # rounding error of an output, relative to the terms that it is summed from
SMALLER = 0.8  # share of a ball's radius: a nearer point restarts the search in a smaller ball
ROOM = 1e-9  # relative excess of a ball that covers the domain
NEARER = 1e-10  # relative improvement of the distance that is not searched for
TRIED = 24  # balls tried for a bound
MANY_NEURONS = 40  # undecided neurons in a ball above which smaller balls are searched first


class GrowingBalls:
    """A search around one input.

    Complete, if it is not stopped and the domain is bounded: `best` is then the nearest point, up to rounding, or there
    is none. Sound whenever it ends: nothing is nearer than `lower`.

    Args:
        vantage: the network, as seen from the input, with its domain.
        targets: targets, any of which may be reached.
        norm: norm of the distance: 1, 2 or infinity.
        asking: the options and the time limit of the search.

    Attributes:
        best: the nearest point found so far.
        lower: proven lower bound on the distance of any point that reaches a target.
        radius: radius of the largest ball that was searched.
        reason: reason why the search has ended without a proof; empty if it has not.
    """

    def __init__(self, vantage: Vantage, targets: Sequence[TargetRows], norm: float, asking: Asking) -> None:
        self.vantage, self.targets, self.norm, self.asking = vantage, targets, norm, asking
        self.best: Reached | None = None
        self.lower, self.radius, self.reason = 0.0, 0.0, ""
        self.farthest = (1.0 + ROOM) * vantage.farthest(norm)
        self._last: Seeking | None = None

    @property
    def distance(self) -> float:
        """Distance of the nearest point found so far."""
        return np.inf if self.best is None else self.best.distance

    def run(self) -> None:
        """Search balls until nothing outside can be nearer.

        The first Ctrl-C ends the search with what is proven by then; the second raises KeyboardInterrupt.
        """
        with interruptible() as interrupted, self.asking.watched():
            self._run(interrupted)
        if self.best is None and self.lower >= self.farthest:
            self.lower = np.inf
        self.lower = min(self.lower, self.distance)

    def _run(self, interrupted: Callable[[], bool]) -> None:
        self.vantage.program(FIRST * self.vantage.length)  # a program that is valid everywhere is reused from here on
        self.best = first_reach(self.vantage, self.targets, self.norm)
        if self.best is not None:
            self._descend(self.best)
        radius = self._first_radius(interrupted)
        while not self._is_settled():
            before = self.distance
            self._search(radius)
            if self.asking.is_over or interrupted():
                self.reason = self.asking.reason or INTERRUPTED
                self._prove_at_once()
                return
            if self._is_settled():
                return
            if self.best is None and radius >= FARTHEST * self.vantage.length:
                self.reason = f"nothing within {radius:g}, and the domain is unbounded"
                return
            if self.lower < radius and self.distance == before:
                # The search has ended, and the part that it has left open is not a point.
                self.reason = "" if self.lower >= (1.0 - 1e-8) * self.distance else "rounding"
                return
            growth = GROWTH if self.best is None else RUNG
            radius = min(max(growth * self.lower, radius), self.distance, self.farthest)

    def _is_settled(self) -> bool:
        """Whether nothing nearer can be found, except by rounding."""
        return self.lower >= min((1.0 - 2.0 * NEARER) * self.distance, self.farthest)

    def _first_radius(self, interrupted: Callable[[], bool]) -> float:
        """Radius of the first ball: that of the nearest known point, or less if many neurons are undecided there."""
        radius = min(FIRST * self.vantage.length if self.best is None else self.distance, self.farthest)
        for _ in range(TRIED):
            job = self._job(radius)
            proven = self._proven(job)
            if proven >= job.sought.reach or job.undecided <= MANY_NEURONS or self._is_settled():
                break
            if interrupted() or self.asking.no_time_left():
                break
            radius *= SHRINK
        return radius

    def _prove_at_once(self) -> None:
        """Prove some bound where no search has begun."""
        radius = min(self.distance, self.farthest)
        radius = radius if radius < np.inf else FIRST * self.vantage.length
        for _ in range(TRIED):
            if self.lower > 0.0:
                return
            self._proven(self._job(radius))
            radius *= AT_ONCE

    def _proven(self, job: Seeking) -> float:
        """Bound that a ball proves without a search, which is recorded."""
        proven = min(job.proven, job.sought.reach)
        self.lower = max(self.lower, proven)
        return proven

    def _search(self, radius: float) -> None:
        """Search a ball; the search ends early when a point is found that is much nearer than its radius."""
        job = self._job(radius)
        boxes = box_questions(job.sought, SLACK) if job.undecided > MANY_NEURONS else ()
        answers = (self.asking.ask(box, number=-1) for box in boxes) if boxes else [self.asking.seek(job)]
        nearest = job.sought.reach
        for found in answers:
            if found is None:
                return
            if found.x is not None:
                self._take(found.x)
            nearest = min(nearest, -found.bound)
        self.lower = max(self.lower, nearest)

    def _job(self, radius: float) -> Seeking:
        reach = (1.0 - NEARER) * self.distance if radius >= self.distance else radius
        self.radius = max(self.radius, reach)
        if self._last is None or self._last.sought.reach != reach:
            self._last = Seeking(self.sought(reach), self.asking.until)
        return self._last

    def sought(self, reach: float) -> Sought:
        """The question for a ball."""
        vantage = self.vantage
        program = vantage.asked(reach, self.targets)
        near = reach if self.best is None else SMALLER * reach
        sizes = np.clip(np.maximum(np.abs(vantage.lower), np.abs(vantage.upper)), 0.0, reach)
        return Sought(
            program,
            vantage.lower,
            vantage.upper,
            tuple(len(target.offsets) for target in self.targets),
            self.norm,
            reach,
            near,
            SLACK * _terms(program, sizes),
            vantage.whole,
        )

    def _descend(self, reached: Reached) -> None:
        """Descend from a point that reaches a target to a local optimum."""
        sought = self.sought(reached.distance).single[reached.target]
        regions = RegionPoints(sought)
        if regions.is_cheap:
            _, point = descended(regions, reached.u, reached.distance, self._halfway)
            if point is not None:
                self._take(point)

    @property
    def _halfway(self) -> float:
        """Time on the monotonic clock by which half of the remaining time is used up."""
        now = time.monotonic()
        return now + 0.5 * max(0.0, self.asking.until - now)

    def _take(self, u: Vector) -> None:
        distance = float(np.linalg.norm(u, self.norm))
        if distance < self.distance:
            outputs = self.vantage.outputs(u[None])[0]
            target = int(np.argmin([target.excess(outputs) for target in self.targets]))
            self.best = Reached(u, distance, target)


def _terms(program: ReLUProgram, sizes: Vector) -> np.ndarray:
    """Sizes of the terms that outputs are summed from, at 0 and up to the ends of the box."""
    hidden = np.maximum(program.preactivations(np.zeros((1, len(sizes))))[0], 0.0)
    terms: np.ndarray = np.abs(program.out_weight) @ np.concatenate([sizes, hidden]) + np.abs(program.out_bias)
    return terms
