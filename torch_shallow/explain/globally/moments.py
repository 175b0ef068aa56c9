"""Mean and covariance of the outputs when the inputs are uniform on the domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.function import known_function, known_network, read_function
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.volumes import integrals
from torch_shallow.modes import outside_modes

ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the outputs of the trunk under the uniform distribution on the domain.

    Tensors are float64.

    Attributes:
        mean: of each output, of shape `(*out_shape)`.
        covariance: of the flattened outputs.
        standard_error: of the mean; 0 where it is exact.
        samples: number of random points; 0 where nothing is sampled.
        exact: whether the integrals are exact, up to rounding, or estimated from random points.
        before_head: whether these are moments of what enters the network's head (logits), and not of its outputs.
    """

    mean: Float[Tensor, "*out_shape"]
    covariance: Float[Tensor, "outputs outputs"]
    standard_error: Float[Tensor, "*out_shape"]
    samples: int
    exact: bool
    before_head: bool = False

    @property
    def variance(self) -> Float[Tensor, "*out_shape"]:
        """Of each output."""
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


@outside_modes
def moments(
    shallow: nn.Module | ExportedProgram,
    domain: Domain | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
    max_rays: int = 1024,
    max_simplices: int = 100_000_000,
    tolerance: float = 1e-10,
) -> Moments:
    """Mean and covariance of the trunk's outputs when the inputs are uniform on a bounded domain.

    Exact, up to rounding, unless `samples` are asked for: each region is cut into simplices, over which affine and
    quadratic functions have integrals in closed form. Fixed inputs stay fixed.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed, or only evaluated if
            `samples` are asked for, so that it may have any size.
        domain: of a model, where to look.
        samples: estimate the moments from so many independent random points of a `Box` instead; 2 or more.
        seed: of these points.
        max_rays: as for `volumes`.
        max_simplices: as for `volumes`.
        tolerance: as for `volumes`.

    Raises:
        TransformError: the domain is unbounded, or no `Box` where points are asked for; or as for `volumes`.

    Example:
        >>> import torch, torch_shallow
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
        return _sampled(shallow, domain, samples, seed)
    subject = InChart(known_network(shallow, domain))
    found = integrals(subject, max_rays, max_simplices, tolerance)
    if not np.isfinite(found.total):
        raise TransformError(
            f"domain: expected a bounded one, on which inputs can be uniform, found "
            f"{subject.function.domain!r}; give a Box."
        )
    outputs = subject.num_outputs
    shares = found.volume / found.volume.sum()
    values = np.zeros((subject.num_regions, outputs))
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
def _sampled(f: nn.Module | ExportedProgram, domain: Domain | None, samples: int, seed: int) -> Moments:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise argument_error(samples, int)(
            f"samples: expected 2 or more random points, or None for exact moments, found {samples}."
        )
    known = known_function(f)
    if known is not None:
        known = known_network(known, domain)
        domain = known.domain
    function = read_function(f if known is None else known, name="shallow")
    if not isinstance(domain, Box):
        raise argument_error(domain, Domain, type(None))(
            f"domain: expected a bounded Box, of which random points can be drawn, found {domain!r}."
        )
    lower, upper = domain.bounds(function.in_shape)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise TransformError(f"domain: expected a bounded Box, found {domain!r}; give a finite one.")
    rng, outputs, done = np.random.default_rng(seed), function.num_outputs, 0
    mean, squares = np.zeros(outputs), np.zeros((outputs, outputs))
    while done < samples:
        count = min(ROWS_AT_ONCE, samples - done)
        x = lower + (upper - lower) * rng.random((count, len(lower)))
        y = function(torch.from_numpy(np.clip(x, lower, upper)).to(function.device)).cpu().numpy()
        part = y.mean(axis=0)  # Chan, Golub & LeVeque: sums of squares about the mean, added up without cancellation
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
