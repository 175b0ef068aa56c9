"""A change of class near a point, found without a search: it says how large the first box has to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.explain.radius.surroundings import Surroundings, Vector
from torch_shallow.explain.searched import Searched

STEPS = 12  # of each class
CLASSES = 10  # of which steps are made: those that are nearest by the local model of the point
BEYOND = 1.02  # a step goes this much farther than where the local model changes
DIRECTIONS = 128  # in which points are looked at
PIECES = 64  # of a segment, one of which is then cut again
CUTS = 10


@dataclass(frozen=True, eq=False)
class Change:
    """A point u of another class, as seen from the point that is asked about."""

    u: Vector
    other: int
    distance: float


def first_change(searched: Searched, around: Surroundings, label: int, norm: float) -> Change | None:
    """A change of class that is near, but not the nearest one; None if none was found.

    Steps go to where the local model of the last point changes its class, in the direction that is best for the norm
    (Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", 2016); some other points, always the same, are looked at as well.
    The segment to a point of another class is cut where the class changes first.

    Args:
        searched: the network.
        around: where to look.
        label: the class of the point itself.
        norm: 1, 2 or infinity.
    """
    found: Change | None = None

    def take(u: Vector) -> bool:
        """Whether the way to a point of another class has a nearer change than that known, which is then kept."""
        nonlocal found
        change = _nearest_on_segment(searched, around, label, u, norm)
        nearer = change is not None and (found is None or change.distance < (1.0 - 1e-6) * found.distance)
        found = change if nearer else found
        return nearer

    def is_changed(u: Vector) -> bool:
        return int(searched.outputs((around.x + u)[None])[0].argmax()) != label

    def step(u: Vector, other: int) -> Vector:
        weight, bias = searched.local_map(around.x + u)
        return around.clipped(BEYOND * _to_boundary(weight, bias, around, label, other, norm))

    weight, bias = searched.local_map(around.x)
    away = [_to_boundary(weight, bias, around, label, other, norm) for other in range(len(bias))]
    sizes = np.array([np.linalg.norm(u, norm) for u in away])
    sizes[label] = np.inf
    for other in np.argsort(sizes, kind="stable")[: min(CLASSES, len(bias) - 1)].tolist():
        u = around.clipped(BEYOND * away[other])
        for _ in range(STEPS):
            if is_changed(u):
                take(u)
                break
            u = step(u, other)
    for u in _scattered(searched, around, label, norm):
        take(u)
    for _ in range(STEPS if found is not None else 0):  # from change to nearer change
        assert found is not None
        u = step(found.u, found.other)
        if not (is_changed(u) and take(u)):
            break
    return found


def _scattered(searched: Searched, around: Surroundings, label: int, norm: float) -> Float[np.ndarray, "some inputs"]:
    """The nearest of some points of other classes: on axes and in drawn directions, always the same, near and far."""
    d = len(around.x)
    drawn = np.random.default_rng(0).normal(size=(DIRECTIONS, d))
    directions = np.concatenate([np.sign(drawn), drawn, *([np.eye(d), -np.eye(d)] if d <= DIRECTIONS else [])])
    directions /= np.linalg.norm(directions, norm, axis=1)[:, None]
    length = max(1.0, float(np.abs(around.x).max(initial=0.0)))
    for scale in length * 4.0 ** np.arange(-4, 6):
        u = around.clipped(scale * directions)
        u = u[around.contains(u)]
        changed = u[searched.outputs(around.x + u).argmax(axis=1) != label] if len(u) else u
        if len(changed):
            return changed[np.argsort(np.linalg.norm(changed, norm, axis=1), kind="stable")[:3]]
    return np.zeros((0, d))


def _to_boundary(
    weight: Float[np.ndarray, "outputs inputs"],
    bias: Float[np.ndarray, "outputs"],
    around: Surroundings,
    label: int,
    other: int,
    norm: float,
) -> Vector:
    """The step from the point itself to where an affine function has another class; 0 if there is none."""
    slope = weight[other] - weight[label]
    missing = -(slope @ around.x + bias[other] - bias[label])
    free = (slope > 0.0) & (around.upper > 0.0) | (slope < 0.0) & (around.lower < 0.0)
    slope = np.where(free, slope, 0.0)
    if norm == 1.0:
        direction = np.where(np.abs(slope) == np.abs(slope).max(), slope, 0.0)
    else:
        direction = slope if norm == 2.0 else np.sign(slope)
    rise = float(slope @ direction)
    return direction * (missing / rise) if rise > 0.0 and missing > 0.0 else np.zeros_like(slope)


def _nearest_on_segment(searched: Searched, around: Surroundings, label: int, u: Vector, norm: float) -> Change | None:
    """The first change of class on the segment from the point itself to u, where the class is another one."""
    low, high, other = 0.0, 1.0, label
    for _ in range(CUTS):
        shares = low + (high - low) * np.arange(1, PIECES + 1) / PIECES
        shares[-1] = high
        classes = searched.outputs(around.x + shares[:, None] * u).argmax(axis=1)
        if (classes == label).all():  # where rounding decides, a batch may have another class
            break
        first = int((classes != label).argmax())
        low, high, other = (shares[first - 1] if first else low), shares[first], int(classes[first])
    there = high * u
    if other == label or not around.contains(there[None])[0]:
        return None
    return Change(there, other, float(np.linalg.norm(there, norm)))
