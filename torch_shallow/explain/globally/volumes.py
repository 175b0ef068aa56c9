"""Volumes of the regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.in_chart import InChart, check_limits
from torch_shallow.geometry.polyhedron import lines_and_rays
from torch_shallow.modes import outside_modes

RESIDUAL = 1e-6  # how far the sum of volumes may be from the volume of the domain, relative to that


@dataclass(frozen=True, eq=False)
class Integrals:
    """What is integrated over the cells.

    Attributes:
        volume: of each region in the chart; inf where it is unbounded there.
        centroid: of each bounded region.
        covariance: of the uniform distribution on each bounded region.
        factor: volume in the moving inputs of a piece of the chart of volume 1, with the inputs that no neuron reads.
        total: volume of the domain in the moving inputs, computed by other means.
        residual: how far the sum of all volumes is from that, relative to it; 0 where both are infinite.
    """

    volume: Float[np.ndarray, "regions"]
    centroid: Float[np.ndarray, "regions coordinates"]
    covariance: Float[np.ndarray, "regions coordinates coordinates"]
    factor: float
    total: float
    residual: float


def integrals(subject: InChart, max_rays: int, max_simplices: int, tolerance: float) -> Integrals:
    """Cut the cell of every region into simplices.

    Raises:
        TransformError: there are too many vertices or simplices, the volumes do not add up to that of the domain, or a
            limit is none.
    """
    # Compiled code is imported when it is used.
    from torch_shallow.explain.globally.cell_cones import CellWalk
    from torch_shallow.geometry.simplices import TOO_MANY_SIMPLICES, integrate

    check_limits(max_rays, tolerance)
    k, regions = subject.chart.num_coordinates, subject.num_regions
    volume, centroid = np.zeros(regions), np.zeros((regions, k))
    covariance, left = np.zeros((regions, k, k)), np.array([max_simplices])
    walk, room = CellWalk(subject, max_rays, tolerance), None
    for cells in walk:
        most = int(np.diff(cells.ends).max(initial=1))
        half_spaces = 64 * cells.sets.shape[1]
        if room is None or len(room.points) < most or len(room.walls) < half_spaces:
            room = _room(most, half_spaces, k)
        status = integrate(
            cells.ends, cells.num_lines, cells.regions, cells.generators, cells.sets, room, tolerance, left, volume,
            centroid, covariance,
        )  # fmt: skip
        if status == TOO_MANY_SIMPLICES:
            raise TransformError(
                f"max_simplices: the regions are cut into more than {max_simplices:,} simplices, whose number grows "
                f"fast with the dimension ({k}); allow more, or fix inputs with a Box; moments(samples=...) can sample "
                "a Box."
            )
    if len(walk.large):
        raise TransformError(
            f"max_rays: {len(walk.large)} of {regions} regions lie in cells of more than {max_rays} vertices and rays; "
            "allow more, or fix inputs with a Box; moments(samples=...) can sample a Box."
        )
    factor, total = _factor(subject), _domain_volume(subject, tolerance)
    found = factor * volume.sum()
    both_infinite = np.isinf(found) and np.isinf(total)
    residual = 0.0 if both_infinite else float(abs(found - total) / total)
    if not residual <= RESIDUAL:
        raise TransformError(
            f"tolerance: the volumes of the regions add up to {found:.9g}, that of the domain is {total:.9g}: regions "
            "are too thin for this tolerance; try another one."
        )
    return Integrals(volume, centroid, covariance, factor, total, residual)


def _room(vertices: int, half_spaces: int, k: int) -> Any:
    from torch_shallow.geometry.simplices import Room

    words = 1 + (vertices - 1) // 64
    return Room(
        np.zeros((vertices, k)),
        np.zeros((half_spaces, words), dtype=np.uint64),
        np.zeros((k + 1, words), dtype=np.uint64),
        np.zeros((k + 1, half_spaces + 1, words), dtype=np.uint64),
        np.zeros((k + 1, 2), dtype=np.int64),
        np.zeros(k + 1, dtype=np.int64),
        np.zeros((k, k)),
        np.zeros(k),
    )


def _factor(subject: InChart) -> float:
    lower, upper = subject.bounds
    if len(subject.lines):
        return np.inf
    units = subject.chart.lengths
    moving = units > 0.0
    volume = abs(np.linalg.det(subject.chart.directions[:, moving] / units[moving])) * np.prod(units[moving])
    return float(volume * np.prod((upper - lower)[subject.idle]))


def _domain_volume(subject: InChart, tolerance: float) -> float:
    """Volume in the moving inputs: of a box by its widths, of a polytope by Qhull."""
    from scipy.spatial import ConvexHull

    lower, upper = subject.bounds
    walls, k = subject.chart.inequalities, subject.chart.num_coordinates
    if np.isfinite(lower).any() or np.isfinite(upper).any() or subject.fixed.all():
        return float(np.prod((upper - lower)[~subject.fixed]))
    if len(subject.lines) or k == 0:
        return np.inf
    found = lines_and_rays(walls, 1 << 16, tolerance)
    if found is None or len(found[0]) or (found[1][:, -1] <= tolerance).any():
        return np.inf
    vertices = found[1][:, :-1] / found[1][:, -1:]
    volume = np.ptp(vertices) if k == 1 else ConvexHull(vertices).volume
    return float(volume * _factor(subject))


@dataclass(frozen=True, eq=False)
class Volumes:
    """The volume of every region, in the inputs that a box does not fix.

    Attributes:
        values: of each region, float64; inf where it is unbounded.
        total: the volume of the domain, computed by itself: the widths of a box, or by Qhull.
        residual: how far the sum of the values is from it, relative to it.
        dimension: number of inputs that are not fixed.
    """

    values: Float[Tensor, "regions"]
    total: float
    residual: float
    dimension: int

    @property
    def shares(self) -> Float[Tensor, "regions"]:
        """Shares of the volume of the domain.

        Raises:
            TransformError: the domain is unbounded.
        """
        if not np.isfinite(self.total):
            raise TransformError("volumes: expected a bounded domain, of which regions have a share; give a Box.")
        return self.values / self.total

    def __str__(self) -> str:
        """Number, sum and range."""
        return (
            f"{len(self.values)} regions of volume {self.values.min():.4g} to {self.values.max():.4g} in "
            f"{self.dimension} dimensions, {self.total:.6g} together (residual {self.residual:.1e})"
        )


@outside_modes
def volumes(
    shallow: nn.Module | ExportedProgram,
    domain: Domain | None = None,
    *,
    max_rays: int = 1024,
    max_simplices: int = 100_000_000,
    tolerance: float = 1e-10,
) -> Volumes:
    """The exact volume of every region, up to rounding: each is cut into simplices.

    Inputs that a box fixes do not count: volumes are of the other inputs. The sum of all volumes is compared with the
    volume of the domain.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        domain: of a model, where to look.
        max_rays: how many vertices a cell may have.
        max_simplices: how many simplices all regions together may be cut into; about four million are made in a second.
        tolerance: as for `output_range`; a thinner region has volume 0.

    Raises:
        TransformError: not all regions are known, there are more vertices or simplices, or the volumes do not add up to
            that of the domain.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> found = volumes(model, torch_shallow.Box(-1.0, 1.0))
        >>> abs(float(found.values.sum()) - 4.0) < 1e-9
        True
    """
    subject = InChart(known_network(shallow, domain))
    found = integrals(subject, max_rays, max_simplices, tolerance)
    values = np.where(found.volume > 0.0, found.volume, 1.0) * found.factor * (found.volume > 0.0)
    if np.isinf(found.factor):
        values = np.full(len(values), np.inf)
    moving = int((~subject.fixed).sum())
    return Volumes(subject.tensor(values, values.shape), found.total, found.residual, moving)
