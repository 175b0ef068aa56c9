"""Volumes of the regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.integrals import integrals
from torch_shallow.explain.globally.subject import Subject
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU


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
    shallow: ShallowReLU | nn.Module | ExportedProgram,
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
    subject = Subject(known_network(shallow, domain))
    found = integrals(subject, max_rays, max_simplices, tolerance)
    values = np.where(found.volume > 0.0, found.volume, 1.0) * found.factor * (found.volume > 0.0)
    if np.isinf(found.factor):
        values = np.full(len(values), np.inf)
    moving = int((~subject.fixed).sum())
    return Volumes(subject.tensor(values, values.shape), found.total, found.residual, moving)
