"""All engines find the same regions: those of brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cases import examples
from tests.reference import brute_force_patterns
from tests.search.programs import dense_program, draw_domain, draw_program, mlp
from tests.search.walks import asking, problem_of, walked
from tests.zoo import ARCHITECTURES, DEEP, DEGENERATE, Specimen
from torch_shallow.domain import Box, Domain, WholeSpace
from torch_shallow.geometry.dual_simplex import FAILED
from torch_shallow.program.model import read_model
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines import ray_engine
from torch_shallow.search.engines import simplex_engine as by_simplex
from torch_shallow.search.engines import simplex_walk as simplex_walk
from torch_shallow.search.engines.ray_engine import RayWalk
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.engines.solvers import by_highs
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.partition import Partition
from torch_shallow.search.task_output import Harvest

Engine = Callable[[ReLUProgram, Domain], Partition]


def grow(program: ReLUProgram, domain: Domain, max_rays: int | None, hand_over: str, tolerance: float) -> Partition:
    """Rays, whose cells of more than `max_rays` go to another engine; that one alone if `max_rays` is -1."""
    solver = None if hand_over in ("HiGHS", "simplex") else hand_over
    problem = problem_of(program, domain, solver=solver, tolerance=tolerance, max_rays=max_rays)

    def walk(harvest: Harvest) -> None:
        other = asking(problem, harvest).run if hand_over == "HiGHS" else SimplexWalk(problem, harvest).run
        if max_rays == -1:
            other()
        else:
            RayWalk(problem, harvest, other).run()

    return walked(problem, domain, walk)


def engine(max_rays: int | None, hand_over: str, tolerance: float = 1e-9) -> Engine:
    return lambda program, domain: grow(program, domain, max_rays, hand_over, tolerance)


ENGINES: dict[str, Engine] = {
    "rays": engine(None, "simplex"),
    "simplex": engine(-1, "simplex"),
    "HiGHS": engine(-1, "HiGHS"),
    "rays, at once simplex": engine(0, "simplex"),
    "rays, soon simplex": engine(2, "simplex"),
    "rays, later simplex": engine(4, "simplex"),
    "rays, soon HiGHS": engine(3, "HiGHS"),
    "auto": enumerate_regions,
}


def patterns_of(partition: Partition) -> set[tuple[bool, ...]]:
    patterns = [tuple(bool(bit) for bit in pattern) for pattern in partition.patterns()]
    assert len(set(patterns)) == len(patterns), "a pattern occurs twice"
    return set(patterns)


def assert_tree(partition: Partition) -> None:
    """P - 1 cuts; every cut and region is below the root just once; the leaf is on the side its pattern says."""
    assert partition.num_cuts == partition.num_regions - 1
    assert sum(partition.method.values()) == partition.num_regions
    patterns, depths = partition.patterns(), 0
    seen, stack = [], [(0, ())] if partition.num_cuts else [(~0, ())]
    while stack:
        node, path = stack.pop()
        depths = max(depths, len(path))
        if node < 0:
            seen.append(~node)
            assert partition.path(~node) == list(path)
            for cut, side in path:
                assert patterns[~node, partition.cut_neurons[cut]] == side
            neurons = [partition.cut_neurons[cut] for cut, _ in path]
            assert len(set(neurons)) == len(neurons), "a neuron cuts a cell that it has cut before"
        else:
            stack += [(int(partition.children[node, side]), (*path, (node, bool(side)))) for side in (0, 1)]
    assert sorted(seen) == list(range(partition.num_regions))
    assert depths <= partition.program.num_neurons


def assert_interior(partition: Partition) -> None:
    """Every interior point is in the domain and has its region's pattern, as far as rounding shows."""
    program, points = partition.program, partition.interior_points()
    assert np.isfinite(points).all()
    a, b = partition.domain.inequalities(program.in_shape)
    assert np.all(points @ a.T <= b + 1e-12 * (1.0 + np.abs(points) @ np.abs(a).T))
    z, active = program.preactivations(points), partition.patterns()
    size = 1.0 + np.abs(points).max(axis=1, initial=0.0)[:, None] * (1.0 + np.abs(z))
    assert np.all(np.where(active, z > 0.0, z <= 1e-12 * size))


