"""The network of visited regions is the model on them, and nothing elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.modules.laws import assert_equal, corner_points, deep, patterns_at
from tests.modules.visiting import SMALL, SOME, points_of, visited_of
from tests.zoo import ARCHITECTURES, Specimen, chain, transformed, trap
from torch_shallow import Box, TransformError, transform
from torch_shallow.certify import certify
from torch_shallow.domain import WholeSpace
from torch_shallow.functions import deep_function as neurons
from torch_shallow.modules import visited_relu as module
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.modules.visited_relu import VisitedReLU, visited_network
from torch_shallow.program.model import Model, read_model


def patterns(shallow: VisitedReLU) -> list[tuple[bool, ...]]:
    return [tuple(row) for row in shallow.patterns(torch.arange(shallow.num_regions)).tolist()]


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_right_on_the_data_and_where_the_pattern_is_known_and_nowhere_else(specimen: Specimen) -> None:
    x = points_of(specimen, 100)
    shallow = visited_of(specimen.model(), x, specimen.domain)
    program = read_model(specimen.model(), specimen.example())
    assert_equal(shallow(x), deep(specimen, x), 1e-9)
    assert (shallow.locate(x) >= 0).all()
    more = points_of(specimen, 300, seed=1)
    found, clear = patterns_at(program, more)
    known = patterns(shallow)
    expected = np.array([known.index(tuple(row)) if tuple(row) in known else -1 for row in found.tolist()])
    at = shallow.locate(more)
    assert np.array_equal(at.numpy()[clear], expected[clear])
    assert_equal(shallow(more)[at >= 0], deep(specimen, more)[at >= 0], 1e-9)
    assert shallow(more)[at < 0].isnan().all()


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_maps_are_those_of_the_program_under_the_pattern(specimen: Specimen) -> None:
    shallow = visited_of(specimen.model(), points_of(specimen, 100), specimen.domain)
    program = read_model(specimen.model(), specimen.example())
    weight, bias = shallow.affine_maps(torch.arange(shallow.num_regions))
    for region in range(0, shallow.num_regions, 1 + shallow.num_regions // 10):
        of_neurons, offsets, of_outputs, constants = program.affine_maps(shallow.regions[region].pattern.numpy())
        assert_equal(weight[region], torch.from_numpy(of_outputs), 1e-12)
        assert_equal(bias[region], torch.from_numpy(constants), 1e-12)
        found = shallow.function.neuron_maps(region)
        assert_equal(found[0], torch.from_numpy(of_neurons), 1e-12)
        assert_equal(found[1], torch.from_numpy(offsets), 1e-12)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_one_point_of_each_region_gives_the_partition_of_the_whole(specimen: Specimen) -> None:
    complete = transformed(specimen)
    inside = torch.from_numpy(complete.partition.interior_points()).reshape(-1, *complete.in_shape)
    shallow = visited_of(specimen.model(), inside, specimen.domain)
    assert shallow.num_regions == complete.num_regions
    x = points_of(specimen)
    _, clear = patterns_at(complete.partition.program, x)
    assert torch.equal(shallow.locate(x)[clear], complete.locate(x)[clear])
    assert_equal(shallow(x), complete(x), 1e-9)
    assert_equal(shallow.local_map(x[clear])[0], complete.local_map(x[clear])[0], 1e-9)
    assert shallow.coverage(x) == complete.coverage(x) == 1.0


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_corners_are_in_a_region_that_holds_them(specimen: Specimen) -> None:
    complete = transformed(specimen)
    inside = torch.from_numpy(complete.partition.interior_points()).reshape(-1, *complete.in_shape)
    shallow = visited_of(specimen.model(), inside, specimen.domain)
    x = corner_points(complete, most=10)[:200]
    at = shallow.locate(x)
    assert (at >= 0).all()
    assert_equal(shallow(x), deep(specimen, x), 1e-9)
    for point, region in list(zip(x, at, strict=True))[:20]:
        assert complete.regions[int(region)].contains(point, tolerance=1e-7)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_data_on_boundaries_are_located(specimen: Specimen) -> None:
    x = torch.cat([corner_points(transformed(specimen), most=10)[:100], points_of(specimen, 10)])
    shallow = visited_of(specimen.model(), x, specimen.domain)
    assert shallow.coverage(x) == 1.0
    alone = torch.stack([shallow.trunk(row) for row in x])
    assert_equal(alone, deep(specimen, x), 1e-9)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_growing_is_the_same_as_all_data_at_once(specimen: Specimen) -> None:
    x = points_of(specimen)
    at_once = visited_of(specimen.model(), x, specimen.domain)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    first, second, third = x[order].split([20, 100, len(x) - 120])
    grown = visited_of(specimen.model(), first, specimen.domain)
    covered = grown.coverage(second)
    assert covered == (grown.locate(second) >= 0).double().mean()
    before, added = grown.num_regions, grown.grow(second) + grown.grow(third)
    assert grown.num_regions == before + added
    assert sorted(patterns(grown)) == sorted(patterns(at_once))
    assert grown.grow(x) == 0
    assert grown.coverage(x) == 1.0
    assert_equal(grown(x), at_once(x), 1e-12)


def test_regions_are_numbered_in_the_order_of_visits() -> None:
    specimen = SOME[0]
    x = points_of(specimen)
    at = visited_of(specimen.model(), x).locate(x)
    first_seen = list(dict.fromkeys(at.tolist()))
    assert first_seen == list(range(len(first_seen)))


@pytest.mark.parametrize("specimen", SOME, ids=str)
def test_maps_that_are_not_stored_and_runs_of_few_rows(monkeypatch: pytest.MonkeyPatch, specimen: Specimen) -> None:
    x, more = points_of(specimen, 60), points_of(specimen, 100, seed=1)
    stored = visited_of(specimen.model(), x, specimen.domain)
    monkeypatch.setattr(module, "STORED_BYTES", 0)
    monkeypatch.setattr(neurons, "VALUES_AT_ONCE", 500)
    computed = visited_of(specimen.model(), x, specimen.domain)
    assert len(stored.local_models) == stored.num_regions
    assert len(computed.local_models) == 0
    for a, b in zip(stored.local_map(more), computed.local_map(more), strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert_equal(a.nan_to_num(), b.nan_to_num(), 1e-12)
    points = more[stored.locate(more) >= 0]
    gradients = []
    for shallow in (stored, computed):
        leaf = points.clone().requires_grad_()
        assert_equal(shallow(leaf).detach(), deep(specimen, points), 1e-9)
        gradients += torch.autograd.grad(shallow(leaf).sum(), leaf)
        assert_equal(shallow(points), deep(specimen, points), 1e-9)
    assert_equal(gradients[0], gradients[1], 1e-12)


@pytest.mark.parametrize("specimen", SOME, ids=str)
@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (0,), (3, 0, 2)], ids=str)
def test_any_batch_dimensions(specimen: Specimen, batch: tuple[int, ...]) -> None:
    shallow = visited_of(specimen.model(), points_of(specimen), specimen.domain)
    x = torch.rand(*batch, *shallow.in_shape, dtype=torch.float64)
    y, region, (weight, bias) = shallow(x), shallow.locate(x), shallow.local_map(x)
    assert y.shape == bias.shape == (*batch, *shallow.out_shape)
    assert region.shape == batch
    assert weight.shape == (*batch, *shallow.out_shape, *shallow.in_shape)
    rows = x.reshape(-1, *shallow.in_shape)
    alone = [int(shallow.locate(row)) for row in rows]
    assert region.flatten().tolist() == alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_of_the_input_is_that_of_the_output(dtype: torch.dtype) -> None:
    specimen = SOME[0]
    x = points_of(specimen).to(dtype)
    shallow = visited_of(specimen.model(), x)
    assert shallow(x).dtype == shallow.local_map(x)[0].dtype == dtype
    assert torch.equal(shallow(x), shallow(x.double()).to(dtype))
    assert_equal(shallow(x.double()), deep(specimen, x.double()), 1e-9)
    assert shallow.float().points.dtype == torch.float64
    with torch.inference_mode():
        assert shallow.grow(10 * x) >= 0
        assert_equal(shallow(x.double()), deep(specimen, x.double()), 1e-9)


def test_no_scale_of_a_neuron_matters() -> None:
    model = chain(3, 6, 5, 2).double()
    x = torch.randn(200, 3, dtype=torch.float64)
    more = torch.randn(500, 3, dtype=torch.float64)
    expected = visited_of(model, x).locate(more)
    with torch.no_grad():
        factor = 2.0 ** torch.linspace(-60, 60, 6).round().double()
        model[0].weight *= factor[:, None]
        model[0].bias *= factor
        model[2].weight /= factor
    shallow = visited_of(model, x)
    assert torch.equal(shallow.locate(more), expected)
    assert_equal(shallow(x), model(x).detach(), 1e-9)


def test_the_point_at_which_no_pattern_of_a_region_holds() -> None:
    x = torch.tensor([[1.0], [-1.0]])
    shallow = visited_of(trap(), x)
    assert torch.equal(shallow(torch.tensor([[0.0], [-0.0], [2.0]])), torch.tensor([[7.0], [7.0], [11.0]]))
    alone = visited_of(trap(), torch.zeros(1, 1))
    assert alone(torch.zeros(1)).item() == 7.0
    assert alone.locate(x).tolist() == [-1, -1]
    assert alone.grow(x) == 2
    assert alone.regions[0].half_spaces.names == ("stage 1 neuron 0 inactive", "stage 1 neuron 1 inactive")
    with pytest.raises(TransformError, match="region 0: expected a region with an interior"):
        alone.regions[0].vertices()


class Forward(nn.Module):
    """A convolution and a layer, in the way that a function says."""

    def __init__(self, forward: Callable[[Forward, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 3, 2), nn.Linear(12, 5)
        self.constant = torch.rand(3)
        self.way = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


WAYS: dict[str, Callable[[Forward, Tensor], Tensor]] = {
    "plain": lambda m, x: m.linear(m.convolution(x).relu().flatten(1)).relu(),
    "batch elsewhere": lambda m, x: m.linear(m.convolution(x).transpose(0, 1).relu().transpose(0, 1).flatten(1)),
    "flattens batch": lambda m, x: (
        (m.convolution(x).permute(0, 2, 3, 1).reshape(-1, 3) - m.constant).relu().reshape(x.shape[0], 12)
    ),
    "in place": lambda m, x: m.linear(m.convolution(x).relu_().flatten(1)).relu_() - x[:, 0, :1, 0].relu(),
    "hidden from gradients": lambda m, x: m.linear(m.convolution(x).relu().detach().flatten(1)).relu(),
    "more outputs than inputs": lambda m, x: torch.cat([m.convolution(x).relu().flatten(1)] * 2, 1),
    "one number": lambda m, x: m.linear(m.convolution(x).relu().flatten(1)).relu().sum(1),
}


@pytest.mark.parametrize("way", WAYS)
def test_models_of_all_kinds(way: str) -> None:
    torch.manual_seed(0)
    model = Forward(WAYS[way])
    x = torch.randn(50, 1, 3, 3)
    shallow = visited_of(model, x)
    program = read_model(model, x)
    y = model.double()(x.double()).detach() if way != "flattens batch" else None
    if y is not None:
        assert_equal(shallow(x.double()), y, 1e-9)
    expected = torch.from_numpy(program(x.double().flatten(1).numpy())).reshape(len(x), *program.out_shape)
    assert_equal(shallow(x.double()), expected, 1e-9)
    weight, _ = shallow.affine_maps(torch.arange(shallow.num_regions))
    for region in range(0, shallow.num_regions, 7):
        of_outputs = program.affine_maps(shallow.regions[region].pattern.numpy())[2]
        assert_equal(weight[region], torch.from_numpy(of_outputs), 1e-12)
    assert {tuple(row) for row in program.pattern(x.double().flatten(1).numpy()).tolist()} == set(patterns(shallow))


def test_a_domain_bounds_the_network() -> None:
    model = chain(2, 6, 1)
    x = 2 * torch.rand(100, 2) - 1
    shallow = visited_of(model, x, Box(-1.0, 1.0))
    assert shallow.domain.contains(x).all()
    outside = torch.tensor([[1.5, 0.0], [torch.nan, 0.0], [torch.inf, 0.0]])
    assert shallow(outside).isnan().all()
    assert shallow.locate(outside).tolist() == [-1] * 3
    assert shallow.coverage(torch.cat([x, outside])) == 100 / 103


def test_a_complete_network_does_not_grow() -> None:
    complete = transformed(next(s for s in ARCHITECTURES if s.name == "image"))
    x = torch.full((4, 1, 2, 3), 0.5)
    x[0] = 2.0
    assert complete.grow(x) == 0
    assert complete.coverage(x) == 0.75


def test_it_says_what_it_is() -> None:
    x = torch.randn(50, 2)
    shallow = visited_of(chain(2, 6, 1), x)
    assert isinstance(shallow, RegionNetwork)
    assert not shallow.complete
    assert f"{shallow.num_regions} visited activation regions of 6 neurons" in repr(shallow)
    assert repr(shallow.regions[0]).startswith(f"VisitedRegion(0 of {shallow.num_regions} visited: ")
    assert len(shallow.regions) == shallow.num_regions
    needs_a_tree = ("continuity_gap", "extended_weights", "merge", "resume", "soften", "to_sequential")
    assert not any(hasattr(shallow, name) for name in needs_a_tree)


def test_copies_and_state_dicts() -> None:
    model, x, other = chain(2, 6, 1).double(), torch.randn(60, 2).double(), torch.randn(60, 2).double()
    shallow = visited_of(model, x[:1])
    copied = copy.deepcopy(shallow)
    copied.grow(x)
    assert shallow.num_regions == 1
    assert_equal(copied(x), model(x).detach(), 1e-9)
    moved = visited_of(model, other[[int((shallow.locate(other) < 0).nonzero()[0])]])
    moved.load_state_dict(shallow.state_dict())
    assert torch.equal(moved.locate(other), shallow.locate(other))
    assert all(not parameter.requires_grad for parameter in shallow.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_data_on_the_boundary_of_a_box_belong_to_it_in_any_precision(dtype: torch.dtype) -> None:
    model, box = chain(2, 6, 1), Box(-0.1, 0.3)  # neither is a number of low precision
    x = torch.tensor([[0.3, 0.3], [-0.1, 0.3], [0.0, -0.1]], dtype=dtype)
    shallow = transform(model, data=x, domain=box)
    assert (shallow.locate(x) >= 0).all()
    assert shallow(x).isfinite().all()
    assert shallow.grow(x) == 0
    lower, upper = box.bounds((2,))
    assert ((shallow.points.numpy() >= lower) & (shallow.points.numpy() <= upper)).all()
    assert certify(shallow, model).passed


@pytest.mark.parametrize(
    "head",
    [lambda y: y.argmax(-1), lambda y: y[:, 0] > y[:, 1], lambda y: y.softmax(-1)[:, 0], lambda y: y.sum(-1)],
    ids=["whole numbers", "truth values", "numbers of a softmax", "numbers"],
)
@pytest.mark.parametrize("whole", [True, False])
def test_outputs_without_dimensions(head: Callable[[Tensor], Tensor], whole: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = chain(2, 6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return head(self.trunk(x))

    model, x = Model(), torch.randn(20, 2, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double()(x)
    model.float()  # in which the rows are not in the same regions
    shallow = transform(model) if whole else transform(model, data=x)
    assert shallow(x).dtype == expected.dtype
    assert_equal(shallow(x).double(), expected.double(), 1e-9)
    assert_equal(shallow(x[0]).double(), expected[0].double(), 1e-9)
    assert shallow(x[0]).shape == ()


def test_progress_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    read, x = Model.of(chain(2, 6, 1)), torch.randn(50, 2)
    visited_network(read, x, WholeSpace(), progress=False)
    assert capsys.readouterr().err == ""
    visited_network(read, x, WholeSpace(), progress=True)
    assert "finding regions: 100%" in capsys.readouterr().err
