"""Descent from a point to nearer ones, region by region, down to a local optimum."""

from __future__ import annotations

import time

import numpy as np

from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.sought import Vector

ROUNDS = 40
TOUCHING = 1e-9  # a neuron no further from 0 than this, relative to the sum of its terms, is at 0
TRIED = 24  # greatest number of regions tried behind facets
NEARER = 1e-9  # relative: each step must lead nearer by this share


def descended(regions: RegionPoints, u: Vector, cutoff: float, until: float = np.inf) -> tuple[float, Vector | None]:
    """Find the nearest point of the region of a point, then of a region behind one of its facets, and so on.

    Args:
        regions: The question.
        u: Starting point.
        cutoff: Distance from which on points do not count.
        until: Time on the monotonic clock at which to stop, once the region of the point has been looked at.

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
            if time.monotonic() >= until:
                return distance, best
            other = pattern.copy()
            other[j] = not other[j]
            if attempt(other):
                pattern = other
                break
        else:
            break
    return distance, best


def _terms(regions: RegionPoints, u: Vector) -> np.ndarray:
    """Return the sizes of the terms of which pre-activations are sums."""
    program = regions.sought.program
    known, sizes = np.abs(u), [np.zeros(0)]
    for stage in program.stages:
        size = np.abs(stage.weight) @ known + np.abs(stage.bias)
        sizes.append(size)
        known = np.concatenate([known, size])
    return np.concatenate(sizes)
