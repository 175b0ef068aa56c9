"""Laws of the program of a box: bounds hold, neurons left out keep their sign, and what is left is the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.cases import examples
from tests.zoo import ARCHITECTURES, DEGENERATE, Residual, SharedLinear, Specimen, chain, random_mlp
from torch_shallow import transform
from torch_shallow.certify.checks import certify
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program import extraction as extent
from torch_shallow.program.affine_forms import preactivation_bounds
from torch_shallow.program.extraction import read_program
from torch_shallow.program.model import Model, read_model
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.traced import TracedModel
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.partition import Partition


class BatchInTheMiddle(nn.Module):
    """What enters its second ReLU has the batch in dimension 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x)).transpose(0, 1)
        return self.last(F.relu(self.second(h)).transpose(0, 1)).sum(1)


class Convolutions(nn.Module):
    """Two convolutions, the second around a skip connection, and a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        h = F.relu_(h + self.second(h))
        return self.last(F.avg_pool2d(h, 2).flatten(1))


MODELS = (
    *(specimen for specimen in ARCHITECTURES if specimen.name != "3-16-16-1"),
    *(specimen for specimen in DEGENERATE),
    Specimen("batch in the middle", BatchInTheMiddle, (2, 3)),
    Specimen("convolutions", Convolutions, (1, 4, 4)),
)


def random_box(rng: np.random.Generator, in_shape: tuple[int, ...], width: float) -> Box:
    """A box around a random point, with fixed inputs, and sides of a few lengths."""
    centre = rng.standard_normal(in_shape)
    half = width * rng.choice([0.0, 0.3, 1.0, 1.0], size=in_shape)
    return Box(centre - half, centre + half)


def points_of(box: Box, in_shape: tuple[int, ...], rng: np.random.Generator, count: int = 300) -> np.ndarray:
    """Random points and corners of a box, all corners if there are few."""
    lower, upper = box.bounds(in_shape)
    inner = lower + (upper - lower) * rng.random((count, len(lower)))
    sides = rng.integers(0, 2, (count, len(lower)))
    if len(lower) <= 8:
        sides = np.array(list(itertools.product((0, 1), repeat=len(lower))))
    return np.concatenate([inner, np.where(sides == 1, upper, lower)])


def preactivations(traced: TracedModel, x: np.ndarray) -> np.ndarray:
    """What enters the ReLUs of the model itself."""
    seen: list[np.ndarray] = [np.zeros((len(x), 0))]

    def at_relu(node: object, z: Tensor) -> Tensor:
        seen.append(traced.layouts[len(seen) - 1].rows(z).numpy().copy())
        return z.relu()

    with torch.no_grad():
        traced.run(torch.from_numpy(x.copy()).reshape(-1, *traced.in_shape), at_relu)
    return np.concatenate(seen, axis=1)


def traced_specimen(specimen: Specimen) -> TracedModel:
    return Model.of(specimen.model(), in_shape=specimen.in_shape).traced


def read_in(traced: TracedModel, box: Box, chunk_bytes: int = 1 << 25) -> ReLUProgram:
    bounds = preactivation_bounds(traced, *box.bounds(traced.in_shape), chunk_bytes=chunk_bytes)
    return read_program(traced, bounds, chunk_bytes=chunk_bytes)


def whole_patterns(partition: Partition) -> set[bytes]:
    patterns = partition.program.whole_pattern(partition.patterns())
    assert len({p.tobytes() for p in patterns}) == len(patterns)
    return {p.tobytes() for p in patterns}


@pytest.mark.parametrize("specimen", MODELS, ids=str)
@examples(8)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.01, 0.3, 1.0, 10.0]))
def test_no_point_of_the_box_leaves_the_bounds(specimen: Specimen, seed: int, width: float) -> None:
    traced, rng = traced_specimen(specimen), np.random.default_rng(seed)
    box = random_box(rng, traced.in_shape, width)
    bounds = preactivation_bounds(traced, *box.bounds(traced.in_shape))
    z = preactivations(traced, points_of(box, traced.in_shape, rng))
    lower = np.concatenate([np.zeros(0), *(stage.lower for stage in bounds)])
    upper = np.concatenate([np.zeros(0), *(stage.upper for stage in bounds)])
    assert z.shape[1] == len(lower)
    assert np.all(lower <= z)
    assert np.all(z <= upper)


@pytest.mark.parametrize("specimen", MODELS, ids=str)
@examples(5)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.01, 0.3, 1.0, 10.0]))
def test_the_program_of_a_box_is_the_model_there(specimen: Specimen, seed: int, width: float) -> None:
    traced, rng = traced_specimen(specimen), np.random.default_rng(seed)
    box = random_box(rng, traced.in_shape, width)
    program, x = read_in(traced, box), points_of(box, traced.in_shape, rng)
    with torch.no_grad():
        expected = specimen.model()(torch.from_numpy(x).reshape(-1, *traced.in_shape)).reshape(len(x), -1).numpy()
    np.testing.assert_allclose(program(x), expected, atol=1e-9 * (1.0 + np.abs(expected).max()))
    z = preactivations(traced, x)
    clear = np.abs(z) > 1e-9 * (1.0 + np.abs(z).max(initial=0.0))
    found = program.whole_pattern(program.pattern(x))
    np.testing.assert_array_equal(found[clear], (z > 0.0)[clear])
    np.testing.assert_allclose(
        program.preactivations(x), z[:, program.network.neurons], atol=1e-9 * (1 + np.abs(z).max(initial=0.0))
    )


COUNTED = tuple(s for s in MODELS if s.name not in ("image", "convolutions", "30-5-4-2"))


@pytest.mark.parametrize("specimen", COUNTED, ids=str)
@examples(4)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.05, 0.4, 1.5]))
def test_the_program_of_a_box_has_the_regions_of_the_model_there(specimen: Specimen, seed: int, width: float) -> None:
    traced, rng = traced_specimen(specimen), np.random.default_rng(seed)
    box = random_box(rng, traced.in_shape, width)
    assert whole_patterns(enumerate_regions(read_in(traced, box), box)) == whole_patterns(
        enumerate_regions(read_program(traced), box)
    )


@pytest.mark.parametrize("make", [Convolutions, lambda: chain(30, 6, 6, 3)], ids=["convolutions", "chain"])
def test_many_inputs(make: Callable[[], nn.Module]) -> None:
    in_shape = (1, 4, 4) if make is Convolutions else (30,)
    specimen = Specimen("", make, in_shape)
    traced = traced_specimen(specimen)
    centre = np.random.default_rng(0).standard_normal(in_shape)
    box = Box(centre - 0.05, centre + 0.05)
    local = enumerate_regions(read_in(traced, box), box)
    assert local.program.num_neurons < sum(local.program.network.sizes)
    assert local.num_regions > 1
    assert whole_patterns(local) == whole_patterns(enumerate_regions(read_program(traced), box))


def test_the_bounds_of_the_first_stage_are_those_of_interval_arithmetic() -> None:
    traced = traced_specimen(random_mlp((30, 5, 4, 2)))
    box = random_box(np.random.default_rng(0), (30,), 1.0)
    lower, upper = box.bounds((30,))
    stage = read_program(traced).stages[0]
    positive, negative = np.maximum(stage.weight, 0.0), np.minimum(stage.weight, 0.0)
    found = preactivation_bounds(traced, lower, upper)[0]
    np.testing.assert_allclose(found.lower, positive @ lower + negative @ upper + stage.bias, rtol=1e-7)
    np.testing.assert_allclose(found.upper, positive @ upper + negative @ lower + stage.bias, rtol=1e-7)


def test_bounds_keep_what_values_have_in_common() -> None:
    """relu(x + 5) - relu(x + 3) is 2 on the box: intervals alone would say between 0 and 4."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.copy_(torch.tensor([5.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
        model[2].bias.zero_()
    bounds = preactivation_bounds(Model.of(model).traced, -np.ones(1), np.ones(1))[1]
    np.testing.assert_allclose([bounds.lower[0], bounds.upper[0]], [2.0, 2.0], rtol=1e-7)


