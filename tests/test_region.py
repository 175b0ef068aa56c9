"""Laws of a region: its half-spaces, its facets and its vertices, rays and lines are three forms of one set."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import HalfspaceIntersection
from torch import nn

import torch_shallow
from tests.cases import examples
from tests.reference import rank
from tests.search.programs import draw_domain, draw_program, mlp
from tests.zoo import chain, linear
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.explain import adjacency
from torch_shallow.functions import Region, Regions
from torch_shallow.functions.shape import fixed_inputs
from torch_shallow.geometry.polyhedron import polyhedron
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.enumerate import enumerate_regions


def shallow_of(program: ReLUProgram, domain: Domain) -> ShallowReLU:
    return ShallowReLU(enumerate_regions(program, domain))


def without_input(program: ReLUProgram, column: int) -> ReLUProgram:
    """The program with one input that no neuron reads."""
    stages = []
    for stage in program.stages:
        weight = stage.weight.copy()
        weight[:, column] = 0.0
        stages.append(Stage(stage.name, weight, stage.bias))
    return ReLUProgram(program.in_shape, program.out_shape, tuple(stages), program.out_weight, program.out_bias)


def draw_regions(data: st.DataObject) -> Regions:
    program = draw_program(data)
    if data.draw(st.booleans()):
        program = without_input(program, data.draw(st.integers(0, program.num_inputs - 1)))
    try:
        return shallow_of(program, draw_domain(data, program.num_inputs)).regions
    except TransformError:  # a polytope without interior
        return shallow_of(program, WholeSpace()).regions


def support(a: np.ndarray, b: np.ndarray, direction: np.ndarray) -> float:
    """The largest value of a linear function on `a x <= b`, by scipy."""
    if not len(b):
        return np.inf if direction.any() else 0.0
    solution = linprog(-direction, A_ub=a, b_ub=b, bounds=(None, None), method="highs")
    assert solution.status in (0, 3)
    return -solution.fun if solution.status == 0 else np.inf


def support_of_generators(region: Region, direction: np.ndarray) -> float:
    vertices, rays, lines = (kind().flatten(1).numpy() for kind in (region.vertices, region.rays, region.lines))
    if (rays @ direction > 1e-9).any() or (np.abs(lines @ direction) > 1e-9).any():
        return np.inf
    return float((vertices @ direction).max())


@examples(40)
@given(st.data())
def test_generators_and_half_spaces_are_one_set(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    a, b = region.half_spaces.numpy()
    rng = np.random.default_rng(0)
    directions = np.concatenate([rng.standard_normal((10, a.shape[1])), rng.integers(-2, 3, (10, a.shape[1])), a, -a])
    for direction in directions:
        expected = support(a, b, direction)
        assert support_of_generators(region, direction) == pytest.approx(expected, abs=1e-6)


@examples(40)
@given(st.data())
def test_vertices_rays_and_lines_are_extreme(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    a, b = region.half_spaces.numpy()
    d, lines = a.shape[1], region.lines().numpy()
    assert np.abs(a @ lines.T).max(initial=0.0) <= 1e-9
    assert rank(lines) == len(lines) == d - (rank(a) if len(b) else 0)
    for vertex in region.vertices().numpy():
        tight = a[np.abs(a @ vertex - b) <= 1e-9]
        assert rank(np.concatenate([tight, lines])) == d
    for ray in region.rays().numpy():
        tight = a[np.abs(a @ ray) <= 1e-9]
        assert np.linalg.norm(ray) == pytest.approx(1.0)
        assert rank(np.concatenate([tight, lines])) == d - 1
    for rows in (region.vertices().numpy(), region.rays().numpy()):
        distances = np.abs(rows[:, None] - rows[None]).sum(axis=-1)
        assert (distances > 1e-9).sum() == len(rows) * (len(rows) - 1)


@examples(40)
@given(st.data())
def test_facets_are_the_half_spaces_that_cannot_be_left_out(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    a, b = region.half_spaces.numpy()
    facets = region.facets()
    few_a, few_b = facets.numpy()
    for row, bound in zip(a, b, strict=True):
        assert support(few_a, few_b, row) <= bound + 1e-6
    for i in range(len(few_b)):
        others = np.arange(len(few_b)) != i
        assert support(few_a[others], few_b[others], few_a[i]) > few_b[i] + 1e-6


@pytest.mark.parametrize("sizes", [(2, 8, 8, 1), (3, 6, 6, 1)])
def test_vertices_are_those_of_scipy(sizes: tuple[int, ...]) -> None:
    for region in shallow_of(mlp(*sizes), Box(-1.0, 1.0)).regions:
        a, b = region.half_spaces.numpy()
        expected = HalfspaceIntersection(np.column_stack([a, -b]), region.interior_point.numpy()).intersections
        found = region.vertices().numpy()
        distances = np.abs(found[:, None] - expected[None]).max(axis=-1)
        assert distances.min(axis=0).max() < 1e-6
        assert distances.min(axis=1).max() < 1e-6


@examples(25)
@given(st.data())
def test_the_largest_ball(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    a, b = region.half_spaces.numpy()
    domain = region.function.domain
    free = np.ones(a.shape[1], dtype=bool)
    if isinstance(domain, Box):
        lower, upper = domain.bounds(region.function.in_shape)
        free = lower < upper
    centre, radius = region.chebyshev()
    norms = np.linalg.norm(a[:, free], axis=1)
    system = np.column_stack([a, norms])
    expected = support(system, b, np.append(np.zeros(a.shape[1]), 1.0))
    assert radius == pytest.approx(expected, rel=1e-6)
    assert region.contains(centre)
    if np.isfinite(radius):
        assert (b - a @ centre.numpy() >= norms * radius * (1 - 1e-9) - 1e-12).all()


@examples(25)
@given(st.data())
def test_constraints_are_the_region(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    a, b = region.half_spaces.numpy()
    direction = np.random.default_rng(0).standard_normal(a.shape[1])
    x = cvxpy.Variable(a.shape[1])
    point = region.interior_point.numpy()
    inside = [*region.constraints(x), cvxpy.norm_inf(x - point) <= 10.0]
    found = cvxpy.Problem(cvxpy.Maximize(direction @ x), inside).solve(solver="HIGHS")
    eye = np.eye(a.shape[1])
    everything = np.concatenate([a, eye, -eye]), np.concatenate([b, point + 10.0, 10.0 - point])
    expected = support(*everything, direction)
    assert found == pytest.approx(expected, abs=1e-6)


@examples(25)
@given(st.data())
def test_one_map_and_one_pattern_in_a_region(data: st.DataObject) -> None:
    regions = draw_regions(data)
    program = regions[0].function.tree.program
    for region in regions:
        rng = np.random.default_rng(region.index)
        vertices, point = region.vertices(), region.interior_point
        mix = torch.from_numpy(rng.dirichlet(np.ones(len(vertices)), size=20))
        x = 0.1 * point + 0.9 * mix @ vertices  # inside, since the interior point is
        x = torch.cat([x, point[None], vertices])
        assert region.contains(x).all()
        assert torch.allclose(x @ region.weight.T + region.bias, torch.from_numpy(program(x.numpy())), atol=1e-9)
        assert (program.pattern(point[None].numpy())[0] == region.pattern.numpy()).all()
        assert region.function.locate(point) == region.index


def test_shapes_and_dtypes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Unflatten(1, (2, 3)))
    shallow = torch_shallow.transform(model, torch.zeros(1, 2, 2), domain=Box(-1.0, 1.0))
    region = shallow.regions[0]
    assert region.weight.shape == (2, 3, 2, 2)
    assert region.bias.shape == (2, 3)
    assert region.interior_point.shape == region.vertices().shape[1:] == region.chebyshev()[0].shape == (2, 2)
    assert region.rays().shape == region.lines().shape == (0, 2, 2)
    assert region.half_spaces.A.shape == (len(region.half_spaces), 4)
    assert region.pattern.dtype == torch.bool
    assert region.contains(torch.zeros(5, 6, 2, 2)).shape == (5, 6)
    floats = (region.weight, region.bias, region.interior_point, region.half_spaces.A, region.vertices())
    assert all(tensor.dtype == torch.float64 for tensor in floats)
    x = torch.randn(2, 2, dtype=torch.float64)
    assert torch.allclose(
        (region.weight * x).sum((-2, -1)) + region.bias,
        shallow.affine_maps(torch.tensor([0]))[0][0].reshape(2, 3, 4) @ x.flatten() + region.bias,
    )
    grid = cvxpy.Variable((2, 2))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(grid - region.interior_point.numpy())), region.constraints(grid))
    assert problem.solve(solver="CLARABEL") == pytest.approx(0.0, abs=1e-6)


def test_names_of_half_spaces() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU()).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (1.0, 0.0, 1.0, -1.0), strict=True):
            parameter.fill_(value)
    shallow = torch_shallow.transform(model, domain=Box(-2.0, 3.0))
    last = shallow.regions[int(shallow.locate(torch.tensor([2.0])))]
    assert last.half_spaces.names == ("stage 1 neuron 0 active", "stage 2 neuron 0 active", "domain", "domain")
    assert last.half_spaces.neurons.tolist() == [0, 1, -1, -1]
    assert last.facets().names == ("stage 2 neuron 0 active", "domain")
    assert last.vertices().flatten().sort().values.tolist() == [1.0, 3.0]
    assert repr(last) == f"Region({last.index} of 3: 2 of 2 neurons active, 2 cuts above)"
    assert repr(last.facets()) == ("RegionHalfSpaces(A x <= b in 1 input, 2 rows: stage 2 neuron 0 active, domain)")


def test_the_order_of_half_spaces_does_not_matter() -> None:
    # Two hyperplanes that are parallel but for 1.4e-9 would meet far outside the square.
    nearly = np.array([[-8e-10, 0.7, 0.7], [6e-10, 0.7, 0.7], [5e-10, -0.8, 0.6]])
    square = np.array([[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    rows = np.concatenate([nearly, square])
    rng = np.random.default_rng(0)
    for order in (np.arange(7), np.arange(7)[::-1], *(rng.permutation(7) for _ in range(20))):
        found = polyhedron(rows[order], 100)
        assert found is not None
        assert len(found.vertices) == 4
        assert (found.vertices @ rows[:, :-1].T + rows[:, -1] >= -1e-8).all()


def test_few_neurons_in_many_inputs_leave_lines() -> None:
    torch.manual_seed(0)
    shallow = torch_shallow.transform(nn.Sequential(nn.Linear(50, 3), nn.ReLU(), nn.Linear(3, 1)))
    for region in shallow.regions:
        assert (len(region.vertices()), len(region.rays()), len(region.lines())) == (1, 3, 47)
        assert np.isinf(region.chebyshev()[1])
        assert len(region.facets()) == 3


def test_no_neuron_at_all() -> None:
    region = torch_shallow.transform(nn.Linear(3, 2)).regions[0]
    assert (len(region.vertices()), len(region.rays()), len(region.lines()), len(region.facets())) == (1, 0, 3, 0)
    assert region.chebyshev()[1] == np.inf
    assert region.constraints(cvxpy.Variable(3)) == []
    assert region.contains(torch.ones(3))
    boxed = torch_shallow.transform(nn.Linear(3, 2), domain=Box([0.0, 0.0, -np.inf], [1.0, 0.0, 2.0])).regions[0]
    assert sorted(boxed.vertices().tolist()) == [[0.0, 0.0, 2.0], [1.0, 0.0, 2.0]]
    assert boxed.rays().tolist() == [[0.0, 0.0, -1.0]]
    assert len(boxed.facets()) == len(boxed.half_spaces) == 5


def test_a_sequence() -> None:
    regions = shallow_of(mlp(2, 4, 1), WholeSpace()).regions
    count = len(regions)
    assert [region.index for region in regions] == list(range(count))
    assert regions[-1] == regions[count - 1] == regions[torch.tensor(count - 1)]
    assert [region.index for region in regions[2:8:3]] == [2, 5]
    assert [region.index for region in regions[::-1][:2]] == [count - 1, count - 2]
    assert regions[3] in regions
    assert regions[2:].index(regions[4]) == 2
    assert repr(regions[:2]) == f"Regions(2 of {count} activation regions)"
    for index in (count, -count - 1):
        with pytest.raises(IndexError, match=rf"expected -{count} to {count - 1}, for {count} regions, found {index}"):
            regions[index]
    with pytest.raises(TypeError):
        regions["first"]


def test_errors_say_what_to_do() -> None:
    region = shallow_of(mlp(3, 4, 1), Box(-1.0, 1.0)).regions[0]
    with pytest.raises(TransformError, match="max_rays: expected at most 2 vertices and rays, found more"):
        region.vertices(max_rays=2)
    with pytest.raises(TransformError, match=r"x: expected shape \(\*batch, 3\), found \(4,\)"):
        region.contains(torch.zeros(4))
    with pytest.raises(TransformError, match=r"x: expected a cvxpy expression of shape \(3,\)"):
        region.constraints(cvxpy.Variable(4))
    with pytest.raises(TransformError, match="solver: "):
        region.chebyshev(solver="NO SUCH SOLVER")


def test_idle_inputs_of_a_box_multiply_vertices() -> None:
    model = nn.Sequential(nn.Linear(40, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:, 1:] = 0.0
    region = torch_shallow.transform(model, domain=Box(-100.0, 100.0)).regions[0]
    with pytest.raises(TransformError, match="39 inputs that no neuron reads"):
        region.vertices()
    assert len(region.facets()) == 80
    small = torch_shallow.transform(model, domain=Box([-100.0] * 3 + [0.0] * 37, [100.0] * 3 + [0.0] * 37))
    assert len(small.regions[0].vertices()) == 8
    polytope = Polytope(np.eye(40)[:2], np.ones(2))
    assert len(torch_shallow.transform(model, domain=polytope).regions[0].lines()) == 38


def neighbours_of(regions: Regions) -> dict[int, list[int]]:
    return {region.index: [other.index for other in region.neighbours()] for region in regions}


@examples(15)
@given(st.data())
def test_neighbours_are_those_of_the_graph(data: st.DataObject) -> None:
    regions = draw_regions(data)
    found, graph = neighbours_of(regions), adjacency(regions[0].function)
    assert found == {region: sorted(graph[region]) for region in graph}
    assert all(one in found[other] for one in found for other in found[one])


def test_neighbours_share_a_facet() -> None:
    cross = torch_shallow.transform(nn.Sequential(linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), nn.ReLU()))
    assert [len(others) for others in neighbours_of(cross.regions).values()] == [2, 2, 2, 2]  # a corner is none
    assert cross.regions[0].neighbours()[0] == cross.regions[cross.regions[0].neighbours()[0].index]
    assert torch_shallow.transform(nn.Linear(3, 2)).regions[0].neighbours() == []
    with torch.inference_mode():
        assert len(cross.regions[0].neighbours()) == 2
    merged = shallow_of(mlp(2, 4, 3, 1), Box(-1.0, 1.0)).merge()
    assert neighbours_of(merged.regions) == {region: sorted(others) for region, others in adjacency(merged).adjacency()}


@pytest.mark.filterwarnings("ignore::torch_shallow.IncompleteWarning")
def test_neighbours_that_are_not_known() -> None:
    torch.manual_seed(0)
    model = chain(2, 8, 8, 1)
    whole, part = torch_shallow.transform(model), torch_shallow.transform(model, max_regions=60)
    told = 0
    for region in part.regions:
        expected = whole.regions[int(whole.locate(region.interior_point))].neighbours()
        expected = sorted(int(part.locate(other.interior_point)) for other in expected)
        if expected[0] >= 0:
            assert [other.index for other in region.neighbours()] == expected
            told += 1
        else:
            with pytest.raises(TransformError, match=f"region {region.index} touches an unexplored cell"):
                region.neighbours()
    assert 0 < told < part.num_regions
    visited = torch_shallow.transform(model, data=torch.zeros(1, 2))
    with pytest.raises(TransformError, match="neighbours: expected a network that knows all regions"):
        visited.regions[0].neighbours()
    with pytest.raises(TransformError, match="max_rays: region 0 has more than 1 vertices"):
        whole.regions[0].neighbours(max_rays=1)


@examples(15)
@given(st.data())
def test_a_region_as_a_domain(data: st.DataObject) -> None:
    regions = draw_regions(data)
    region = regions[data.draw(st.integers(0, len(regions) - 1))]
    if fixed_inputs(region.function.domain, region.function.in_shape).any():
        with pytest.raises(TransformError, match="as_polytope: expected a domain in which every input"):
            region.as_polytope()
        return
    alone = shallow_of(region.function.tree.program, region.as_polytope())
    assert alone.num_regions == 1
    assert torch.allclose(alone.regions[0].weight, region.weight)
    assert torch.allclose(alone.regions[0].bias, region.bias)
    x = region.interior_point + torch.randn(100, len(region.interior_point), generator=torch.manual_seed(0)).double()
    assert torch.equal(alone.locate(x) == 0, region.contains(x))


def test_another_model_in_a_region() -> None:
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Flatten(), chain(4, 6, 1)).double() for _ in range(2))
    x = torch.randn(1, 2, 2).double()
    visited = torch_shallow.transform(model, data=x)
    for shallow in (visited, torch_shallow.transform(model, x)):
        region = shallow.regions[int(shallow.locate(x))]
        assert torch_shallow.transform(model, x, domain=region.as_polytope()).num_regions == 1
        within = torch_shallow.transform(other, x, domain=region.as_polytope() & Box.around(x[0], 0.5))
        near = x[0] + torch.rand(200, 2, 2).double() - 0.5
        assert torch.equal(within.locate(near) >= 0, region.contains(near))
        known = within.locate(near) >= 0
        assert torch.allclose(within(near[known]), other(near[known]))
