"""Facets of a region as seen from a point in it: their distances, and which feature alone reaches each."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from torch_shallow.domain import Box
from torch_shallow.functions import Region, VisitedRegion
from torch_shallow.functions.shape import RegionHalfSpaces, fixed_inputs
from torch_shallow.geometry.inequalities import irredundant

logger = logging.getLogger(__name__)

ON_IT = 1e-13  # distance relative to the input up to which the input is on a facet
SECONDS = 1e-7  # time of all linear programs for each input and each pair of rows
PATIENT = 5.0  # seconds that need no announcement
PAIRS_AT_ONCE = 1 << 22  # pairs of facets whose normals are compared in one block: 32 MB


@dataclass(frozen=True, eq=False)
class Facet:
    """A facet of the region of a point x.

    Attributes:
        name: state on the region's side of the facet, such as `"stage 1 neuron 3 active"`; `"domain"` if the domain
            ends there.
        neuron: number of the facet's neuron, counted through all stages of the network; -1 if no neuron makes it.
        distance: Euclidean distance from x to the facet's hyperplane, in inputs of the network; fixed inputs stay.
        direct: whether the nearest point of the hyperplane is in the region. If so, this is the distance to the facet
            itself; else that is larger.
        feature: the entry of the flattened input that, changed alone, reaches this facet with the smallest change of
            the network's input; None if each leaves the region through another facet, or never, or at distance 0.
        change: change of this feature in the user's units; NaN if there is none.
        normal: normal of the facet: the region's side is `normal @ x <= offset`, in inputs of the network.
        offset: right-hand side of `normal @ x <= offset`.
    """

    name: str
    neuron: int
    distance: float
    direct: bool
    feature: int | None
    change: float
    normal: Float[np.ndarray, "inputs"]
    offset: float


def facets_of(region: Region, half_spaces: RegionHalfSpaces) -> RegionHalfSpaces:
    """Half-spaces of a region without the redundant ones, found by linear programs.

    `Region.facets` finds the same from the region's vertices, of which a box of 10 inputs has a thousand.

    Args:
        region: the region.
        half_spaces: all of its half-spaces.

    Raises:
        TransformError: a visited region has no interior, or a linear program fails.
    """
    a, b = half_spaces.numpy()
    before = vars(region).get(_KEPT)
    if before is None or not all(map(np.array_equal, before[:2], (a, b))):
        before = vars(region)[_KEPT] = (a, b, _needed(region, a, b))
    return half_spaces.pick(torch.from_numpy(before[2]).to(half_spaces.A.device))


_KEPT = "_facets"  # cache on the region, shared by `explain` and `rules`: its rows, and which are needed


def _needed(
    region: Region, a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> Bool[np.ndarray, "rows"]:
    point, fixed = point_inside(region, a, b), fixed_of(region)
    moving = np.any(a[:, ~fixed], axis=1)
    needed: np.ndarray = np.any(a, axis=1) & ~moving
    moving &= ~_never_met(region, a, b)
    rest = b[moving] - a[moving][:, fixed] @ point[fixed]
    seconds = SECONDS * np.count_nonzero(~fixed) * float(len(rest)) ** 2
    if seconds > PATIENT:
        logger.warning(
            "%s half-spaces in %d inputs may be facets of the region; about as many linear programs tell which of them "
            "are, in about %.0f s. In a smaller domain, such as a Box around the input, there are fewer; "
            "shallow.local_map(x) and region.half_spaces need none of this.",
            f"{len(rest):,}",
            np.count_nonzero(~fixed),
            seconds,
        )
    needed[moving] = irredundant(a[moving][:, ~fixed], rest, point[~fixed])
    return needed


def _never_met(
    region: Region, a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> Bool[np.ndarray, "rows"]:
    """Which half-spaces hold a whole bounded box, beyond rounding, if that is the domain."""
    if not isinstance(region.function.domain, Box):
        return np.zeros(len(b), dtype=bool)
    lower, upper = region.function.domain.bounds((a.shape[1],))
    with np.errstate(invalid="ignore"):
        ends = np.where(a == 0.0, 0.0, np.where(a > 0.0, a * upper, a * lower))
    never: np.ndarray = ends.sum(axis=1) < b - 1e-9 * (np.abs(ends).sum(axis=1) + np.abs(b))
    return never


def point_inside(
    region: Region, a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> Float[np.ndarray, "inputs"]:
    """A point in the interior of a region `a x <= b`.

    Raises:
        TransformError: a visited region has no interior.
    """
    if isinstance(region, VisitedRegion):
        return region._inside(a, b)
    point: np.ndarray = region.interior_point.reshape(-1).cpu().numpy()
    return point


def fixed_of(region: Region) -> Bool[np.ndarray, "inputs"]:
    """Which inputs have only one value in the domain."""
    return fixed_inputs(region.function.domain, region.function.in_shape)


def slack_of(
    a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"], x: Float[np.ndarray, "inputs"]
) -> Float[np.ndarray, "rows"]:
    """Slack of each half-space at a point in all of them; 0 where the point is outside by rounding."""
    return np.maximum(b - a @ x, 0.0)


def room(
    a: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"], fixed: Bool[np.ndarray, "inputs"]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """How far each input can go down and up alone within half-spaces: at least 0, infinite where nothing limits it."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steps = slack[:, None] / a
    down = np.where(a < 0.0, -steps, np.inf).min(axis=0, initial=np.inf)
    up = np.where(a > 0.0, steps, np.inf).min(axis=0, initial=np.inf)
    return np.where(fixed, 0.0, down), np.where(fixed, 0.0, up)


