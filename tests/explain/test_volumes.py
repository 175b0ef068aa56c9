"""Volumes of the regions, and moments of the outputs."""

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain.globally import moments, volumes

BOX = Box(-1.0, 1.0)


def network(seed, *sizes):
    torch.manual_seed(seed)
    return zoo.chain(*sizes).double()


@pytest.mark.parametrize("dimension", range(1, 7))
def test_orthants(dimension):
    shallow = torch_shallow.transform(zoo.identity(dimension, 1), domain=Box(-1.0, 3.0))
    found = volumes(shallow)
    points = torch.stack([region.interior_point for region in shallow.regions])
    expected = torch.where(points > 0.0, 3.0, 1.0).prod(1)
    torch.testing.assert_close(found.values, expected.double())
    assert found.total == 4.0**dimension
    assert found.dimension == dimension
    assert found.shares.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [(2, 6, 5, 1), (3, 6, 4, 1), (4, 5, 4, 1)])
def test_equals_qhull(sizes):
    shallow = torch_shallow.transform(network(0, *sizes), domain=BOX)
    found = volumes(shallow)
    assert found.residual < 1e-12
    for k, region in enumerate(shallow.regions):
        assert found.values[k].item() == pytest.approx(ConvexHull(region.vertices().numpy(), "QJ").volume, abs=1e-8)


@pytest.mark.parametrize("specimen", zoo.DEGENERATE, ids=str)
def test_degenerate_arrangements_fill_the_box(specimen):
    shallow = torch_shallow.transform(specimen.model(), domain=BOX)
    found = volumes(shallow)
    assert found.values.sum().item() == pytest.approx(2.0 ** specimen.in_shape[0], rel=1e-9)
    assert (found.values > 0.0).all()
    x = torch.rand(20_000, *specimen.in_shape, dtype=torch.float64) * 2 - 1
    counts = torch.bincount(shallow.locate(x), minlength=shallow.num_regions)
    spread = (found.shares * (1 - found.shares) / len(x)).sqrt()
    assert ((counts / len(x) - found.shares).abs() <= 6 * spread + 2 / len(x)).all()


def test_cells_that_are_not_simple():
    """Octahedra and what is around them: many facets meet in a vertex."""
    signs = np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)], dtype=float)
    model = nn.Sequential(zoo.linear(signs.tolist(), [-1.0] * 8), nn.ReLU(), nn.Linear(8, 1))
    shallow = torch_shallow.transform(model, domain=Box(-2.0, 2.0))
    found = volumes(shallow)
    assert found.values[int(shallow.locate(torch.zeros(3)))].item() == pytest.approx(4.0 / 3.0)
    assert found.values.sum().item() == pytest.approx(64.0)
    polytope = volumes(model, Polytope(signs, np.ones(8)))
    assert polytope.values.sum().item() == pytest.approx(4.0 / 3.0)
    assert polytope.total == pytest.approx(4.0 / 3.0)


def test_a_cross_polytope_of_four_dimensions():
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * 4)).reshape(4, -1).T
    found = volumes(network(0, 4, 3, 1), Polytope(signs, np.ones(16)))
    assert found.values.sum().item() == pytest.approx(2.0**4 / 24.0)


def test_unbounded_regions():
    shallow = torch_shallow.transform(network(0, 2, 5, 1))
    found = volumes(shallow)
    bounded = torch.tensor([len(region.rays()) + len(region.lines()) == 0 for region in shallow.regions])
    assert torch.equal(found.values.isfinite(), bounded)
    assert bounded.any()
    for k in bounded.nonzero()[:, 0].tolist():
        vertices = shallow.regions[k].vertices().numpy()
        assert found.values[k].item() == pytest.approx(ConvexHull(vertices).volume)
    with pytest.raises(TransformError, match="bounded domain"):
        _ = found.shares
    with pytest.raises(TransformError, match="expected a bounded domain"):
        moments(shallow)
    assert volumes(zoo.chain(30, 2, 1)).values.isinf().all()
    assert volumes(nn.Linear(2, 1)).values.tolist() == [torch.inf]


def test_fixed_inputs_and_inputs_that_no_neuron_reads():
    model = network(0, 3, 5, 1)
    box = Box([-1.0, 0.5, 0.0], [1.0, 0.5, 3.0])
    assert volumes(model, box).values.sum().item() == pytest.approx(6.0)
    with torch.no_grad():
        model[0].weight[:, 2] = 0.0
    found = volumes(model, box)
    assert (found.values.sum().item(), found.dimension) == (pytest.approx(6.0), 2)
    half = volumes(model, Box([-1.0, 0.5, 0.0], [1.0, 0.5, torch.inf]))
    assert half.values.isinf().all()
    assert volumes(model, Box(0.5, 0.5)).values.tolist() == [1.0]


