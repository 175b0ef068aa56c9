"""The exact range of the outputs."""

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from tests.explain.milp import largest_by_milp
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain.globally import cell_programs, extrema, in_chart, output_range
from torch_shallow.program.model import read_model

SMALL = ("2-5-4-1", "residual", "densely connected", "hand-written", "branches", "duplicated", "signs")
SPECIMENS = [specimen for specimen in zoo.ALL if specimen.name in SMALL]
BOX = Box(-1.0, 1.0)
FEW = (*zoo.DEGENERATE, *zoo.ARCHITECTURES)
REST = [pytest.param(s, marks=pytest.mark.slow) for s in zoo.ALL if s not in FEW and np.prod(s.in_shape) <= 6]
ALL = [*(s for s in FEW if np.prod(s.in_shape) <= 6), *REST]


def never_beaten(found, model, lower, upper, in_shape, rows=20_000):
    x = np.random.default_rng(0).uniform(lower, upper, (rows, len(lower)))
    with torch.no_grad():
        y = model(torch.from_numpy(x).reshape(rows, *in_shape)).flatten(1)
    slack = 1e-9 * (1.0 + y.abs().amax(0))
    assert (y.amin(0) >= found.lower.reshape(-1) - slack).all()
    assert (y.amax(0) <= found.upper.reshape(-1) + slack).all()


