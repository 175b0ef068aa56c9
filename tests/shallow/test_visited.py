"""The network of visited regions is the model on them, and nothing elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.shallow.laws import assert_equal, corner_points, deep, random_points
from tests.zoo import ARCHITECTURES, DEGENERATE, Specimen, chain, trap
from torch_shallow import Box, Polytope, ShallowReLU, TransformError, transform
from torch_shallow.certify import certify
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.shallow.visited import module, neurons
from torch_shallow.shallow.visited.build import visited_network
from torch_shallow.shallow.visited.module import VisitedReLU
from torch_shallow.trace.program import ReLUProgram
from torch_shallow.trace.reader import read_model, trace_model

NAMES = ("no ReLU in a box", "trap", "zero at a corner", "zero rows", "coincident across stages")
NAMES += ("3-6-5-2 on Polytope", "densely connected", "image")
SMALL = tuple(s for s in (*DEGENERATE, *ARCHITECTURES) if s.name.startswith(NAMES))
SOME = tuple(s for s in ARCHITECTURES if s.name in ("2-5-4-1", "image", "densely connected"))


def visited_of(model: nn.Module, x: Tensor, domain: Domain | None = None, example: Tensor | None = None) -> VisitedReLU:
    return visited_network(trace_model(model, x[:1] if example is None else example), x, domain or WholeSpace())


@cache
def complete_of(specimen: Specimen) -> ShallowReLU:
    return transform(specimen.model(), specimen.example(), domain=specimen.domain)


def points_of(specimen: Specimen, count: int = 300, seed: int = 0) -> Tensor:
    return random_points(complete_of(specimen), count, seed)


def brute_force(program: ReLUProgram, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Patterns by plain matrix products, and at which points they are clear."""
    flat = x.double().reshape(len(x), -1).numpy()
    z = program.preactivations(flat)
    size = 1.0 + np.abs(flat).max(axis=1, keepdims=True)
    return z > 0.0, ((np.abs(z) > 1e-7 * size) | (z == 0.0)).all(axis=1)


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
    found, clear = brute_force(program, more)
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
        found = shallow.neuron_maps(region)
        assert_equal(found[0], torch.from_numpy(of_neurons), 1e-12)
        assert_equal(found[1], torch.from_numpy(offsets), 1e-12)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_one_point_of_each_region_gives_the_partition_of_the_whole(specimen: Specimen) -> None:
    complete = complete_of(specimen)
    inside = torch.from_numpy(complete.partition.interior_points()).reshape(-1, *complete.in_shape)
    shallow = visited_of(specimen.model(), inside, specimen.domain)
    assert shallow.num_regions == complete.num_regions
    x = points_of(specimen)
    _, clear = brute_force(complete.partition.program, x)
    assert torch.equal(shallow.locate(x)[clear], complete.locate(x)[clear])
    assert_equal(shallow(x), complete(x), 1e-9)
    assert_equal(shallow.local_map(x[clear])[0], complete.local_map(x[clear])[0], 1e-9)
    assert shallow.coverage(x) == complete.coverage(x) == 1.0


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_corners_are_in_a_region_that_holds_them(specimen: Specimen) -> None:
    complete = complete_of(specimen)
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
    x = torch.cat([corner_points(complete_of(specimen), most=10)[:100], points_of(specimen, 10)])
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
    with pytest.raises(TransformError, match="region 0: it has no interior"):
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


