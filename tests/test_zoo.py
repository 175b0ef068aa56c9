"""Every model of the zoo, transformed, is the model: at random points, at vertices, on facets, inside, by its data."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.data import ACAS_XU, needs_acas_xu
from tests.modules.laws import assert_equal, corner_points, deep, patterns_at, random_points
from tests.piecewise_models import Decision, digits_cnn
from tests.zoo import ARCHITECTURES, PIECEWISE, WITH_HEAD, Specimen, transformed
from torch_shallow import Box, TransformError, from_onnx, transform

LARGE = ("functional", "overlapping pools", "pooled image")


def test_the_zoo_is_large() -> None:
    assert len({specimen.name for specimen in (*PIECEWISE, *WITH_HEAD, *ARCHITECTURES)}) >= 40


@pytest.mark.parametrize("specimen", [*PIECEWISE, *WITH_HEAD], ids=str)
def test_equal_at_random_points(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    x = random_points(shallow, 20_000)
    assert_equal(shallow(x), deep(specimen, x), 1e-9)


@pytest.mark.parametrize("specimen", [*PIECEWISE, *WITH_HEAD], ids=str)
def test_equal_at_vertices_on_facets_and_inside(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    inside = torch.from_numpy(shallow.partition.interior_points()).reshape(-1, *shallow.in_shape)
    x = torch.cat([corner_points(shallow, most=30), inside])
    assert_equal(shallow(x), deep(specimen, x), 1e-9)
    assert torch.equal(shallow.locate(inside), torch.arange(shallow.num_regions))


@pytest.mark.parametrize("specimen", [*PIECEWISE, *WITH_HEAD, *ARCHITECTURES], ids=str)
def test_by_data_it_is_the_model_where_the_data_are_and_the_same_regions(specimen: Specimen) -> None:
    whole = transformed(specimen)
    data = random_points(whole, 400, seed=1)
    data = data[patterns_at(whole.partition.program, data)[1]]
    shallow = transform(specimen.model(), data=data, domain=specimen.domain)
    assert not shallow.complete
    assert shallow.coverage(data) == 1.0
    assert_equal(shallow(data), deep(specimen, data), 1e-9)
    x = random_points(whole, 2000, seed=2)
    known = shallow.locate(x) >= 0
    assert_equal(shallow(x[known]), deep(specimen, x[known]), 1e-9)
    assert shallow(x[~known]).isnan().all()
    both = set(zip(whole.locate(data).tolist(), shallow.locate(data).tolist(), strict=True))
    assert len(both) == shallow.num_regions == len({region for region, _ in both})


@pytest.mark.parametrize("specimen", [s for s in (*PIECEWISE, *WITH_HEAD) if s.name not in LARGE], ids=str)
def test_certified(specimen: Specimen) -> None:
    certificate = transformed(specimen).certify(specimen.model(), sample=50)
    assert certificate.passed, str(certificate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_and_head_of_a_classifier(dtype: torch.dtype) -> None:
    specimen = WITH_HEAD[0]
    model, x = specimen.model(dtype), torch.randn(100, 3, dtype=dtype)
    shallow = transform(model)
    assert shallow.head is not None
    with torch.no_grad():
        torch.testing.assert_close(shallow.trunk(x), model[:-1](x))
        torch.testing.assert_close(shallow(x), model(x))
    assert shallow(x).dtype == dtype
    torch.testing.assert_close(shallow(x).sum(-1), torch.ones(100, dtype=dtype))


def test_a_head_of_whole_numbers_cannot_say_nan() -> None:
    model, x = Decision().double(), torch.randn(100, 2).double()
    shallow = transform(model, domain=Box(-5.0, 5.0))
    assert torch.equal(shallow(x), model(x))
    assert shallow(x).dtype == torch.int64
    with pytest.raises(TransformError, match="locate"):
        shallow(10.0 * x)


@cache
def digits() -> tuple[nn.Module, Tensor]:
    """A convolutional network trained on images of handwritten digits, and the images."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(images).float().reshape(-1, 1, 8, 8) / 16.0, torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = digits_cnn()
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(12):
            for rows in torch.randperm(len(x)).split(128):
                optimiser.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimiser.step()
        model.eval()
    assert (model(x).argmax(1) == y).float().mean() > 0.95
    return model, x


def test_a_trained_convolutional_network_by_its_data() -> None:
    model, x = digits()
    shallow = transform(model, data=x)
    assert shallow.coverage(x) == 1.0
    with torch.no_grad():
        torch.testing.assert_close(shallow(x), model(x), rtol=1e-4, atol=1e-4)
        exact = transform(model.double(), data=x)(x.double())
        assert_equal(exact, model.double()(x.double()), 1e-9)
        model.float()
    assert shallow.certify(model, sample=3).passed


def test_a_trained_convolutional_network_in_a_box_around_an_image() -> None:
    model, x = digits()
    centre = x[0].double()
    domain = Box(centre - 0.001, centre + 0.001)
    shallow = transform(model, x[:1], domain=domain)
    assert shallow.complete
    assert shallow.num_regions > 1
    near = random_points(shallow, 2000)
    with torch.no_grad():
        assert_equal(shallow(near), model.double()(near), 1e-9)
        model.float()
    visited = transform(model, data=near, domain=domain)
    assert visited.num_regions <= shallow.num_regions
    pairs = set(zip(shallow.locate(near).tolist(), visited.locate(near).tolist(), strict=True))
    assert len(pairs) == visited.num_regions


def test_an_exported_program() -> None:
    specimen = next(s for s in PIECEWISE if s.name == "U-Net")
    model, x = specimen.model(), torch.randn(500, *specimen.in_shape).double()
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    shallow = transform(program)
    assert shallow.num_regions == transformed(specimen).num_regions
    assert_equal(shallow(x), deep(specimen, x), 1e-9)


@needs_acas_xu
def test_a_file_of_acas_xu() -> None:
    pytest.importorskip("onnx")
    model = from_onnx(ACAS_XU["1_1"])
    lower = torch.tensor([0.3, -0.01, 0.49, 0.3, 0.3]).double()
    shallow = transform(model, torch.zeros(1, 1, 1, 5), domain=Box(lower, lower + 0.02))
    x = random_points(shallow, 1000)
    with torch.no_grad():
        assert_equal(shallow(x), model.double()(x), 1e-9)