@pytest.mark.parametrize("specimen", [random_mlp((30, 25, 20, 2)), Specimen("", Convolutions, (1, 4, 4))], ids=str)
def test_chunks_of_any_size_give_the_same(specimen: Specimen) -> None:
    traced = traced_specimen(specimen)
    box = random_box(np.random.default_rng(0), traced.in_shape, 0.5)
    one, many = (preactivation_bounds(traced, *box.bounds(traced.in_shape), chunk_bytes=size) for size in (1 << 25, 1))
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a.lower, b.lower, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a.upper, b.upper, rtol=1e-12, atol=1e-12)
    for bounds in (None, one):
        whole, parts = (read_program(traced, bounds, chunk_bytes=size) for size in (1 << 25, 1))
        for a, b in zip(whole.stages, parts.stages, strict=True):
            np.testing.assert_allclose(a.weight, b.weight, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(a.bias, b.bias, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(whole.out_weight, parts.out_weight, rtol=1e-12, atol=1e-14)


class TwoBranches(nn.Module):
    """Its second ReLU reads what enters the first one, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(F.relu(self.second(F.relu(h) - h)))


@pytest.mark.parametrize(
    ("specimen", "is_chain"),
    [
        (random_mlp((3, 20, 20, 20, 2)), True),
        (Specimen("batch in the middle", BatchInTheMiddle, (2, 3)), True),
        (Specimen("two branches", TwoBranches, (3,)), False),
        (Specimen("convolutions", Convolutions, (1, 4, 4)), True),
        (Specimen("no ReLU", lambda: nn.Linear(3, 2), (3,)), True),
    ],
    ids=str,
)
def test_a_chain_is_bounded_in_one_run_as_in_one_for_each_stage(specimen: Specimen, is_chain: bool) -> None:
    traced = traced_specimen(specimen)
    assert traced.is_chain == is_chain
    box = random_box(np.random.default_rng(0), traced.in_shape, 0.5).bounds(traced.in_shape)
    once = preactivation_bounds(traced, *box)
    traced.__dict__["is_chain"] = False
    each = preactivation_bounds(traced, *box)
    for a, b in zip(once, each, strict=True):
        np.testing.assert_allclose(a.lower, b.lower, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a.upper, b.upper, rtol=1e-12, atol=1e-12)
    assert len(preactivation_bounds(traced_specimen(specimen), *box, max_unstable=1)) == len(
        preactivation_bounds(traced, *box, max_unstable=1)
    )


@pytest.mark.parametrize(
    "make", [lambda: chain(3, 40, 40, 2), Residual, SharedLinear], ids=["chain", "residual", "shared"]
)
def test_stages_and_neurons_are_numbered_as_in_the_whole_network(make: Callable[[], nn.Module]) -> None:
    traced = traced_specimen(Specimen("", make, (3,)))
    full = read_program(traced)
    program = read_in(traced, Box(0.2, 0.4))
    assert program.network.sizes == tuple(stage.num_neurons for stage in full.stages)
    assert program.num_neurons == len(program.network.neurons) < full.num_neurons
    for neuron in range(full.num_neurons):
        stage = int(np.searchsorted(full.offsets, neuron, side="right"))
        expected = f"stage {stage} neuron {neuron - full.offsets[stage - 1]}"
        assert program.neuron_name(neuron) == full.neuron_name(neuron) == expected
    assert "that can change sign" in str(program)


def make_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every network count as large."""
    monkeypatch.setattr(extent, "SMALL", 0)


def test_only_large_networks_in_bounded_boxes_are_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(3, 8, 8, 2)
    assert read_model(model, domain=Box(0.0, 0.1)).whole is None
    make_large(monkeypatch)
    assert read_model(model, domain=Box(0.0, 0.1)).whole is not None
    assert read_model(model).whole is None
    assert read_model(model, domain=WholeSpace()).whole is None
    assert read_model(model, domain=Box(0.0, [0.1, 0.2, np.inf])).whole is None


def test_what_is_too_large_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    make_large(monkeypatch)
    monkeypatch.setattr(extent, "MAX_BYTES", 8 * 2 * 15)
    model = chain(3, 40, 40, 2)
    with pytest.raises(TransformError, match=r"80 ReLUs and 3 inputs.*data=X.*Box"):
        read_model(model)
    with pytest.raises(TransformError, match=r"domain: .* found at least \d+ .*make the box smaller"):
        read_model(model, domain=Box(-5.0, 5.0))
    assert read_model(model, domain=Box(0.2, 0.2 + 1e-9)).num_neurons == 0


def test_a_region_shows_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = chain(3, 20, 20, 2).double()
    box = Box(0.1, 0.5)
    full = ShallowReLU(enumerate_regions(read_model(model), box))
    make_large(monkeypatch)
    shallow = ShallowReLU(enumerate_regions(read_model(model, domain=box), box))
    assert shallow.partition.program.num_neurons < 40
    assert shallow.num_regions == full.num_regions > 1
    x = torch.rand(200, 3, dtype=torch.float64) * 0.4 + 0.1
    torch.testing.assert_close(shallow(x), model(x))
    for row, here, there in zip(x, shallow.locate(x).tolist(), full.locate(x).tolist(), strict=True):
        region, same = shallow.regions[here], full.regions[there]
        assert torch.equal(region.pattern, same.pattern)
        torch.testing.assert_close(region.weight, same.weight)
        assert set(region.facets().names) == set(same.facets().names)
        assert set(region.facets().neurons.tolist()) == set(same.facets().neurons.tolist())
        assert region.contains(row)


def test_certificates_know_all_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = chain(3, 20, 20, 2)
    make_large(monkeypatch)
    box = Box(0.1, 0.5)
    partition = enumerate_regions(read_model(model, domain=box), box)
    certificate = certify(ShallowReLU(partition), model, points=100)
    assert certificate.passed, str(certificate)
    assert "stable neurons" in [check.name for check in certificate.checks]
    network = partition.program.network
    network.active[np.setdiff1d(np.arange(40), network.neurons)[3]] ^= True
    failed = [check.name for check in certify(ShallowReLU(partition), model, points=100).checks if not check.passed]
    assert failed == ["deep pattern", "stable neurons"]


def test_transform_in_a_small_box_of_a_large_network() -> None:
    torch.manual_seed(0)
    model, centre = chain(784, 128, 64, 10), torch.rand(784)
    shallow = transform(model, domain=Box(centre - 0.002, centre + 0.002))
    assert 1 < shallow.num_regions <= 2**shallow.partition.program.num_neurons
    x = centre + 0.002 * (2 * torch.rand(100, 784) - 1)
    torch.testing.assert_close(shallow(x), model(x), atol=1e-5, rtol=1e-5)
