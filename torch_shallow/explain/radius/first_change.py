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
    (Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", 2016); then the segment to the point that was reached is cut.

    Args:
        searched: the network.
        around: where to look.
        label: the class of the point itself.
        norm: 1, 2 or infinity.
    """
    found: Change | None = None
    weight, bias = searched.local_map(around.x)
    away = [_to_boundary(weight, bias, around, label, other, norm) for other in range(len(bias))]
    sizes = np.array([np.linalg.norm(u, norm) for u in away])
    sizes[label] = np.inf
    for other in np.argsort(sizes, kind="stable")[: min(CLASSES, len(bias) - 1)].tolist():
        u = around.clipped(BEYOND * away[other])
        for _ in range(STEPS):
            y = searched.outputs((around.x + u)[None])[0]
            if y.argmax() != label:
                change = _nearest_on_segment(searched, around, label, u, norm)
                if change is not None and (found is None or change.distance < found.distance):
                    found = change
                break
            weight, bias = searched.local_map(around.x + u)
            u = around.clipped(BEYOND * _to_boundary(weight, bias, around, label, other, norm))
    return found


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
    low, high = 0.0, 1.0
    for _ in range(CUTS):
        shares = low + (high - low) * np.arange(1, PIECES + 1) / PIECES
        shares[-1] = high
        changed = searched.outputs(around.x + shares[:, None] * u).argmax(axis=1) != label
        first = int(changed.argmax())
        low, high = (shares[first - 1] if first else low), shares[first]
    there = high * u
    if not around.contains(there[None])[0]:
        return None
    other = int(searched.outputs((around.x + there)[None])[0].argmax())
    return Change(there, other, float(np.linalg.norm(there, norm)))
