"""Measure exactly how discontinuous a shallow network is, on the facets between its regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Size, Tensor

from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction, require_all_regions
from torch_shallow.geometry.chart import map_rows
from torch_shallow.geometry.polyhedron import Face
from torch_shallow.geometry.sharing import blocks
from torch_shallow.modes import outside_modes

MAX_RAYS = 100_000  # the same limit as for the vertices of a region
VALUES_AT_ONCE = 1 << 22  # numbers of local models held in memory: 32 MB
GROWTH = 1e-9  # growth of a difference per unit of length that counts as rounding, relative to the steepest map


@dataclass(frozen=True, eq=False)
class ContinuityGap:
    """Describe the largest jump of a network's trunk between two adjacent regions.

    Attributes:
        value: the largest absolute difference of an output; `inf` if it grows without bound along a facet.
        point: a point of the common facet with this difference, in the input's shape; for an infinite gap, a point from
            which the difference grows. None if no regions touch.
        regions: the indices of the two regions; None if no regions touch.
        facets: the number of common facets that were measured.
        measured: the number of regions all of whose facets were measured.
        num_regions: the number of regions of the network.
    """

    value: float
    point: Float[Tensor, "*in_shape"] | None
    regions: tuple[int, int] | None
    facets: int
    measured: int
    num_regions: int


@outside_modes
def continuity_gap(
    function: TreeFunction, sample: int | None = None, seed: int = 0, *, progress: bool = False
) -> ContinuityGap:
    """Implement `ShallowReLU.continuity_gap`.

    The absolute value of a difference of affine maps is largest over conv(vertices) + cone(rays) + span(lines) at a
    vertex, unless it grows along a ray or a line.

    Raises:
        TransformError: not all regions are known, a region has too many vertices and rays, or `sample` is not positive.
    """
    reason = "the largest jump can only be found if the neighbours of every region are known"
    require_all_regions(function, "continuity_gap", reason)
    if sample is not None and sample < 1:
        raise TransformError(f"sample: expected a number of regions of at least 1, or None for all, found {sample}.")
    tree, half, local = function.tree, function.half_spaces, function.selection
    count = tree.num_regions

    def maps(regions: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some outputs homogeneous"]:
        weights, biases = local.maps(torch.from_numpy(regions).to(function.device))
        return map_rows(tree.chart, half.projection, weights, biases)

    entries = Size(function.out_shape).numel() * (half.normals.shape[1] + tree.chart.num_coordinates + 2)
    steepest = [
        np.linalg.norm(maps(np.arange(block.start, block.stop))[..., :-1], axis=-1).max(axis=0)
        for block in blocks(count, entries, VALUES_AT_ONCE)
    ]
    rounding = GROWTH * np.max(steepest, axis=0)
    contacts = function.contacts(MAX_RAYS)
    chosen = np.arange(count)
    if sample is not None and sample < count:
        chosen = np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))
    both, measured = len(chosen) < count, set(chosen.tolist())
    gap, point, regions, facets = 0.0, None, None, 0
    for region in _with_progress(chosen.tolist(), progress):
        for contact in contacts.of(region, both):
            if contact.active and contact.other in measured:
                continue  # this facet is measured from the other side
            facets += 1
            one, other = maps(np.array([contact.region, contact.other]))
            value, at = _largest(one - other, rounding, contact.face)
            if point is None or value > gap:
                gap, point, regions = value, at, (contact.region, contact.other)
    where = None if point is None else torch.from_numpy(tree.chart.lift(point[None])).reshape(function.in_shape)
    return ContinuityGap(gap, None if where is None else where.to(function.device), regions, facets, len(chosen), count)


def _largest(
    difference: Float[np.ndarray, "outputs homogeneous"], rounding: Float[np.ndarray, "outputs"], face: Face
) -> tuple[float, Float[np.ndarray, "coordinates"]]:
    """Find the largest absolute value of an affine map on a face, and its place; growth up to `rounding` is ignored."""
    slopes, directions = difference[:, :-1].T, face.directions
    grows = ~(np.abs(directions @ slopes) <= rounding).all(axis=1)
    if grows.any():
        return np.inf, face.vertices[0] + directions[grows.argmax()]
    values = np.nan_to_num(np.abs(face.vertices @ slopes + difference[:, -1]), nan=np.inf).max(axis=1)
    return float(values.max()), face.vertices[values.argmax()]


def _with_progress(regions: list[int], progress: bool) -> Iterable[int]:
    if progress:
        from tqdm.auto import tqdm

        return tqdm(regions, desc="continuity gap", unit=" regions")
    return regions