DOMAINS = [
    WholeSpace(),
    Box(-1.0, 1.0),
    Box([-1.0, 0.25, -torch.inf], [1.0, 0.25, 2.0]),
    Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]], [1.5, 1.0]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_regions_are_those_of_the_whole(domain: Domain) -> None:
    torch.manual_seed(0)
    model = chain(3, 6, 5, 2).double()
    complete = transform(model, domain=domain)
    inside = torch.from_numpy(complete.partition.interior_points())
    shallow = visited_of(model, inside, domain)
    for region, expected in list(zip(shallow.regions, complete.regions, strict=True))[:: complete.num_regions // 3]:
        assert torch.equal(region.pattern, expected.pattern)
        assert torch.equal(region.interior_point, inside[region.index])
        assert_equal(region.weight, expected.weight, 1e-12)
        assert_equal(region.bias, expected.bias, 1e-12)
        for kind in ("vertices", "rays"):
            found, right = getattr(region, kind)(), getattr(expected, kind)()
            assert len(found) == len(right)
            assert torch.cdist(found, right).amin(0).amax() < 1e-7 if len(right) else True
        assert sorted(region.facets().names) == sorted(expected.facets().names)
        assert set(region.facets().names) <= set(region.half_spaces.names)
        assert region.chebyshev()[1] == pytest.approx(expected.chebyshev()[1], rel=1e-6)
        assert region.contains(region.interior_point)
        assert torch.equal(region.contains(inside), expected.contains(inside))


def test_facets_in_many_dimensions() -> None:
    torch.manual_seed(0)
    model = chain(40, 60, 5).double()
    shallow = visited_of(model, torch.randn(3, 40, dtype=torch.float64))
    region = shallow.regions[1]
    facets = region.facets()
    assert 0 < len(facets) <= 60
    assert region.contains(region.chebyshev()[0])
    outside = [name for name in region.half_spaces.names if name not in facets.names]
    point = region.interior_point
    for name in outside[:5]:
        row = region.half_spaces.names.index(name)
        normal, bound = region.half_spaces.A[row], region.half_spaces.b[row]
        step = (bound - normal @ point) / (normal @ normal) * normal
        assert (facets.A @ (point + 1.01 * step) > facets.b).any()
    with pytest.raises(TransformError, match="more than 50 vertices and rays"):
        region.vertices(max_rays=50)


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
    complete = complete_of(next(s for s in ARCHITECTURES if s.name == "image"))
    x = torch.full((4, 1, 2, 3), 0.5)
    x[0] = 2.0
    assert complete.grow(x) == 0
    assert complete.coverage(x) == 0.75


def test_it_says_what_it_is() -> None:
    x = torch.randn(50, 2)
    shallow = visited_of(chain(2, 6, 1), x)
    assert isinstance(shallow, ShallowReLU)
    assert not shallow.complete
    assert f"{shallow.num_regions} visited activation regions of 6 neurons" in repr(shallow)
    assert repr(shallow.regions[0]).startswith(f"VisitedRegion(0 of {shallow.num_regions} visited: ")
    assert len(shallow.regions) == shallow.num_regions
    with pytest.raises(TransformError, match="need all regions of the domain"):
        shallow.extended_weights()


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


def test_rows_that_lie_elsewhere_in_the_precision_of_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(chain(2, 100, 3), nn.Softmax(-1))
    scale = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    x = 1.0 + torch.rand(20, 2, dtype=torch.float64) * scale
    assert (transform(model, data=x).locate(x) >= 0).all()


def test_data_are_called_data() -> None:
    with pytest.raises(TransformError, match=r"data: expected a floating-point tensor, found torch\.int64"):
        transform(chain(2, 3, 1), data=torch.zeros(3, 2, dtype=torch.int64))


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
def test_vertices_far_from_the_origin_are_exact(shift: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    near = visited_of(model, x := torch.randn(20, 2, dtype=torch.float64))
    with torch.no_grad():
        model[0].bias -= shift * model[0].weight.sum(1)
    far = visited_of(model, x + shift)
    assert far.num_regions == near.num_regions
    for one, other in zip(near.regions, far.regions, strict=True):
        expected = one.vertices() + shift
        found = other.vertices()
        assert len(found) == len(expected)
        length = 1.0 + one.vertices().abs().max()
        assert torch.cdist(found, expected).amin(1).max() <= 1e-12 * shift * length + 1e-9 * length


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[0.0, 0.0]], "data: expected a floating-point tensor, found list"),
        (torch.zeros(3, 2, dtype=torch.int64), "data: expected a floating-point tensor, found torch.int64"),
        (torch.zeros(3, 4), r"data: expected a tensor of shape \(rows, 2\) with one or more rows, found \(3, 4\)"),
        (torch.zeros(0, 2), r"one or more rows, found \(0, 2\)"),
        (torch.zeros(2), r"one or more rows, found \(2,\)"),
        (
            torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [0.0, torch.inf]]),
            r"data: 2 of 3 rows are not finite \(NaN or inf\), the first of them row 1",
        ),
        (torch.zeros(3, 2).to_sparse(), "data: expected a dense tensor with values, found layout torch.sparse_coo"),
        (torch.zeros(3, 2, device="meta"), "data: expected a dense tensor with values, found a tensor on the meta"),
        (torch.tensor([[0.0, 0.0], [0.0, 3.0]]), "data: 1 of 2 rows lie outside the domain, the first of them row 1"),
    ],
    ids=["list", "integers", "shape", "no row", "no batch", "not finite", "sparse", "meta", "outside"],
)
def test_bad_data(monkeypatch: pytest.MonkeyPatch, data: Tensor, message: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    traced = trace_model(chain(2, 3, 1))
    with pytest.raises(TransformError, match=message):
        visited_network(traced, data, Box(-1.0, 1.0))
    shallow = visited_of(chain(2, 3, 1), torch.zeros(1, 2), Box(-1.0, 1.0))
    with pytest.raises(TransformError, match=message.replace("data:", "x:")):
        shallow.grow(data)


class Sly(nn.Module):
    """Looks at what torch.fx does not see."""

    def __init__(self, wrong: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.wrong, self.traced = chain(2, 4, 2), wrong, False

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y if isinstance(x, torch.fx.Proxy) else self.wrong(y)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(lambda y: y + 1e-6, "torch.fx does not see"), (lambda y: y - y.mean(0), "treat each row of a batch by itself")],
)
def test_a_model_that_is_not_its_graph(wrong: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        visited_of(Sly(wrong), torch.randn(10, 2))


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_certificates_pass(specimen: Specimen) -> None:
    shallow = visited_of(specimen.model(), points_of(specimen, 50), specimen.domain)
    certificate = certify(shallow, specimen.model(), sample=20, points=300).require()
    assert certificate["deep Jacobian"].examined == min(20, shallow.num_regions)
    assert certificate["equal, visiting inputs"].examined == shallow.num_regions


def change_a_weight(shallow: VisitedReLU) -> None:
    shallow.local_models.weights[3, 0, 0] += 1e-3


def change_a_pattern(shallow: VisitedReLU) -> None:
    shallow.known_patterns.packed[3, 0] ^= 128
    shallow.known_patterns._forget()


def repeat_a_pattern(shallow: VisitedReLU) -> None:
    shallow.known_patterns.packed[3] = shallow.known_patterns.packed[2]
    shallow.known_patterns._forget()


def change_the_neurons(shallow: VisitedReLU) -> None:
    with torch.no_grad():
        shallow.neurons.root[0].bias += 0.5


@pytest.mark.parametrize(
    ("tamper", "checks"),
    [
        (change_a_weight, {"deep Jacobian", "equal, visiting inputs", "equal, inside", "equal, facets"}),
        (change_a_pattern, {"deep pattern", "located"}),
        (repeat_a_pattern, {"different", "deep pattern", "located"}),
        (change_the_neurons, {"located", "known or NaN"}),
    ],
)
def test_tampering_is_found(tamper: Callable[[VisitedReLU], None], checks: set[str]) -> None:
    torch.manual_seed(0)
    model = chain(2, 6, 5, 2).double()
    shallow = visited_of(model, torch.randn(50, 2, dtype=torch.float64))
    assert certify(shallow, model, points=500).passed
    tamper(shallow)
    certificate = certify(shallow, model, points=500)
    assert checks <= {check.name for check in certificate.checks if not check.passed}


def test_another_model_is_found() -> None:
    x = torch.randn(50, 2)
    shallow = visited_of(chain(2, 6, 1), x)
    assert not shallow.certify(chain(2, 6, 1)).passed
    assert not shallow.certify(chain(2, 7, 1)).passed
    with pytest.raises(TransformError, match="certify with the model that was transformed"):
        shallow.certify(chain(2, 6, 2))


def test_progress_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    traced, x = trace_model(chain(2, 6, 1)), torch.randn(50, 2)
    visited_network(traced, x, WholeSpace(), progress=False)
    assert capsys.readouterr().err == ""
    visited_network(traced, x, WholeSpace(), progress=True)
    assert "finding regions: 100%" in capsys.readouterr().err


def test_a_model_that_does_something_else_in_float64_is_refused() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).relu() + (1.0 if self.layer.weight.dtype == torch.float32 else 0.0)

    with pytest.raises(TransformError, match=r"in torch\.float32"):
        transform(Chooses(), data=torch.randn(5, 2))
    assert transform(Chooses().double(), data=torch.randn(5, 2)).num_regions > 0


def test_bad_arguments_of_transform() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    for wrong in ({"method": "lp"}, {"solver": "CLARABEL"}):
        with pytest.raises(TransformError, match="data: with data no linear programs"):
            transform(model, data=torch.randn(5, 2), **wrong)
    with pytest.raises(TransformError, match="data"):
        transform(model, torch.zeros(1, 2), data=torch.randn(5, 3))
