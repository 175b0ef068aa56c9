"""Small networks of all forms, for tests of their use with the rest of torch."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo import Image, chain
from torch_shallow import Box, Polytope, ShallowReLU, transform
from torch_shallow.domain import Domain, WholeSpace

TRIANGLE = Polytope([[1.0, 1.0], [-2.0, 1.0], [0.5, -1.0]], [2.0, 2.0, 1.5])


class Skip(nn.Module):
    """A network whose output reads inputs that no neuron reads in this combination."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.skip = chain(7, 3, 10, 2), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class Classifier(nn.Module):
    """A network that sets its own precision behind the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.body = chain(2, 12, 8, 3)
        self.register_buffer("scale", torch.tensor([0.1, 0.2, 0.7]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.body(x), -1, dtype=torch.float32) * self.scale


FORMS: dict[str, tuple[type[nn.Module] | tuple[int, ...], tuple[int, ...], Domain]] = {
    "dense": ((2, 5, 3), (2,), WholeSpace()),
    "dense in a box": ((3, 4, 2), (3,), Box(-1.0, 1.0)),
    "descent": ((2, 12, 8, 3), (2,), WholeSpace()),
    "descent in a box": ((2, 16, 8, 3), (2,), Box([-2.0, -1.0], [2.0, 3.0])),
    "descent in a polytope": ((2, 16, 8, 1), (2,), TRIANGLE),
    "image": (Image, (1, 2, 3), Box(-1.0, 1.0)),
    "projected": ((30, 3, 9, 2), (30,), WholeSpace()),
    "skip": (Skip, (7,), Box(-1.0, 1.0)),
    "head": (Classifier, (2,), Box(-2.0, 2.0)),
}
BOUNDED = tuple(name for name, (_, _, domain) in FORMS.items() if not isinstance(domain, WholeSpace))
NAMES = tuple(FORMS)


@cache
def model_of(name: str) -> nn.Module:
    """Return the deep model, in float64."""
    make, _, _ = FORMS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return (chain(*make) if isinstance(make, tuple) else make()).double().eval()


@cache
def shared(name: str) -> ShallowReLU:
    """Return a network that no test may change."""
    _, in_shape, domain = FORMS[name]
    shallow = transform(model_of(name), torch.zeros(1, *in_shape), domain=domain)
    return ShallowReLU(shallow.partition, dense=True) if name.startswith("dense") else shallow


def network(name: str) -> ShallowReLU:
    """Return a network for one test alone."""
    return copy.deepcopy(shared(name))


def points(name: str, count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return interior points of regions."""
    shallow = shared(name)
    regions = np.random.default_rng(0).integers(0, shallow.num_regions, count)
    x = torch.from_numpy(shallow.partition.interior_points(regions)).reshape(-1, *shallow.in_shape)
    return x.to(dtype)


def points_and_outsiders(name: str, count: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return interior points of regions, then as many points whose outputs are NaN."""
    x = points(name, count, dtype)
    beyond = 100.0 + x
    if name not in BOUNDED:
        beyond[:] = torch.inf
    beyond[0] = torch.nan
    return torch.cat([x, beyond])


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Assert equality up to rounding, including NaN, dtype and shape."""
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)
