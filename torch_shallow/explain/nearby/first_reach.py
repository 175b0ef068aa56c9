"""A point near an input that reaches a target, found without a search: it says how large the first ball has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.explain.nearby.vantage import Vantage
from torch_shallow.explain.searched import Vector

STEPS = 12  # to each target
TARGETS = 10  # to which steps are made: those that are nearest by the local model of the input
BEYOND = 1.02  # a step goes this much farther than where the local model reaches the target
DIRECTIONS = 128  # in which points are looked at
PIECES = 64  # of a segment, one of which is then cut again
CUTS = 4


@dataclass(frozen=True, eq=False)
class Reached:
    """A step u that reaches one of the targets.

    Attributes:
        u: the step.
        distance: its length.
        target: which one it reaches.
    """

    u: Vector
    distance: float
    target: int


def first_reach(vantage: Vantage, targets: Sequence[TargetRows], norm: float) -> Reached | None:
    """A point that is near and reaches a target, but not the nearest one; None if none was found.

    Steps go to where the local model of the last point reaches the target, in the direction that is best for the norm
    (Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", 2016); some other points, always the same, are looked at as well.
    The segment to a point that reaches it is cut where it does so first.

    Args:
        vantage: the network and where to look.
        targets: any of them may be reached.
        norm: 1, 2 or infinity.
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
        """Which target each row reaches best; -1 if none, or if it lies outside."""
        outputs = self.vantage.outputs(u)
        excess = [(outputs @ target.rows.T + target.offsets).max(axis=1) for target in self.targets]
        best = np.argmin(excess, axis=0)
        missed = (np.min(excess, axis=0) > 0.0) | ~self.vantage.contains(u)
        which: np.ndarray = np.where(missed, -1, best)
        return which

    def take(self, u: Vector) -> bool:
        """Whether the way to a point that reaches a target has a nearer one than that known, which is then kept."""
        low, high, target = 0.0, 1.0, -1
        for _ in range(CUTS):
            shares = low + (high - low) * np.arange(1, PIECES + 1) / PIECES
            shares[-1] = high
            which = self.reached(shares[:, None] * u)
            if (which < 0).all():  # where rounding decides, a batch may say otherwise
                break
            first = int((which >= 0).argmax())
            low, high, target = (shares[first - 1] if first else low), shares[first], int(which[first])
        there = Reached(high * u, float(np.linalg.norm(high * u, self.norm)), target)
        is_nearer = target >= 0 and (self.found is None or there.distance < (1.0 - 1e-6) * self.found.distance)
        self.found = there if is_nearer else self.found
        return is_nearer

    def step(self, u: Vector, target: int) -> Vector:
        """From the input to a little beyond where the local model of a point reaches a target."""
        weight, bias = self.vantage.local_map(u)
        rows = self.targets[target].rows
        slopes, missing = -(rows @ weight), rows @ bias + self.targets[target].offsets
        steps = [self._to_boundary(slope, value) for slope, value in zip(slopes, missing.tolist(), strict=True)]
        return self.vantage.clipped(BEYOND * max(steps, key=lambda step: float(np.linalg.norm(step, self.norm))))

    def _to_boundary(self, slope: Vector, missing: float) -> Vector:
        """The step with which an affine function has risen by so much; 0 if there is none."""
        upper, lower = self.vantage.upper, self.vantage.lower
        slope = np.where((slope > 0.0) & (upper > 0.0) | (slope < 0.0) & (lower < 0.0), slope, 0.0)
        if self.norm == 1.0:
            direction = np.where(np.abs(slope) == np.abs(slope).max(initial=0.0), slope, 0.0)
        else:
            direction = slope if self.norm == 2.0 else np.sign(slope)
        rise = float(slope @ direction)
        return direction * (missing / rise) if rise > 0.0 and missing > 0.0 else np.zeros_like(slope)

    def scattered(self) -> Float[np.ndarray, "some dimension"]:
        """The nearest of some points that reach a target: on axes and in drawn directions, always the same."""
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
