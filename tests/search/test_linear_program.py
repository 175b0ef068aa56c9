"""Laws of the enumeration by linear programs that a solver settles."""

from __future__ import annotations

import itertools
from math import comb

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import examples
from tests.known_counts import RANDOM_NETWORKS
from tests.reference import brute_force_patterns
from tests.search.programs import arrangement, dense_program, draw_domain, draw_program, mlp
from tests.search.walks import asking, problem_of, walked
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.partition import Partition
from torch_shallow.search.problem import Cell
from torch_shallow.search.task_output import Harvest


def partition_of(program: ReLUProgram, domain: Domain | None = None, **options: object) -> Partition:
    domain = domain or WholeSpace()
    problem = problem_of(program, domain, **({"tolerance": 1e-9} | options))
    return walked(problem, domain, lambda harvest: asking(problem, harvest).run())


def pattern_set(partition: Partition) -> set[tuple[bool, ...]]:
    patterns = [tuple(bool(bit) for bit in pattern) for pattern in partition.patterns()]
    assert len(set(patterns)) == len(patterns)
    return set(patterns)


def assert_consistent(partition: Partition) -> None:
    """A tree, whose regions hold their interior points and lie on the side of each cut that the tree says."""
    program = partition.program
    assert partition.num_cuts == partition.num_regions - 1
    patterns, points = partition.patterns(), partition.interior_points()
    assert np.isfinite(points).all()
    a, b = partition.domain.inequalities(program.in_shape)
    assert np.all(points @ a.T <= b + 1e-12 * (1.0 + np.abs(points) @ np.abs(a).T))
    z = program.preactivations(points)
    rounding = 1e-12 * (1.0 + np.abs(points).max(axis=1, initial=0.0))[:, None] * (1.0 + np.abs(z))
    assert np.all(np.where(patterns, z > 0.0, z <= rounding))
    for region in range(min(partition.num_regions, 50)):
        path = partition.path(region)
        assert len({partition.cut_neurons[cut] for cut, _ in path}) == len(path)
        assert all(patterns[region, partition.cut_neurons[cut]] == side for cut, side in path)


@given(st.data())
@examples(80)
def test_same_patterns_as_brute_force(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    partition = partition_of(program, domain)
    assert_consistent(partition)
    assert pattern_set(partition) == brute_force_patterns(program, domain)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@examples(15)
def test_no_random_point_lies_outside_all_regions(seed: int, num_inputs: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 3)
    before = num_inputs + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    program = dense_program(
        num_inputs,
        [rng.standard_normal((n, m)) for n, m in zip(sizes, before, strict=True)],
        [rng.standard_normal(n) for n in sizes],
    )
    partition = partition_of(program)
    assert_consistent(partition)
    points = np.concatenate([scale * rng.standard_normal((300, num_inputs)) for scale in (0.1, 1.0, 10.0, 1e4)])
    assert {tuple(bool(bit) for bit in row) for row in program.pattern(points)} <= pattern_set(partition)


@pytest.mark.parametrize("solver", cvxpy.installed_solvers())
@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0)], ids=str)
def test_every_installed_solver_finds_the_same(solver: str, domain: Domain) -> None:
    program = mlp(2, 5, 3, 1)
    # First-order solvers are not accurate enough for the default tolerance.
    tolerance = 1e-5 if solver in {"OSQP", "SCS"} else 1e-9
    partition = partition_of(program, domain, solver=solver, tolerance=tolerance)
    assert_consistent(partition)
    assert pattern_set(partition) == pattern_set(partition_of(program, domain))


@pytest.mark.parametrize("solver", [None, "CLARABEL"])
@pytest.mark.parametrize("gap", [1e-5, 1e-7, 1e-8])
@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0), Polytope([[1.0, 1.0]], [1.0])], ids=str)
def test_thin_cells_have_interior_points(domain: Domain, gap: float, solver: str | None) -> None:
    program = arrangement(np.array([[1.0, 1.0]] * 4 + [[1.0, -1.0]]), np.append(gap * np.arange(4), 0.1))
    partition = partition_of(program, domain, solver=solver)
    assert_consistent(partition)
    assert partition.num_regions == 10


def test_the_compiled_problem_grows_with_the_path() -> None:
    program = arrangement(np.ones((40, 1)), np.arange(40.0))
    assert partition_of(program, solver="clarabel").num_regions == 41


def test_an_unknown_solver_is_refused_with_the_installed_ones() -> None:
    with pytest.raises(TransformError, match=r"SIMPLEX.*CLARABEL|CLARABEL.*SIMPLEX"):
        partition_of(mlp(2, 3, 1), solver="SIMPLEX")


def braid(n: int) -> np.ndarray:
    pairs = list(itertools.combinations(range(n), 2))
    return np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in pairs])


def type_b(n: int) -> np.ndarray:
    pairs = list(itertools.combinations(range(n), 2))
    return np.concatenate([np.eye(n), braid(n), [np.eye(n)[i] + np.eye(n)[j] for i, j in pairs]])


ARRANGEMENTS = {
    "braid 3": (braid(3), np.zeros(3), 6),
    "braid 4": (braid(4), np.zeros(6), 24),
    "braid 5": (braid(5), np.zeros(10), 120),
    "type B 3": (type_b(3), np.zeros(9), 48),
    "type B 4": (type_b(4), np.zeros(16), 384),
    "Shi 3": (np.repeat(braid(3), 2, axis=0), np.tile([0.0, -1.0], 3), 16),
    "Shi 4": (np.repeat(braid(4), 2, axis=0), np.tile([0.0, -1.0], 6), 125),
    "grid": (np.repeat(np.eye(3), 3, axis=0), np.tile([-1.0, 0.0, 1.0], 3), 64),
    "coincident": (np.tile(np.eye(2), (3, 1)), np.zeros(6), 4),
    "parallel": (np.ones((5, 3)), np.arange(5.0), 6),
}