def attained(found, model, domain, in_shape):
    """The points lie in the domain, and the deep network has the values there."""
    count = found.lower.numel()
    for points, values in ((found.argmin, found.lower), (found.argmax, found.upper)):
        x = points.reshape(count, *in_shape)
        finite = values.reshape(-1).isfinite()
        assert torch.equal(x.flatten(1).isfinite().all(1), finite)
        assert domain.contains(x.flatten(1)[finite]).all()
        with torch.no_grad():
            y = model(x[finite]).flatten(1)
        own = finite.nonzero()[:, 0]
        torch.testing.assert_close(y[torch.arange(len(y)), own], values.reshape(-1)[finite], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("max_rays", [1024, 1])
@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_equals_a_mixed_integer_program(specimen, max_rays):
    model, program = specimen.model(), read_model(specimen.model(), specimen.example())
    d = program.num_inputs
    found = output_range(torch_shallow.transform(model, specimen.example(), domain=BOX), max_rays=max_rays)
    direction = np.eye(program.num_outputs)[0]
    upper = largest_by_milp(program, -np.ones(d), np.ones(d), direction)
    lower = -largest_by_milp(program, -np.ones(d), np.ones(d), -direction)
    size = 1.0 + abs(upper) + abs(lower)
    assert abs(found.upper.reshape(-1)[0] - upper) < 1e-6 * size
    assert abs(found.lower.reshape(-1)[0] - lower) < 1e-6 * size


@pytest.mark.parametrize("specimen", ALL, ids=str)
@pytest.mark.parametrize("max_rays", [1024, pytest.param(1, marks=pytest.mark.slow)])
def test_no_sample_beats_it_and_it_is_attained(specimen, max_rays):
    model = specimen.model()
    inputs = int(np.prod(specimen.in_shape))
    shallow = torch_shallow.transform(model, specimen.example(), domain=BOX)
    found = output_range(shallow, max_rays=max_rays)
    assert found.attained
    assert found.residual < 1e-7  # the values are solutions of linear programs
    assert found.lower.shape == shallow.trunk_shape
    assert found.argmin.shape == (*shallow.trunk_shape, *shallow.in_shape)
    assert found.lower.dtype == torch.float64
    never_beaten(found, model, -np.ones(inputs), np.ones(inputs), specimen.in_shape, 2000)
    attained(found, model, BOX, specimen.in_shape)
    if max_rays == 1:
        other = output_range(shallow)
        torch.testing.assert_close(found.upper, other.upper)
        torch.testing.assert_close(found.lower, other.lower)


def by_vertices_and_by_programs(shallow, monkeypatch):
    """The same range in both ways."""
    found = []
    for corners in (np.inf, 0):
        monkeypatch.setattr(extrema, "CORNERS", corners)
        found.append(output_range(shallow))
    assert found[1].programs > 0
    return found


def same_extrema(one, other):
    torch.testing.assert_close(one.upper, other.upper, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.lower, other.lower, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("specimen", ALL, ids=str)
def test_programs_find_what_vertices_find(specimen, monkeypatch):
    shallow = torch_shallow.transform(specimen.model(), specimen.example(), domain=BOX)
    same_extrema(*by_vertices_and_by_programs(shallow, monkeypatch))


@pytest.mark.parametrize("seed", range(4))
def test_programs_find_what_vertices_find_in_boxes_of_other_sizes(seed, monkeypatch):
    torch.manual_seed(seed)
    model, rng = zoo.chain(5, 7, 6, 2).double(), np.random.default_rng(seed)
    centre, width = rng.normal(size=5), 10.0 ** rng.uniform(-3.0, 3.0, 5)
    box = Box(centre - width, centre + width)
    vertices, programs = by_vertices_and_by_programs(torch_shallow.transform(model, domain=box), monkeypatch)
    same_extrema(vertices, programs)
    attained(programs, model, box, (5,))


def test_programs_of_many_inputs_equal_a_mixed_integer_program():
    torch.manual_seed(0)
    model = zoo.chain(9, 5, 5, 1).double()
    found, program = output_range(torch_shallow.transform(model, domain=BOX)), read_model(model)
    assert found.programs > 0
    ends = [largest_by_milp(program, -np.ones(9), np.ones(9), np.array([sign])) for sign in (1.0, -1.0)]
    assert found.upper.item() == pytest.approx(ends[0], rel=1e-7)
    assert found.lower.item() == pytest.approx(-ends[1], rel=1e-7)
    never_beaten(found, model, -np.ones(9), np.ones(9), (9,))
    attained(found, model, BOX, (9,))


def test_programs_of_blocks_of_regions_are_the_same(monkeypatch):
    torch.manual_seed(0)
    shallow = torch_shallow.transform(zoo.chain(4, 8, 8, 3).double(), domain=BOX)
    monkeypatch.setattr(extrema, "CORNERS", 0)
    whole = output_range(shallow)
    monkeypatch.setattr(in_chart, "VALUES_AT_ONCE", 100 * 3 * 5)  # a hundred regions
    same_extrema(whole, output_range(shallow))


def test_what_compiled_programs_do_not_settle_highs_does(monkeypatch):
    torch.manual_seed(0)
    shallow = torch_shallow.transform(zoo.chain(3, 6, 6, 2).double(), domain=BOX)
    monkeypatch.setattr(extrema, "CORNERS", 0)
    expected = output_range(shallow)

    def nothing_settled(self, highest, regions, rows, *, all_of_them):
        return np.arange(len(regions))

    monkeypatch.setattr(cell_programs.CellPrograms, "raise_highest", nothing_settled)
    found = output_range(shallow)
    assert found.programs == 4 * shallow.num_regions
    torch.testing.assert_close(found.upper, expected.upper)
    torch.testing.assert_close(found.lower, expected.lower)


def test_rises_without_bound_along_a_ray():
    model = zoo.trap()  # 2 relu(x) + 3 relu(-x) + 7
    for max_rays in (1024, 1):
        found = output_range(torch_shallow.transform(model), max_rays=max_rays)
        assert found.lower.tolist() == [7.0]
        assert found.upper.tolist() == [torch.inf]
        assert found.argmin.tolist() == [[0.0]]
        assert found.argmax.isnan().all()
        assert found.lower_ray.isnan().all()
        ray = found.upper_ray[0]
        start = torch_shallow.transform(model).regions[int(found.upper_region[0])].interior_point
        assert model((start + 10 * ray).float()) > model(start.float()) + 1.0


def test_directions_that_no_neuron_reads():
    class Skip(nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.inner, self.slope = zoo.linear([[1.0, 0.0]], [0.0]), slope

        def forward(self, x):
            return torch.relu(self.inner(x)) + self.slope * x[:, 1:]

    free = output_range(torch_shallow.transform(Skip(0.5), torch.zeros(1, 2)))
    assert (free.lower.item(), free.upper.item()) == (-torch.inf, torch.inf)
    assert free.lower_ray[0].tolist() == [0.0, -1.0]
    inside = output_range(torch_shallow.transform(Skip(0.5), torch.zeros(1, 2), domain=Box([-1.0, -3.0], [2.0, 4.0])))
    assert (inside.lower.item(), inside.upper.item()) == (-1.5, 4.0)
    assert inside.argmin[0, 1] == -3.0
    assert inside.argmax[0].tolist() == [2.0, 4.0]
    half = output_range(
        torch_shallow.transform(Skip(-0.5), torch.zeros(1, 2), domain=Box([-1.0, -3.0], [2.0, torch.inf]))
    )
    assert (half.lower.item(), half.upper.item()) == (-torch.inf, 3.5)
    nothing = output_range(torch_shallow.transform(Skip(0.0), torch.zeros(1, 2)))
    assert (nothing.lower.item(), nothing.upper.item()) == (0.0, torch.inf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fixed_inputs_polytopes_and_charts_of_fewer_coordinates(dtype):
    torch.manual_seed(3)
    model = zoo.chain(4, 5, 3, 2).to(dtype)
    exact = model.double() if dtype == torch.float64 else torch_shallow.transform(model)
    box = Box([-1.0, 0.5, -2.0, 0.0], [1.0, 0.5, 0.0, 3.0])
    found = output_range(model, box)
    never_beaten(found, exact, *box.bounds((4,)), (4,))
    attained(found, exact, box, (4,))
    assert (found.argmax[:, 1] == 0.5).all()
    a, b = np.concatenate([np.eye(4), -np.eye(4), np.ones((1, 4))]), np.append(np.ones(8), 1.0)
    whole, polytope = output_range(model, Box(-1.0, 1.0)), output_range(model, Polytope(a, b))
    attained(polytope, exact, Polytope(a, b), (4,))
    assert (polytope.upper <= whole.upper + 1e-12).all()
    x = torch.rand(20_000, 4, dtype=torch.float64) * 2 - 1
    x = x[x.sum(1) <= 1.0]
    assert (exact(x).amax(0) <= polytope.upper + 1e-9).all()
    wide = zoo.chain(30, 3, 1).double()
    inside = output_range(wide)
    assert inside.upper.item() == torch.inf or wide(inside.argmax).item() == pytest.approx(inside.upper.item())


def test_shapes_without_entries_merged_and_stored_in_no_maps():
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = zoo.chain(2, 5, 1)

        def forward(self, x):
            return self.inner(x)[:, 0]

    torch.manual_seed(0)
    shallow = torch_shallow.transform(Scalar(), torch.zeros(1, 2), domain=BOX)
    found = output_range(shallow)
    assert found.lower.shape == ()
    assert found.argmin.shape == (2,)
    for other in (shallow.merge(), torch_shallow.transform(Scalar(), torch.zeros(1, 2), domain=BOX, store_maps=False)):
        again = output_range(other)
        assert again.lower <= again.upper
    assert output_range(shallow.merge()).upper == pytest.approx(found.upper.item())


def test_scales():
    torch.manual_seed(0)
    for scale in (1e-6, 1e6):
        model = zoo.chain(2, 6, 5, 2).double()
        with torch.no_grad():
            model[0].weight /= scale
        box = Box(-scale, scale)
        found = output_range(model, box)
        never_beaten(found, model, *box.bounds((2,)), (2,))
        attained(found, model, box, (2,))


def test_what_it_refuses():
    torch.manual_seed(0)
    model = zoo.chain(2, 5, 1)
    shallow = torch_shallow.transform(model, domain=BOX)
    with pytest.raises(TransformError, match="the only domain"):
        output_range(shallow, Box(-2.0, 2.0))
    with pytest.raises(TransformError, match="needs all regions"):
        output_range(torch_shallow.transform(model, data=torch.rand(5, 2)))
    with pytest.raises(TransformError, match="max_rays, tolerance"):
        output_range(shallow, max_rays=0)


def test_a_trained_network_may_jump():
    torch.manual_seed(0)
    shallow = torch_shallow.transform(zoo.chain(1, 3, 1), domain=BOX).unfreeze()
    with torch.no_grad():
        shallow.selection.biases += torch.randn_like(shallow.selection.biases)
    found = output_range(shallow)
    x = torch.linspace(-1, 1, 10_001, dtype=torch.float64)[:, None]
    y = shallow(x).detach()
    assert y.max() <= found.upper + 1e-12
    assert y.max() > found.upper - 1e-2


def test_points_of_a_network_with_a_head():
    shallow = torch_shallow.transform(nn.Sequential(*zoo.chain(2, 4, 3), nn.Softmax(-1)), domain=BOX)
    found = output_range(shallow)
    torch.testing.assert_close(shallow.trunk(found.argmax).diagonal(), found.upper)


@pytest.mark.parametrize("max_rays", [1024, 1])
@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
def test_everything_meets_in_a_vertex(max_rays, scale):
    """Without biases the least value is 0, at 0, where no term has a size; and weights of any size."""
    torch.manual_seed(8)
    for sizes in ((2, 5, 2, 1), (2, 4, 4, 3)):
        model = zoo.chain(*sizes, bias=False).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        found, size = output_range(model, BOX, max_rays=max_rays), scale ** (len(sizes) - 1)
        never_beaten(found, model, -np.ones(2), np.ones(2), (2,), 2000)
        y = model(torch.cat([found.argmin, found.argmax])).detach()
        own = torch.arange(2 * sizes[-1]) % sizes[-1]
        values = torch.cat([found.lower, found.upper])
        assert (y[torch.arange(len(y)), own] - values).abs().max() < 1e-9 * size


def test_a_head_that_grows_carries_the_range_over_and_others_are_named() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    logits = output_range(trunk, Box(-1.0, 1.0))
    found = output_range(nn.Sequential(trunk, nn.Sigmoid()), Box(-1.0, 1.0))
    assert torch.allclose(found.lower, logits.lower.sigmoid())
    assert torch.allclose(found.upper, logits.upper.sigmoid())
    assert not found.before_head
    assert str(found).startswith("output 0")
    found = output_range(nn.Sequential(trunk, nn.Softmax(-1)), Box(-1.0, 1.0))
    assert found.before_head
    assert str(found).startswith("value before the head 0")


def test_the_trunk_and_the_function_of_a_network_are_without_its_head() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    logits = output_range(trunk, BOX)
    shallow = torch_shallow.transform(nn.Sequential(trunk, nn.Sigmoid()), domain=BOX)
    for subject in (shallow.trunk, shallow.function):
        found = output_range(subject)
        assert found.before_head
        torch.testing.assert_close(found.lower, logits.lower)
        torch.testing.assert_close(found.upper, logits.upper)
