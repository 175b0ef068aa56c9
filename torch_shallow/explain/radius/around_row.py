"""The nearest change of class around one input: one class after another, in boxes that grow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.bounds.relaxation import relaxed_bounds
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.radius.balls import DistanceGoals, EuclideanBound, greatest_entry, sum_of_entries
from torch_shallow.explain.radius.first_change import Change, first_change
from torch_shallow.explain.radius.region_point import nearest_of_region
from torch_shallow.explain.radius.surroundings import Surroundings
from torch_shallow.explain.searched import Searched, Vector
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Answer, Posed

GROWTH = 4.0
FIRST = 1e-2  # half-width of the first box where nothing is known, in lengths of the input
FARTHEST = 1e6  # and of the last one where the domain has no end
SLACK = 1e-11  # rounding of the difference of two outputs, relative to the terms that it is added up from
SMALLER = 0.8  # a search starts anew in a smaller box when a change is known at less than this share of its half-width
NEARER = 1e-10  # what is nearer by this share is not looked for
FEW_INPUTS = 32  # so many squares of entries are added up; of more, the relaxation would be too large
TOUCHING = np.linspace(-1.0, 1.0, 5)  # where the square of an entry has tangents at first
HALVED = 12  # so often is a box halved for a bound where a search was stopped
ROUNDS = 500  # of tangents


class AroundRow:
    """A search around one input.

    Args:
        searched: the network.
        around: the domain, as seen from the input.
        label: its class.
        norm: 1, 2 or infinity.
        asking: who answers.

    Attributes:
        best: the nearest change found so far.
        lower: no change is nearer: proven.
        reason: why it has ended without a proof; empty if it has not.
    """

    def __init__(self, searched: Searched, around: Surroundings, label: int, norm: float, asking: Asking) -> None:
        self.searched, self.around, self.label, self.norm, self.asking = searched, around, label, norm, asking
        self.best: Change | None = None
        self.lower, self.reason = 0.0, ""

    @property
    def distance(self) -> float:
        """Of the nearest change found so far."""
        return np.inf if self.best is None else self.best.distance

    def run(self) -> None:
        """Search boxes until nothing nearer can be outside of them."""
        self.best = first_change(self.searched, self.around, self.label, self.norm)
        length, reach = max(1.0, float(np.abs(self.around.x).max(initial=0.0))), self.around.reach
        radius = min(FIRST * length if self.best is None else self.distance, reach)
        while True:
            covers, self.reason = radius >= reach, ""
            inside = self._search(self.around.within(radius), SMALLER * radius)
            if self.distance < SMALLER * radius and not self.asking.reason:
                radius = self.distance
                continue  # the neurons are bounded better in a smaller box
            outside = np.inf if covers else radius
            self.lower = max(self.lower, min(inside, outside, self.distance))
            if self.asking.reason:
                self.reason = self.asking.reason
                self.lower = max(self.lower, self._proven_at_once(radius))
                return
            if self.distance <= outside or covers:
                return
            if self.best is None and radius >= FARTHEST * length:
                self.reason = f"no change within {radius:g} of it in any entry, and the domain goes on"
                return
            # A change in a corner of the box tells how far to look.
            radius = min(GROWTH * radius if self.best is None else self.distance, reach)

    def _proven_at_once(self, radius: float) -> float:
        """The half-width of a box in which bounds of affine forms alone show that there is no change, or 0."""
        for halved in range(HALVED):
            within = self.around.within(0.5**halved * min(radius, self.distance))
            margins = self._margins(within)
            if (relaxed_bounds(margins, within.domain(), most_programs=0).out_upper < 0.0).all():
                return 0.5**halved * min(radius, self.distance)
        return 0.0

    def _margins(self, within: Surroundings) -> ReLUProgram:
        """What each other output is above that of the class, good for a part of the surroundings."""
        in_shape = self.searched.function.in_shape
        return margins_around(self.searched.program(within.box_of_inputs(in_shape)), self.around.x, self.label)

    def _search(self, within: Surroundings, near: float) -> float:
        """How far all changes in a part of the surroundings are at least: proven.

        The search ends, and proves nothing, when a change is found that is nearer than a distance.
        """
        margins = self._margins(within)
        rivals = [other for other in range(margins.num_outputs + 1) if other != self.label]
        if len(rivals) > 1:
            highest = relaxed_bounds(margins, within.domain()).out_upper
            rivals = [other for other in rivals if highest[other - (other > self.label)] >= 0.0]
            rivals.sort(key=lambda other: -highest[other - (other > self.label)])
        if self.best is not None and self.best.other in rivals:
            rivals.remove(self.best.other)
            rivals.insert(0, self.best.other)
        nearest = np.inf
        for other in rivals:
            k = other - (other > self.label)
            margin = replace(
                margins, out_shape=(1,), out_weight=margins.out_weight[k : k + 1], out_bias=margins.out_bias[k : k + 1]
            )
            if self.best is None and not self._is_reached(margin, within, other):
                continue
            find = self._euclidean if self.norm == 2.0 else self._linear
            nearest = min(nearest, find(margin, within, other, near))
            if self.asking.reason:
                return 0.0 if other != rivals[-1] else nearest
            if self.distance < near:
                return 0.0
        return nearest

    def _is_reached(self, margin: ReLUProgram, within: Surroundings, other: int) -> bool:
        """Whether a class may win anywhere in the box: a simpler question than where it does so first."""
        slack = SLACK * _terms(margin, within)
        found = self.asking.ask(Posed(margin, within.domain(), 1, -slack, -np.finfo(np.float64).tiny))
        if found is not None and found.x is not None and found.value >= 0.0:
            self._take(found.x, other)
        return found is None or found.x is not None or found.bound >= 0.0

    def _linear(self, margin: ReLUProgram, within: Surroundings, other: int, near: float) -> float:
        """Search for a change to one class in a norm that is piecewise linear; how far all are at least."""
        d = len(within.x)
        goals = sum_of_entries(d) if self.norm == 1.0 else greatest_entry(d)
        found = self._ask(goals, margin, within, self.distance, -near)
        if found is None:
            return 0.0
        if found.x is not None:
            self._take(found.x, other)
        return max(0.0, -found.bound)

    def _euclidean(self, margin: ReLUProgram, within: Surroundings, other: int, near: float) -> float:
        """The same in the L2 norm, by tangents: each settles the region of the last point that was found.

        The nearest point of that region is known by a quadratic program, and all of the region is beyond the tangent
        there. So the rounds come to an end: no region is met twice.
        """
        d, proven = len(within.x), 0.0
        farthest = float(np.linalg.norm(np.maximum(-within.lower, within.upper)))
        directions = [] if self.best is None else [_unit(self.best.u)]
        touching: list[set[float]] = [set(TOUCHING) for _ in range(d)] if d <= FEW_INPUTS else []
        for _ in range(ROUNDS):
            radius = min(self.distance, farthest)
            scaled = [sorted(t * radius for t in entry) for entry in touching]
            bound = EuclideanBound(radius, directions or [np.zeros(d)], scaled)
            found = self._ask(bound.goals(), margin, within, radius, np.inf)
            if found is None:
                return proven
            proven = max(proven, bound.distance(found.bound))
            if found.x is None or self.asking.reason or proven >= (1.0 - NEARER) * self.distance:
                return proven
            nearest = nearest_of_region(margin, within, found.x)
            self._take(found.x if nearest is None else nearest, other)
            if self.distance < near:
                return proven
            directions.append(_unit(found.x if nearest is None else nearest))
            for entry, value in zip(touching, found.x / radius, strict=False):
                entry.add(float(value))
        self.reason = f"the tangents have not settled it in {ROUNDS} rounds"
        return proven

    def _ask(
        self, goals: DistanceGoals, margin: ReLUProgram, within: Surroundings, farthest: float, enough: float
    ) -> Answer | None:
        floor = -(1.0 - NEARER) * farthest if np.isfinite(farthest) else -np.inf
        slack = SLACK * _terms(margin, within)
        return self.asking.ask(Posed(goals.ahead_of(margin), within.domain(), len(goals), floor, enough, slack))

    def _take(self, u: Vector, other: int) -> None:
        distance = float(np.linalg.norm(u, self.norm))
        if distance < self.distance:
            self.best = Change(u, other, distance)


def margins_around(program: ReLUProgram, x: Vector, label: int) -> ReLUProgram:
    """What each other output is above that of a class, as a function of the step u from a point."""
    d = program.num_inputs
    stages = tuple(replace(stage, bias=stage.bias + stage.weight[:, :d] @ x) for stage in program.stages)
    weight = np.delete(program.out_weight - program.out_weight[label], label, axis=0)
    bias = np.delete(program.out_bias - program.out_bias[label], label) + weight[:, :d] @ x
    return replace(
        program, in_shape=(d,), out_shape=(len(bias),), stages=stages, out_weight=weight, out_bias=bias, whole=None
    )


def _terms(margin: ReLUProgram, within: Surroundings) -> float:
    """The size of the terms that a margin is added up from, at its point and up to the ends of the box."""
    size = np.maximum(-within.lower, within.upper)
    hidden = np.maximum(margin.preactivations(np.zeros((1, len(size))))[0], 0.0)
    return float(np.abs(margin.out_weight[0]) @ np.concatenate([size, hidden]) + np.abs(margin.out_bias[0]))


def _unit(u: Vector) -> Vector:
    """The direction of a point; of length 1 at most, rounding included."""
    size = float(np.linalg.norm(u))
    return u / size * (1.0 - 1e-15 * len(u)) if size > 0.0 else u