def assert_same(program: ReLUProgram, domain: Domain, engines: dict[str, Engine], expected: set | None = None) -> None:
    for name, find in engines.items():
        partition = find(program, domain)
        assert_tree(partition)
        assert_interior(partition)
        found = patterns_of(partition)
        expected = found if expected is None else expected
        assert found == expected, f"{name}: {len(found - expected)} patterns too many, {len(expected - found)} missing"


@given(st.data())
@examples(120)
def test_all_engines_agree_with_brute_force_on_degenerate_programs(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    assert_same(program, domain, ENGINES, brute_force_patterns(program, domain))


def draw_float_program(data: st.DataObject) -> ReLUProgram:
    """Gaussian weights of several scales; zero biases, sparse and nearly dead rows."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    num_inputs = data.draw(st.integers(1, 4))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    weights, biases, before = [], [], num_inputs
    for size in sizes:
        scale = 10.0 ** data.draw(st.integers(-1, 1))
        weight = scale * rng.standard_normal((size, before))
        weight[rng.random(weight.shape) < data.draw(st.sampled_from([0.0, 0.3, 0.7]))] = 0.0
        bias = scale * data.draw(st.sampled_from([0.0, 0.1, 1.0])) * rng.standard_normal(size)
        weights.append(weight)
        biases.append(bias)
        before += size
    return dense_program(num_inputs, weights, biases)


@given(st.data())
@examples(80)
def test_all_engines_agree_on_programs_of_floats(data: st.DataObject) -> None:
    program = draw_float_program(data)
    assert_same(program, draw_domain(data, program.num_inputs), ENGINES)


@given(st.data())
@examples(12)
def test_float_programs_agree_with_brute_force(data: st.DataObject) -> None:
    program = draw_float_program(data)
    if program.num_neurons <= 8:
        assert patterns_of(enumerate_regions(program, Box(-1.0, 1.0))) == brute_force_patterns(program, Box(-1.0, 1.0))


@given(st.data())
@examples(10)
def test_a_solver_of_cvxpy_agrees(data: st.DataObject) -> None:
    program = draw_program(data, max_inputs=2, max_neurons=4)
    domain = draw_domain(data, program.num_inputs)
    solvers = {"rays": ENGINES["rays"], "Clarabel": engine(-1, "CLARABEL"), "handed over": engine(3, "CLARABEL")}
    assert_same(program, domain, solvers)


SMALL = [s for s in (*DEGENERATE, *DEEP) if s.regions is None or s.regions <= 40]


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_all_engines_agree_with_brute_force_on_the_zoo(specimen: Specimen) -> None:
    program = read_model(specimen.model(), specimen.example())
    expected = brute_force_patterns(program, specimen.domain) if program.num_neurons <= 14 else None
    assert_same(program, specimen.domain, ENGINES, expected)
    assert expected is None or specimen.regions in (None, len(expected))


@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0)], ids=["zoo", "cube"])
@pytest.mark.parametrize("specimen", ARCHITECTURES, ids=str)
def test_engines_agree_on_larger_models(specimen: Specimen, domain: Domain | None) -> None:
    program = read_model(specimen.model(), specimen.example())
    some = {name: ENGINES[name] for name in ("rays", "simplex", "rays, later simplex", "auto")}
    if program.num_inputs > 10 and isinstance(domain, Box):
        del some["rays"], some["rays, later simplex"]
    assert_same(program, domain or specimen.domain, some)


@pytest.mark.parametrize("max_rays", [5, 12, 40])
@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0), Box([-1.0] * 4, [1.0, np.inf, 0.5, 3.0])], ids=str)
def test_cells_are_handed_over_in_mid_flight(domain: Domain, max_rays: int) -> None:
    program = mlp(4, 8, 7, 1)
    partition = engine(max_rays, "simplex")(program, domain)
    assert "simplex" in partition.method or max_rays == 40
    assert_tree(partition)
    assert_interior(partition)
    assert patterns_of(partition) == patterns_of(ENGINES["rays"](program, domain))


def test_cells_of_many_rays_change_early_where_many_neurons_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    program, domain = mlp(4, 6, 13, 1), WholeSpace()
    monkeypatch.setattr(ray_engine, "MANY_RAYS", 8)
    partition = enumerate_regions(program, domain, method="auto")
    assert set(partition.method) == {"double-description", "simplex"}
    assert_tree(partition)
    assert_interior(partition)
    monkeypatch.undo()
    alone = enumerate_regions(program, domain, method="double-description")
    assert set(alone.method) == {"double-description"}
    assert patterns_of(partition) == patterns_of(alone)


@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0)], ids=str)
def test_programs_that_fail_go_to_the_solver(monkeypatch: pytest.MonkeyPatch, domain: Domain) -> None:
    rng, decide, asked = np.random.default_rng(0), simplex_walk.solve, []
    monkeypatch.setattr(by_simplex, "walk_by_simplex", simplex_walk.walk_by_simplex.py_func)
    monkeypatch.setattr(simplex_walk, "two_signs", simplex_walk.two_signs.py_func)
    monkeypatch.setattr(simplex_walk, "solve", lambda *program: FAILED if rng.random() < 0.5 else decide(*program))
    monkeypatch.setattr(by_simplex, "by_highs", lambda *program: asked.append(program) or by_highs(*program))
    program = mlp(3, 6, 5, 1)
    partition = ENGINES["simplex"](program, domain)
    assert len(asked) > 10
    assert_tree(partition)
    assert_interior(partition)
    assert patterns_of(partition) == patterns_of(ENGINES["rays"](program, domain))


@given(st.data())
@examples(40)
def test_the_regions_of_a_smaller_domain_are_among_those_of_a_larger(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    if isinstance(domain, Box):  # a fixed input may lie on a hyperplane, where other patterns hold
        lower, upper = domain.bounds(program.in_shape)
        assume((lower < upper).all())
    assert patterns_of(enumerate_regions(program, domain)) <= patterns_of(enumerate_regions(program, WholeSpace()))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-3, 1e3, 1e6]))
@examples(20)
def test_units_of_inputs_and_neurons_do_not_matter(seed: int, scale: float) -> None:
    program, rng = mlp(3, 6, 5, 1), np.random.default_rng(seed)
    factors = scale ** rng.random(6)
    first, second = program.stages
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    scaled = dense_program(
        3,
        [
            factors[:, None] * first.weight @ turn / scale,
            np.column_stack([second.weight[:, :3], second.weight[:, 3:] / factors]),
        ],
        [factors * first.bias, second.bias],
    )
    assert patterns_of(enumerate_regions(scaled, WholeSpace())) == patterns_of(enumerate_regions(program, WholeSpace()))


@given(st.data())
@examples(25)
def test_no_point_of_the_domain_is_left_out(data: st.DataObject) -> None:
    program, rng = draw_float_program(data), np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    for domain, points in (
        (WholeSpace(), [scale * rng.standard_normal((200, program.num_inputs)) for scale in (1e-2, 1.0, 1e2, 1e4)]),
        (Box(-1.0, 1.0), [rng.uniform(-1.0, 1.0, (500, program.num_inputs))]),
    ):
        partition = enumerate_regions(program, domain)
        z = program.preactivations(np.concatenate(points))
        clear = np.abs(z).min(axis=1) > 1e-6 * np.abs(z).max(axis=1)  # not within the tolerance of a boundary
        assert {tuple(bool(bit) for bit in row) for row in z[clear] > 0.0} <= patterns_of(partition)