@pytest.mark.parametrize(("weight", "bias", "count"), ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_arrangements_of_known_count(weight: np.ndarray, bias: np.ndarray, count: int) -> None:
    partition = partition_of(arrangement(weight, bias))
    assert_consistent(partition)
    assert partition.num_regions == count


@pytest.mark.parametrize(("n", "d"), [(4, 1), (6, 2), (7, 3), (6, 4), (7, 7)])
def test_generic_and_central_arrangements(n: int, d: int) -> None:
    rng = np.random.default_rng(n + d)
    weight, bias = rng.standard_normal((n, d)), rng.standard_normal(n)
    assert partition_of(arrangement(weight, bias)).num_regions == sum(comb(n, k) for k in range(d + 1))
    assert partition_of(arrangement(weight, 0.0 * bias)).num_regions == 2 * sum(comb(n - 1, k) for k in range(d))


@pytest.mark.parametrize(
    "name",
    [
        "12-12-1 on [-1,1]^12",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "3-16-16-1 on [-1,1]^3",
                "3-16-16-1 on R^3",
                "4-10-10-1 on R^4",
                "10-8-8-1 on R^10",
                "4-16-16-1 on [-1,1]^4",
                "10-10-10-1 on [-1,1]^10",
            )
        ),
    ],
)
def test_counts_of_random_networks(name: str) -> None:
    sizes, domain, count = RANDOM_NETWORKS[name]
    partition = partition_of(mlp(*sizes), domain)
    assert_consistent(partition)
    assert partition.num_regions == count


def test_programs_without_coordinates_stages_or_neurons() -> None:
    nothing = np.zeros((0, 2))
    for program, domain in [
        (dense_program(2, [], []), WholeSpace()),
        (dense_program(2, [nothing], [np.zeros(0)]), WholeSpace()),
        (arrangement(np.zeros((3, 2)), np.array([-1.0, 0.0, 1.0])), WholeSpace()),
        (mlp(2, 3, 3, 1), Box([0.5, 0.25], [0.5, 0.25])),
        (mlp(2, 3, 3, 1), Polytope(np.eye(2), np.ones(2))),
    ]:
        partition = partition_of(program, domain)
        assert_consistent(partition)
        assert pattern_set(partition) == brute_force_patterns(program, domain)


@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0), Polytope([[1.0, 1.0, 0.0]], [1.0])], ids=str)
def test_goes_on_from_cells_in_mid_flight(domain: Domain) -> None:
    program = mlp(3, 4, 4, 1)
    whole, problem = partition_of(program, domain), problem_of(program, domain, tolerance=1e-9)
    # The tree down to two cuts, by hand; the rest from its cells.
    row = problem.chart.pull_back(program.stages[0].weight[:1], program.stages[0].bias[:1])

    def walk(harvest: Harvest) -> None:
        nothing = np.zeros((0, len(whole.packed_patterns[0])), np.uint8), np.zeros((0, 3))
        harvest.add("hand", np.array([-1]), np.array([0]), np.zeros(0, int), *nothing)
        for side in (0, 1):
            status = np.full(program.num_neurons, -1, dtype=np.int8)
            status[0] = side
            region = int(np.flatnonzero(whole.patterns()[:, 0] == side)[0])
            point = 7.0 * np.append(whole.points[region], 1.0)
            asking(problem, harvest).run(Cell(side, 1, status, row if side else -row, point))

    partition = walked(problem, domain, walk)
    assert_consistent(partition)
    assert partition.method == {"simplex": whole.num_regions}
    assert pattern_set(partition) == pattern_set(whole)


def test_goes_on_from_a_cell_in_a_later_stage() -> None:
    program, domain = mlp(2, 3, 3, 1), Box(-1.0, 1.0)
    whole, problem = partition_of(program, domain), problem_of(program, domain, tolerance=1e-9)
    pattern = whole.patterns()[0]
    status = np.where(np.arange(6) < 3, pattern, -1).astype(np.int8)
    weights, biases, _, _ = program.affine_maps(pattern)
    rows = np.where(pattern[:3, None], 1.0, -1.0) * problem.chart.pull_back(weights[:3], biases[:3])
    cell = Cell(-1, 0, status, rows, np.append(whole.points[0], 1.0))
    partition = walked(problem, domain, lambda harvest: asking(problem, harvest).run(cell))
    assert pattern_set(partition) == {p for p in pattern_set(whole) if p[:3] == tuple(pattern[:3])}


@pytest.mark.parametrize("domain", [WholeSpace(), Box(-1.0, 1.0)], ids=str)
@pytest.mark.parametrize("points", [3, 5])
def test_a_cell_keeps_few_points_and_what_they_prove(domain: Domain, points: int) -> None:
    program = mlp(3, 7, 6, 1)
    problem = problem_of(program, domain, tolerance=1e-9)

    def walk(harvest: Harvest) -> None:
        walk = asking(problem, harvest)
        walk.max_points = points
        walk.run()

    partition = walked(problem, domain, walk)
    assert_consistent(partition)
    assert pattern_set(partition) == pattern_set(partition_of(program, domain))


def test_noise_left_by_cancellation_cuts_nothing() -> None:
    # relu(z) - relu(-z) - z is zero, up to rounding.
    weight = np.array([[0.1, 0.7], [-0.1, -0.7]])
    cancelled = np.array([[-0.1, -0.7, 1.0, -1.0]])
    program = dense_program(2, [weight, cancelled], [np.array([0.3, -0.3]), np.array([-0.3])])
    assert pattern_set(partition_of(program)) == {(True, False, False), (False, True, False)}
