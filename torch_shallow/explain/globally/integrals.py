"""Integrals over the regions: their volumes, and mean and covariance of the outputs for uniform inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.function import known_function, known_network, outputs_at, read_function
from torch_shallow.explain.globally.in_chart import InChart, check_limits
from torch_shallow.geometry.polyhedron import lines_and_rays
from torch_shallow.modes import outside_modes

RESIDUAL = 1e-6  # accepted difference of the sum of volumes from the volume of the domain, relative to the latter
ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class Integrals:
    """Integrals over the cells of all regions.

    Attributes:
        volume: volume of each region in the chart; inf where it is unbounded there.
        centroid: centroid of each bounded region.
        covariance: covariance of the uniform distribution on each bounded region.
        factor: volume in the moving inputs of a part of the chart of volume 1, including inputs that no neuron reads.
        total: volume of the domain in the moving inputs, computed independently.
        residual: difference of the sum of all volumes from `total`, relative to it; 0 where both are infinite.
    """

    volume: Float[np.ndarray, "regions"]
    centroid: Float[np.ndarray, "regions coordinates"]
    covariance: Float[np.ndarray, "regions coordinates coordinates"]
    factor: float
    total: float
    residual: float


def integrals(subject: InChart, max_rays: int, max_simplices: int, tolerance: float) -> Integrals:
    """Integrate over the cell of every region, by cutting it into simplices.

    Raises:
        TransformError: there are too many vertices or simplices, the volumes do not sum to that of the domain, or a
            limit is out of range.
    """
    # Compiled code is imported when it is used.
    from torch_shallow.explain.globally.cell_cones import CellWalk
    from torch_shallow.geometry.simplices import TOO_MANY_SIMPLICES, integrate

    check_limits(max_rays, tolerance)
    k, regions = subject.chart.num_coordinates, subject.function.num_regions
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
                f"max_simplices: expected regions of at most {max_simplices:,} simplices, found more; their number "
                f"grows fast with the dimension ({k}); allow more, or fix inputs with a Box; moments(samples=...) can "
                "sample a Box."
            )
    if len(walk.large):
        raise TransformError(
            f"max_rays: expected cells of at most {max_rays} vertices and rays, found {len(walk.large)} of {regions} "
            "regions in larger ones; allow more, or fix inputs with a Box; moments(samples=...) can sample a Box."
        )
    factor, total = _factor(subject), _domain_volume(subject, tolerance)
    found = factor * volume.sum()
    both_infinite = np.isinf(found) and np.isinf(total)
    residual = 0.0 if both_infinite else float(abs(found - total) / total)
    if not residual <= RESIDUAL:
        raise TransformError(
            f"tolerance: expected volumes of the regions that sum to that of the domain, {total:.9g}, found "
            f"{found:.9g}; regions are too thin for this tolerance; try another one."
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
    """Volume of the domain in the moving inputs: of a box by its widths, of a polytope by Qhull."""
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


@dataclass(frozen=True, eq=False, repr=False)
class Volumes(Displayed):
    """The volume of every region, in the inputs that a box does not fix.

    Attributes:
        values: volume of each region, float64; inf where it is unbounded.
        total: volume of the domain, computed independently: by the widths of a box, or by Qhull.
        residual: difference of the sum of the values from `total`, relative to it.
        dimension: number of inputs that are not fixed.
    """

    values: Float[Tensor, "regions"]
    total: float
    residual: float
    dimension: int

    @property
    def shares(self) -> Float[Tensor, "regions"]:
        """Share of each region in the volume of the domain.

        Raises:
            TransformError: the domain is unbounded.
        """
        if not np.isfinite(self.total):
            raise TransformError("volumes: expected a bounded domain for shares, found an unbounded one; pass a Box.")
        return self.values / self.total

    def __str__(self) -> str:
        """Number, range and sum of the volumes."""
        return (
            f"{len(self.values)} regions of volume {self.values.min():.4g} to {self.values.max():.4g} in "
            f"{self.dimension} dimensions, {self.total:.6g} together (residual {self.residual:.1e})"
        )


@outside_modes
def volumes(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    example_input: Tensor | None = None,
    max_rays: int = 1024,
    max_simplices: int = 100_000_000,
    tolerance: float = 1e-10,
) -> Volumes:
    """Compute the exact volume of every region, up to rounding.

    Each region is cut into simplices. Inputs that a box fixes do not count: volumes are those in the other inputs. The
    sum of all volumes is compared with the volume of the domain.

    Args:
        shallow: a network that knows all regions of its domain, or a model, which is transformed.
        domain: for a model, the domain to examine; all of R^n if None.
        example_input: for a model, a batch of inputs, needed where the model does not tell the shape of one.
        max_rays: largest number of vertices and rays of a cell.
        max_simplices: largest number of simplices of all regions together; about four million are made in a second.
        tolerance: tolerance in chart coordinates, in which lengths are about one; a thinner region has volume 0, and a
            vertex further away than the reciprocal counts as a ray.

    Returns:
        A `Volumes`.

    Raises:
        TransformError: not all regions are known, there are too many vertices or simplices, or the volumes do not sum
            to that of the domain.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import volumes
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> found = volumes(model, torch_shallow.Box(-1.0, 1.0))
        >>> abs(float(found.values.sum()) - 4.0) < 1e-9
        True
    """
    subject = InChart(known_network(shallow, domain, "shallow", example_input))
    found = integrals(subject, max_rays, max_simplices, tolerance)
    values = np.where(found.volume > 0.0, found.volume, 1.0) * found.factor * (found.volume > 0.0)
    if np.isinf(found.factor):
        values = np.full(len(values), np.inf)
    moving = int((~subject.fixed).sum())
    return Volumes(subject.tensor(values, values.shape), found.total, found.residual, moving)


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Displayed):
    """Mean and covariance of the outputs of the trunk under the uniform distribution on the domain.

    Tensors are float64.

    Attributes:
        mean: mean of each output, of shape `(*out_shape)`.
        covariance: covariance of the flattened outputs.
        standard_error: standard error of the mean; 0 where it is exact.
        samples: number of random points; 0 where nothing is sampled.
        exact: whether the integrals are exact, up to rounding, or estimated from random points.
        before_head: whether these are moments of the values that enter the network's head (logits), not of its outputs.
    """

    mean: Float[Tensor, "*out_shape"]
    covariance: Float[Tensor, "outputs outputs"]
    standard_error: Float[Tensor, "*out_shape"]
    samples: int
    exact: bool
    before_head: bool = False

    @property
    def variance(self) -> Float[Tensor, "*out_shape"]:
        """Variance of each output."""
        return self.covariance.diagonal().reshape(self.mean.shape)

    def __str__(self) -> str:
        """One line for each output."""
        how = "exact" if self.exact else f"estimated from {self.samples:,} random points"
        how += ", of the values before the head" * self.before_head
        columns = (self.mean, self.variance.sqrt(), self.standard_error)
        rows = zip(*(column.reshape(-1).tolist() for column in columns), strict=True)
        lines = [
            f"output {i}: mean {mean:.6g}{'' if self.exact else f' +- {error:.2g}'}, standard deviation {deviation:.6g}"
            for i, (mean, deviation, error) in enumerate(rows)
        ]
        return "\n".join([f"uniform inputs, {how}", *lines])

    def _line(self) -> str:
        return f"{self.mean.numel()} outputs, {'exact' if self.exact else f'estimated from {self.samples:,} points'}"


@outside_modes
def moments(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    example_input: Tensor | None = None,
    samples: int | None = None,
    seed: int = 0,
    max_rays: int = 1024,
    max_simplices: int = 100_000_000,
    tolerance: float = 1e-10,
) -> Moments:
    """Compute mean and covariance of the trunk's outputs for inputs that are uniform on a bounded domain.

    The result is exact, up to rounding, unless `samples` is given: each region is cut into simplices, over which affine
    and quadratic functions have integrals in closed form. Fixed inputs stay fixed.

    Args:
        shallow: a network that knows all regions of its domain, or a model, which is transformed. With `samples`, a
            model is only evaluated, and may have any size.
        domain: for a model, the domain to examine; it must be bounded.
        example_input: for a model, a batch of inputs, needed where the model does not tell the shape of one.
        samples: number of independent random points of a `Box` from which to estimate the moments; at least 2. If None,
            the moments are exact.
        seed: seed for the random points.
        max_rays: largest number of vertices and rays of a cell.
        max_simplices: largest number of simplices of all regions together; about four million are made in a second.
        tolerance: tolerance in chart coordinates, in which lengths are about one; a thinner region has volume 0.

    Returns:
        A `Moments`.

    Raises:
        TransformError: the domain is unbounded, or not a `Box` although `samples` is given; not all regions are known;
            there are too many vertices or simplices; or the volumes do not sum to that of the domain.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import moments
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        >>> with torch.no_grad():  # |x|
        ...     _ = model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        ...     _ = model[2].weight.fill_(1.0)
        ...     _ = model[2].bias.zero_()
        >>> found = moments(model, torch_shallow.Box(-1.0, 1.0))
        >>> round(float(found.mean), 9), round(float(found.variance), 9)  # 1/2, 1/12
        (0.5, 0.083333333)
    """
    if samples is not None:
        return _sampled(shallow, domain, example_input, samples, seed)
    subject = InChart(known_network(shallow, domain, "shallow", example_input))
    found = integrals(subject, max_rays, max_simplices, tolerance)
    if not np.isfinite(found.total):
        raise TransformError(
            f"domain: expected a bounded domain, on which inputs can be uniform, found "
            f"{subject.function.domain!r}; pass a Box."
        )
    outputs = subject.function.num_outputs
    shares = found.volume / found.volume.sum()
    values = np.zeros((subject.function.num_regions, outputs))
    within = np.zeros((outputs, outputs))
    for block in subject.blocks():
        rows = subject.rows(block)
        values[block] = (rows[..., :-1] @ found.centroid[block, :, None])[..., 0] + rows[..., -1]
        spread = rows[..., :-1] @ found.covariance[block] @ rows[..., :-1].transpose(0, 2, 1)
        within += np.tensordot(shares[block], spread, axes=1)
    mean = shares @ values
    centred = values - mean
    covariance = within + (shares[:, None] * centred).T @ centred
    lower, upper = (bound[subject.idle] for bound in subject.bounds)
    slopes = subject.skip[:, subject.idle]
    mean = mean + slopes @ ((lower + upper) / 2 - subject.chart.origin[subject.idle])
    covariance = covariance + (slopes * (upper - lower) ** 2 / 12) @ slopes.T
    shape = subject.function.out_shape
    return Moments(
        subject.tensor(mean, shape),
        subject.tensor(covariance, (outputs, outputs)),
        subject.tensor(np.zeros(outputs), shape),
        0,
        True,
        subject.function.head is not None,
    )


@torch.no_grad()
def _sampled(
    f: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None,
    example_input: Tensor | None,
    samples: int,
    seed: int,
) -> Moments:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise argument_error(samples, int)(
            f"samples: expected 2 or more random points, or None for exact moments, found {samples}; pass one of these."
        )
    known = known_function(f)
    if known is not None:
        known = known_network(known, domain)
        domain = known.domain
    function = read_function(f if known is None else known, example_input, "shallow", "example_input")
    if not isinstance(domain, Box):
        raise argument_error(domain, Domain, type(None))(
            f"domain: expected a bounded Box, from which random points can be drawn, found {domain!r}; pass one."
        )
    lower, upper = domain.bounds(function.in_shape)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise TransformError(f"domain: expected a bounded Box, found {domain!r}; pass a bounded one.")
    rng, outputs, done = np.random.default_rng(seed), function.num_outputs, 0
    mean, squares = np.zeros(outputs), np.zeros((outputs, outputs))
    while done < samples:
        count = min(ROWS_AT_ONCE, samples - done)
        x = np.clip(lower + (upper - lower) * rng.random((count, len(lower))), lower, upper)
        y = outputs_at(function, torch.from_numpy(x).to(function.device), "shallow").cpu().numpy()
        part = y.mean(axis=0)  # Chan, Golub & LeVeque: sums of squares about the mean are combined without cancellation
        shift, both = part - mean, done + count
        squares += (y - part).T @ (y - part) + np.outer(shift, shift) * (done * count / both)
        mean, done = mean + shift * (count / both), both
    covariance = squares / (samples - 1)
    error = np.sqrt(np.diagonal(covariance) / samples)
    shape = function.out_shape
    device = function.device
    return Moments(
        torch.from_numpy(mean).reshape(shape).to(device),
        torch.from_numpy(covariance).to(device),
        torch.from_numpy(error).reshape(shape).to(device),
        samples,
        False,
        known is not None and known.head is not None,
    )
