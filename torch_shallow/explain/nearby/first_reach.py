"""Descent to a point near an input that reaches a target, which gives the search its first radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.explain.nearby.vantage import Vantage
from torch_shallow.explain.searched import Vector

STEPS = 12  # steps to each target
TARGETS = 10  # targets that are tried: the nearest ones by the local model of the input
BEYOND = 1.02  # factor by which a step goes beyond the point where the local model reaches the target
DIRECTIONS = 128  # random directions in which points are tried
PIECES = 64  # pieces of a segment, one of which is then subdivided again
CUTS = 4


@dataclass(frozen=True, eq=False)
class Reached:
    """A step u that reaches one of the targets.

    Attributes:
        u: the step.
        distance: length of the step.
        target: number of the target.
    """

    u: Vector
    distance: float
    target: int


def first_reach(vantage: Vantage, targets: Sequence[TargetRows], norm: float) -> Reached | None:
    """Find a near, but not the nearest, point that reaches a target; None if none was found.

    Each step goes to where the local model of the last point reaches the target, in the best direction for the norm
    (Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", 2016). Some random points, always the same, are tried as well. The
    segment to a point that reaches a target is cut at the first such point.

    Args:
        vantage: the network and its domain.
        targets: targets, any of which may be reached.
        norm: norm of the distance: 1, 2 or infinity.
    """
    walk = _Walk(vantage, targets, norm)
    away = [walk.step(np.zeros(len(vantage.free)), target) for target in range(len(targets))]
    sizes = np.array([np.linalg.norm(u, norm) for u in away])
    for target in np.argsort(sizes, kind="stable")[:TARGETS].tolist():
        u = away[target]
        for _ in range(STEPS):
            if walk.reached(u[None])[0] >= 0:
                walk.take(u)
                break
            u = walk.step(u, target)
    for u in walk.scattered():
        walk.take(u)
    for _ in range(STEPS if walk.found is not None else 0):  # from one to a nearer one
        assert walk.found is not None
        u = walk.step(walk.found.u, walk.found.target)
        if not (walk.reached(u[None])[0] >= 0 and walk.take(u)):
            break
    return walk.found


class _Walk:
    """Steps, and the nearest point that they have found so far."""

    def __init__(self, vantage: Vantage, targets: Sequence[TargetRows], norm: float) -> None:
        self.vantage, self.targets, self.norm = vantage, targets, norm
        self.found: Reached | None = None

    def reached(self, u: Float[np.ndarray, "points dimension"]) -> np.ndarray:
        """Which target each row reaches best; -1 if none, or if the row lies outside."""
        outputs = self.vantage.outputs(u)
        excess = [(outputs @ target.rows.T + target.offsets).max(axis=1) for target in self.targets]
        best = np.argmin(excess, axis=0)
        missed = (np.min(excess, axis=0) > 0.0) | ~self.vantage.contains(u)
        which: np.ndarray = np.where(missed, -1, best)
        return which

    def take(self, u: Vector) -> bool:
        """Keep the first point on the way to u that reaches a target, and return True, if it is the nearest so far."""
        low, high, target = 0.0, 1.0, -1
        for _ in range(CUTS):
            shares = low + (high - low) * np.arange(1, PIECES + 1) / PIECES
            shares[-1] = high
            which = self.reached(shares[:, None] * u)
            if (which < 0).all():  # where rounding decides, a batch may give another result
                break
            first = int((which >= 0).argmax())
            low, high, target = (shares[first - 1] if first else low), shares[first], int(which[first])
        there = Reached(high * u, float(np.linalg.norm(high * u, self.norm)), target)
        is_nearer = target >= 0 and (self.found is None or there.distance < (1.0 - 1e-6) * self.found.distance)
        self.found = there if is_nearer else self.found
        return is_nearer

    def step(self, u: Vector, target: int) -> Vector:
        """Step from the input to a little beyond where the local model of a point reaches a target."""
        weight, bias = self.vantage.local_map(u)
        rows = self.targets[target].rows
        slopes, missing = -(rows @ weight), rows @ bias + self.targets[target].offsets
        steps = [self._to_boundary(slope, value) for slope, value in zip(slopes, missing.tolist(), strict=True)]
        return self.vantage.clipped(BEYOND * max(steps, key=lambda step: float(np.linalg.norm(step, self.norm))))

    def _to_boundary(self, slope: Vector, missing: float) -> Vector:
        """Step by which an affine function rises by a given amount; 0 if there is none."""
        upper, lower = self.vantage.upper, self.vantage.lower
        slope = np.where((slope > 0.0) & (upper > 0.0) | (slope < 0.0) & (lower < 0.0), slope, 0.0)
        if self.norm == 1.0:
            direction = np.where(np.abs(slope) == np.abs(slope).max(initial=0.0), slope, 0.0)
        else:
            direction = slope if self.norm == 2.0 else np.sign(slope)
        rise = float(slope @ direction)
        return direction * (missing / rise) if rise > 0.0 and missing > 0.0 else np.zeros_like(slope)

    def scattered(self) -> Float[np.ndarray, "some dimension"]:
        """The nearest points that reach a target among some on axes and in random directions, always the same."""
        d = len(self.vantage.free)
        drawn = np.random.default_rng(0).normal(size=(DIRECTIONS, d))
        directions = np.concatenate([np.sign(drawn), drawn, *([np.eye(d), -np.eye(d)] if d <= DIRECTIONS else [])])
        directions /= np.linalg.norm(directions, self.norm, axis=1)[:, None]
        for scale in self.vantage.length * 4.0 ** np.arange(-4, 6):
            u = self.vantage.clipped(scale * directions)
            u = u[self.reached(u) >= 0] if len(u) else u
            if len(u):
                return u[np.argsort(np.linalg.norm(u, self.norm, axis=1), kind="stable")[:3]]
        return np.zeros((0, d))
