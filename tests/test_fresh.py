"""The central laws for networks that nobody has seen before: drawn anew from the seed that the header of a run tells.

Weights are Gaussian and of moderate size, so that no region is as thin as what the package may leave out.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.modules.laws import corner_points, deep, patterns_at, random_points, sizes_of_terms
from tests.zoo import Specimen
from torch_shallow import Box, Polytope, ShallowReLU, transform
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.program.model import read_model
from torch_shallow.search.enumerate import METHODS, enumerate_regions

pytestmark = pytest.mark.quick

EXAMPLES = range(6)


class Residual(nn.Module):
    """Adds its input to what the body makes of it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def draw_model(rng: np.random.Generator) -> tuple[nn.Module, int]:
    """Some layers of some widths with one kind of activation, perhaps around a shortcut, and its number of inputs."""
    inputs, depth = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    activation = (nn.ReLU(), nn.LeakyReLU(0.3), nn.Hardtanh(), nn.MaxPool1d(2))[rng.integers(4)]
    most = 5 if isinstance(activation, nn.ReLU | nn.LeakyReLU) else 2
    layers, before = [], inputs
    for width in rng.integers(1, most + 1, depth).tolist():
        pooled = isinstance(activation, nn.MaxPool1d)
        layers += [nn.Linear(before, 2 * width if pooled else width), activation]
        before = width
    body = nn.Sequential(*layers, nn.Linear(before, inputs))
    model = Residual(body) if rng.random() < 0.3 else body
    with torch.no_grad():
        for parameter in model.double().parameters():
            scale = rng.uniform(0.5, 2.0)
            parameter.copy_(torch.from_numpy(scale * rng.standard_normal(tuple(parameter.shape))))
    return model.eval(), inputs


def draw_domain(rng: np.random.Generator, inputs: int) -> Domain:
    """All of space, a box, or a polytope around 0."""
    kind = rng.integers(3)
    if kind == 0:
        return WholeSpace()
    if kind == 1:
        return Box(-rng.uniform(0.5, 2.0, inputs), rng.uniform(0.5, 2.0, inputs))
    return Polytope(rng.standard_normal((inputs + 2, inputs)), rng.uniform(0.5, 2.0, inputs + 2))


@pytest.fixture(params=EXAMPLES)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    """A fresh network where it is looked at: the same for each law, and for the same seed."""
    rng = np.random.default_rng([request.config.getoption("--fresh-seed"), request.param])
    model, inputs = draw_model(rng)
    return Specimen(f"fresh {request.param}", lambda: copy.deepcopy(model), (inputs,), domain=draw_domain(rng, inputs))


def shallow_of(specimen: Specimen) -> ShallowReLU:
    return transform(specimen.model(), specimen.example().double(), domain=specimen.domain)


def assert_equal_up_to_rounding(specimen: Specimen, shallow: ShallowReLU, x: Tensor) -> None:
    """Far out, large terms may cancel: rounding is relative to these."""
    sizes = sizes_of_terms(shallow_of(specimen), x)
    assert ((shallow(x) - deep(specimen, x)).abs() <= 1e-12 * (1.0 + sizes)).all()


def test_it_is_the_deep_model_at_random_points_at_vertices_on_facets_and_inside(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    inside = torch.from_numpy(shallow.partition.interior_points()).reshape(-1, *shallow.in_shape)
    x = torch.cat([random_points(shallow, 2000), corner_points(shallow, most=30), inside])
    assert_equal_up_to_rounding(specimen, shallow, x)
    assert torch.equal(shallow.locate(inside), torch.arange(shallow.num_regions))


def test_all_engines_find_the_same_regions(specimen: Specimen) -> None:
    program = read_model(specimen.model(), specimen.example().double())
    found = [enumerate_regions(program, specimen.domain, method=method).patterns().tolist() for method in METHODS]
    assert all(len(patterns) == len({tuple(pattern) for pattern in patterns}) for patterns in found)
    assert sorted(found[0]) == sorted(found[1]) == sorted(found[2])


def test_it_passes_its_certificate(specimen: Specimen) -> None:
    certificate = shallow_of(specimen).certify(specimen.model(), sample=30)
    assert certificate.passed, str(certificate)


def test_regions_that_data_visit_are_among_all_regions(specimen: Specimen) -> None:
    whole = shallow_of(specimen)
    data = random_points(whole, 200)
    data = data[patterns_at(whole.partition.program, data)[1]]
    visited = transform(specimen.model(), data=data, domain=specimen.domain)
    assert_equal_up_to_rounding(specimen, visited, data)
    both = set(zip(whole.locate(data).tolist(), visited.locate(data).tolist(), strict=True))
    assert len(both) == visited.num_regions == len({region for region, _ in both})
