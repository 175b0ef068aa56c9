"""Margins of interior points, and signs of neurons on cells, for many regions at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.generators import DONE, FULL, Cone, copy_ray, intersect

TOO_MANY = -1


class Verdicts(Bundle):
    """What was found on each region's cell."""

    rays: np.ndarray  # int64: number of rays; TOO_MANY if there are too many, 0 if the cell has no interior
    worst: np.ndarray  # float64: largest relative value of the wrong sign
    neurons: np.ndarray  # int64: the neuron that has it


@compiled()
def write_path(
    rows: Float[np.ndarray, "most homogeneous"],
    start: int,
    code: int,
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
) -> int:
    """Write the half-spaces above a parent's code behind `start` rows, root first; returns the number of all rows."""
    depth, at = 0, code
    while at >= 0:
        depth += 1
        at = cut_parents[at // 2]
    at = code
    for row in range(start + depth - 1, start - 1, -1):
        sign = 1.0 if at % 2 == 1 else -1.0
        for k in range(rows.shape[1]):
            rows[row, k] = sign * cut_rows[at // 2, k]
        at = cut_parents[at // 2]
    return start + depth


@compiled()
def margins(
    points: Float[np.ndarray, "regions coordinates"],
    region_parents: Int[np.ndarray, "regions"],
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
    least: Float[np.ndarray, "regions"],
    cuts: Int64[np.ndarray, "regions"],
) -> None:
    """Fill in the least value of the unit half-spaces on each path at the point, and the cut that has it.

    Values are relative to the length of the point's homogeneous coordinates.
    """
    dimension = points.shape[1]
    for region in range(points.shape[0]):
        square = 1.0
        for k in range(dimension):
            square += points[region, k] ** 2
        length = np.sqrt(square)
        least[region], cuts[region] = np.inf, -1
        code = region_parents[region]
        while code >= 0:
            cut = code // 2
            value = cut_rows[cut, dimension]
            for k in range(dimension):
                value += cut_rows[cut, k] * points[region, k]
            value = (value if code % 2 == 1 else -value) / length
            if not value >= least[region]:
                least[region], cuts[region] = value, cut
            code = cut_parents[cut]


@compiled()
def examine_cells(
    cone: Cone,
    domain: Cone,
    half_spaces: Float[np.ndarray, "most homogeneous"],
    region_parents: Int[np.ndarray, "regions"],
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
    rows: Float[np.ndarray, "regions homogeneous neurons"],
    sizes: Float[np.ndarray, "regions neurons"],
    active: Bool[np.ndarray, "regions neurons"],
    tolerance: float,
    max_rays: int,
    first: int,
    values: Float[np.ndarray, "neurons"],
    verdicts: Verdicts,
) -> int:
    """Compute the lines and rays of each region's cell anew from its half-spaces, and every neuron's sign there.

    `domain` is the cone of the domain, whose half-spaces are the first of `half_spaces`; `cone` has room for others,
    `values` for the neurons.

    Returns:
        The next region: all are done, or `cone` needs more room and the call is to be repeated from there.
    """
    for region in range(first, rows.shape[0]):
        count = write_path(half_spaces, domain.counts[0], region_parents[region], cut_parents, cut_rows)
        for i in range(3):
            cone.counts[i] = domain.counts[i]
        for i in range(domain.counts[1]):
            for k in range(rows.shape[1]):
                cone.lines[i, k] = domain.lines[i, k]
        for i in range(domain.counts[2]):
            copy_ray(domain.rays, domain.sets, i, cone.rays, cone.sets, i)
        status = intersect(cone, half_spaces, count, tolerance, max_rays)
        if status == FULL:
            return region
        num_lines, num_rays = cone.counts[1], cone.counts[2]
        verdicts.rays[region] = num_rays if status == DONE else TOO_MANY
        worst, neuron = 0.0, -1
        for r in range(num_lines + num_rays if status == DONE else 0):
            ray = cone.lines[r] if r < num_lines else cone.rays[r - num_lines]
            for i in range(values.shape[0]):
                values[i] = 0.0
            for k in range(ray.shape[0]):
                for i in range(values.shape[0]):
                    values[i] += ray[k] * rows[region, k, i]
            for i in range(values.shape[0]):
                wrong = abs(values[i]) if r < num_lines else (-values[i] if active[region, i] else values[i])
                if not wrong <= worst * sizes[region, i]:
                    worst, neuron = wrong / sizes[region, i], i
        verdicts.worst[region], verdicts.neurons[region] = worst, neuron
    return rows.shape[0]