def seen_from(
    x: Float[np.ndarray, "inputs"],
    half_spaces: RegionHalfSpaces,
    fixed: Bool[np.ndarray, "inputs"],
    scale: Float[np.ndarray, "inputs"],
    tolerance: float = 1e-9,
) -> tuple[Facet, ...]:
    """Facets of a region as seen from a point in it, nearest first.

    A point beyond a facet by less than `tolerance`, relative to the larger of the distances of the two facets compared,
    counts as on it. A facet that is apart from the point by rounding alone is at distance 0. `scale` gives the user's
    units per unit of each input.
    """
    a, b = half_spaces.numpy()
    neurons = half_spaces.neurons.cpu().numpy()
    moving = np.flatnonzero(np.any(a[:, ~fixed], axis=1))
    a, b, slack = a[moving], b[moving], slack_of(a, b, x)[moving]
    free = np.where(fixed, 0.0, a)
    norms = np.linalg.norm(free, axis=1)
    distances = slack / norms
    on_it = distances <= ON_IT * (1.0 + np.abs(x).max(initial=0.0))
    slack, distances = np.where(on_it, 0.0, slack), np.where(on_it, 0.0, distances)
    direct = _foot_inside(free / norms[:, None], distances, tolerance)
    features, changes = _alone(free, slack, tolerance)
    features = np.where(on_it, -1, features)
    facets = [
        Facet(
            half_spaces.names[row],
            int(neurons[row]),
            float(distances[k]),
            bool(direct[k]),
            int(features[k]) if features[k] >= 0 else None,
            float(changes[k] * scale[features[k]]) if features[k] >= 0 else np.nan,
            a[k],
            float(b[k]),
        )
        for k, row in enumerate(moving)
    ]
    return tuple(sorted(facets, key=lambda facet: facet.distance))


def _foot_inside(
    normals: Float[np.ndarray, "facets inputs"], distances: Float[np.ndarray, "facets"], tolerance: float
) -> Bool[np.ndarray, "facets"]:
    """Whether the nearest point on each facet's hyperplane satisfies all other half-spaces."""
    inside = np.ones(len(distances), dtype=bool)
    size = max(1, PAIRS_AT_ONCE // max(1, len(distances)))
    for start in range(0, len(distances), size):
        block = slice(start, start + size)
        advance = (normals[block] @ normals.T) * distances[block, None]
        allowed = tolerance * np.maximum(distances[block, None], distances)
        inside[block] = (advance <= distances + allowed).all(axis=1)
    return inside


def _alone(
    a: Float[np.ndarray, "facets inputs"], slack: Float[np.ndarray, "facets"], tolerance: float
) -> tuple[Int64[np.ndarray, "facets"], Float[np.ndarray, "facets"]]:
    """The input (-1 if none) that reaches each facet with the smallest change of its own, and that change."""
    down, up = room(a, slack, np.zeros(a.shape[1], dtype=bool))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steps = slack[:, None] / a
    limits = np.where(a > 0.0, up, down)
    first = (a != 0.0) & np.isfinite(steps) & (np.abs(steps) <= limits * (1.0 + tolerance))
    sizes = np.where(first, np.abs(steps), np.inf)
    best = sizes.argmin(axis=1)
    rows = np.arange(len(a))
    return np.where(first.any(axis=1), best, -1), steps[rows, best] + 0.0  # no -0.0