def test_limits_are_named():
    shallow = torch_shallow.transform(network(0, 4, 5, 1), domain=BOX)
    with pytest.raises(TransformError, match="max_rays"):
        volumes(shallow, max_rays=10)
    with pytest.raises(TransformError, match="max_simplices"):
        volumes(shallow, max_simplices=10)


@pytest.mark.parametrize("seed", range(3))
def test_moments_of_one_input_equal_quadrature(seed):
    model = network(seed, 1, 6, 5, 2)
    shallow = torch_shallow.transform(model, domain=Box(-1.0, 2.0))
    ends = np.unique(np.concatenate([r.vertices().reshape(-1).numpy() for r in shallow.regions]))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    x, w = (middle[:, None] + half[:, None] * nodes).reshape(-1), (half[:, None] * weights / 3.0).reshape(-1)
    with torch.no_grad():
        y = model(torch.from_numpy(x)[:, None]).numpy()
    mean = w @ y
    covariance = (w[:, None] * (y - mean)).T @ (y - mean)
    found = moments(shallow)
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.covariance.numpy(), covariance, rtol=1e-9, atol=1e-13)
    assert found.exact
    assert found.samples == 0


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("residual", BOX),
        ("densely connected", BOX),
        ("branches", Box([-1.0, 0.0, -1.0, 0.3], [1.0, 2.0, 0.0, 0.3])),
        ("no ReLU", Box(-1.0, [1.0, 2.0, 3.0])),
        ("zero rows", BOX),
        ("image", BOX),
    ],
)
def test_moments_equal_samples(name, domain):
    specimen = next(s for s in zoo.ALL if s.name == name)
    model = specimen.model()
    shallow = torch_shallow.transform(model, specimen.example(), domain=domain)
    exact, sampled = moments(shallow), moments(shallow, samples=40_000, seed=1)
    assert not sampled.exact
    assert sampled.samples == 40_000
    assert exact.mean.shape == shallow.trunk_shape
    assert ((exact.mean - sampled.mean).abs() <= 5 * sampled.standard_error + 1e-12).all()
    torch.testing.assert_close(exact.covariance, sampled.covariance, rtol=0.05, atol=0.02 * exact.variance.max().item())
    deep = moments(model, domain, samples=40_000, seed=1) if len(specimen.in_shape) == 1 else sampled
    torch.testing.assert_close(deep.mean, sampled.mean)


def test_inputs_that_only_the_output_reads():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = zoo.linear([[1.0, 0.0]], [0.0])

        def forward(self, x):
            return torch.relu(self.inner(x)) + 2.0 * x[:, 1:]

    found = moments(torch_shallow.transform(Skip(), torch.zeros(1, 2), domain=Box([-1.0, 1.0], [1.0, 3.0])))
    assert found.mean.item() == pytest.approx(0.25 + 4.0)
    assert found.variance.item() == pytest.approx(1 / 6 - 1 / 16 + 4 * 4 / 12)


def test_samples_are_of_a_bounded_box():
    model = zoo.chain(2, 3, 1)
    for domain in (None, Box(0.0, torch.inf), Polytope([[1.0, 1.0]], [1.0])):
        with pytest.raises(TransformError, match="domain: expected a bounded Box"):
            moments(model, domain, samples=10)
    with pytest.raises(TransformError, match="samples: expected 2 or more"):
        moments(model, BOX, samples=1)
    assert "estimated from 100 random points" in str(moments(model, BOX, samples=100))


def test_limits_that_are_none(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = zoo.chain(2, 3, 1)
    for options in ({"max_rays": 0}, {"tolerance": 0.0}, {"tolerance": 1.0}, {"tolerance": float("nan")}):
        with pytest.raises(TransformError, match=r"^max_rays, tolerance: expected"):
            volumes(model, Box(-1.0, 1.0), **options)
    for samples in (2.5, True, 1):
        with pytest.raises(TransformError, match=r"^samples: expected 2 or more"):
            moments(model, Box(-1.0, 1.0), samples=samples)


def test_a_network_of_images_takes_an_example():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 1)).double()
    domain, example = Box(-1.0, 1.0), torch.zeros(1, 1, 2, 3).double()
    for question in (volumes, moments, lambda *a, **k: moments(*a, **k, samples=100)):
        with pytest.raises(TransformError, match=r"pass .*\(model, example_input|^example_input: needed"):
            question(model, domain)
    found = volumes(model, domain, example_input=example)
    assert found.values.sum().item() == pytest.approx(2.0**6)
    exact = moments(model, domain, example_input=example)
    sampled = moments(model, domain, example_input=example, samples=20_000)
    assert (exact.mean - sampled.mean).abs() <= 5.0 * sampled.standard_error
    assert sampled.variance == pytest.approx(exact.variance, rel=0.1)
