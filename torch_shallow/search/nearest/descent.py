"""From a point to nearer ones, from region to region: what it ends at is a local optimum."""

from __future__ import annotations

import numpy as np

from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.sought import Vector

ROUNDS = 40
TOUCHING = 1e-9  # a neuron is at 0 if it is no further from it, relative to the terms that it is added up from
TRIED = 24  # regions behind facets, at most
NEARER = 1e-9  # relative: a step has to lead nearer by so much


def descended(regions: RegionPoints, u: Vector, cutoff: float) -> tuple[float, Vector | None]:
    """The nearest point of the region of a point, then that of a region behind one of its facets, and so on.

    Args:
        regions: the question.
        u: where to begin.
        cutoff: only what is nearer counts.

    Returns:
        Distance and point of the best; infinity and None if there is none.
    """
    program = regions.sought.program
    pattern = program.pattern(u[None])[0]
    best: Vector | None = None
    distance = cutoff

    def attempt(pattern: np.ndarray) -> bool:
        nonlocal best, distance
        point = regions.whole(pattern, (1.0 - NEARER) * distance)
        if point is None or not (value := -float(regions.sought.value(point[None])[0])) < distance:
            return False
        best, distance = point, value
        return True

    if not attempt(pattern):
        return np.inf, None
    for _ in range(ROUNDS):
        assert best is not None
        z = program.preactivations(best[None])[0]
        sizes = TOUCHING * _terms(regions, best)
        facets = np.flatnonzero(np.abs(z) <= sizes)
        for j in facets[:TRIED].tolist():
            other = pattern.copy()
            other[j] = not other[j]
            if attempt(other):
                pattern = other
                break
        else:
            break
    return distance, best


def _terms(regions: RegionPoints, u: Vector) -> np.ndarray:
    """The sizes of the terms that pre-activations are added up from."""
    program = regions.sought.program
    known, sizes = np.abs(u), [np.zeros(0)]
    for stage in program.stages:
        size = np.abs(stage.weight) @ known + np.abs(stage.bias)
        sizes.append(size)
        known = np.concatenate([known, size])
    return np.concatenate(sizes)
