"""Branch and bound over the integer features of one region."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.explain.counterfactuals.constraints import Changes

Vector = Float[np.ndarray, "dimension"]
INTEGRAL = 1e-6


class Projection(NamedTuple):
    """Result of one program: a proven bound, and the nearest point; None if it is not nearer than the cutoff."""

    bound: float
    point: Vector | None


class FoundPoint(NamedTuple):
    """A point with its distance, and the box in which its integers are fixed."""

    distance: float
    point: Vector
    lower: Vector
    upper: Vector


@dataclass(frozen=True, eq=False)
class Nearest:
    """Result of a search.

    Attributes:
        found: the nearest point, or None.
        region: number of its region; -1 if there is none.
        bound: proven lower bound on the distance.
        reason: reason why the search was stopped; empty if it was not.
    """

    found: FoundPoint | None
    region: int
    bound: float
    reason: str = ""


Solve = Callable[[Vector, Vector, float], Projection]


def nearest_whole(
    problem: Changes, nearest: Solve, first: Projection, norm: float, cutoff: Callable[[float], float], best: float
) -> tuple[float, FoundPoint | None]:
    """Find the nearest point whose integer entries are integers.

    `nearest` solves a program in a box, given a cutoff; `first` is its result in the whole box. Parts at least as far
    away as `cutoff`, given the best distance, are discarded.

    Returns:
        A lower bound of all that was discarded, and the nearest point, if it is nearer than the best.
    """
    if first.point is None:
        return first.bound, None
    floor, number = np.inf, count()
    found: FoundPoint | None = None
    heap: list[tuple[float, int, Vector, Vector, Vector]] = [
        (first.bound, next(number), first.point, problem.lower, problem.upper)
    ]
    while heap:
        bound, _, point, lower, upper = heapq.heappop(heap)
        if bound >= cutoff(best):
            floor = min(floor, bound)
            continue
        values = problem.values(point)
        off = np.where(problem.whole, np.abs(values - np.round(values)), 0.0)
        if off.max(initial=0.0) <= INTEGRAL:
            ends = np.where(problem.whole, problem.of_values(np.round(values)), 0.0)
            low, high = (np.where(problem.whole, ends, box) for box in (lower, upper))
            answer = nearest(low, high, cutoff(best)) if problem.whole.any() else Projection(bound, point)
            if answer.point is not None:
                distance = float(np.linalg.norm(answer.point, norm))
                if distance < best:
                    best, found = distance, FoundPoint(distance, answer.point, low, high)
            if bound >= cutoff(best) or not (problem.whole & (lower < upper)).any():
                floor = min(floor, bound)
                continue
        open_ends = problem.whole & (lower < upper)
        chosen = int(np.where(open_ends, off, -1.0).argmax())
        for low, high in _branches(problem, chosen, values, lower, upper):
            answer = nearest(low, high, cutoff(best)) if (low <= high).all() else Projection(np.inf, None)
            if answer.point is None:
                floor = min(floor, max(bound, answer.bound))
            else:
                heapq.heappush(heap, (max(bound, answer.bound), next(number), answer.point, low, high))
    return floor, found


def _branches(
    problem: Changes, chosen: int, values: Vector, lower: Vector, upper: Vector
) -> list[tuple[Vector, Vector]]:
    """Boxes below and above the value of an entry (and at it, if it is an integer) that share no integer."""
    near = float(np.round(values[chosen]))
    whole = abs(values[chosen] - near) <= INTEGRAL
    below = near - 1.0 if whole else float(np.floor(values[chosen]))
    parts = (
        [(-np.inf, below), (near, near), (near + 1.0, np.inf)] if whole else [(-np.inf, below), (below + 1.0, np.inf)]
    )
    boxes = []
    for part in parts:
        ends = values.copy()
        limits = []
        for end in part:
            ends[chosen] = end
            limits.append(float(problem.of_values(ends)[chosen]))
        low, high = lower.copy(), upper.copy()
        low[chosen], high[chosen] = max(low[chosen], min(limits)), min(high[chosen], max(limits))
        if low[chosen] > high[chosen] and low[chosen] - high[chosen] <= 1e-12 * (1.0 + abs(low[chosen])):
            low[chosen] = high[chosen]  # an end of the range, up to rounding
        boxes.append((low, high))
    return boxes
