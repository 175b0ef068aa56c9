"""The pruned walk over rays, against a linear program in each region of an enumeration."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from tests.data import ACAS_XU, needs_acas_xu
from tests.search.programs import dense_program, mlp
from torch_shallow import from_onnx
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.program.model import Model
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines.bounded_ray_engine import RayBounder
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.question import CellTask, Engine, Posed


@cache
def by_regions(posed: Posed) -> float:
    """The greatest value, by one linear program in each region."""
    program, best = posed.program, -np.inf
    a, b = posed.domain.inequalities(program.in_shape)
    for pattern in enumerate_regions(program, posed.domain).patterns():
        weights, biases, out, bias = program.affine_maps(pattern)
        signs = np.where(pattern, -1.0, 1.0)
        goals, others = slice(None, posed.num_goals), slice(posed.num_goals, None)
        rows = np.concatenate([signs[:, None] * weights, a, -out[goals], -out[others]])
        sides = np.concatenate([-signs * biases, b, bias[goals], bias[others]])
        level = np.zeros(len(rows))
        level[len(signs) + len(b) : len(signs) + len(b) + posed.num_goals] = 1.0
        cost = np.append(np.zeros(weights.shape[1]), -1.0)
        solution = linprog(cost, A_ub=np.column_stack([rows, level]), b_ub=sides, bounds=(None, None))
        if solution.status == 0:
            best = max(best, -solution.fun)
    return best


def searched(posed: Posed, budget: int = 1000, tasks: int = 10**6) -> tuple[np.ndarray | None, float, float]:
    """The best point, its value, and the proven bound, after so many tasks."""
    engine = RayBounder(posed)
    cells, x, value, left_out = [engine.root()], None, posed.floor, -np.inf
    for _ in range(tasks):
        cells.sort(key=lambda cell: -cell.bound)
        if not cells or value > posed.enough:
            break
        outcome = engine.explore(CellTask((cells.pop(0),), value, budget))
        assert outcome.cells <= budget
        cells += outcome.open
        left_out = max(left_out, outcome.left_out)
        if outcome.value > value:
            x, value = outcome.x, outcome.value
    return x, value, max([left_out, *(cell.bound for cell in cells)])


def skipping(rng: np.random.Generator, num_inputs: int, *sizes: int, outputs: int = 1) -> ReLUProgram:
    """Stages, and outputs, that read everything before them."""
    weights, before = [], num_inputs
    for size in sizes:
        weights.append(rng.normal(size=(size, before)) / np.sqrt(before))
        before += size
    program = dense_program(num_inputs, weights, [rng.normal(size=size) / 2 for size in sizes])
    return replace(
        program, out_shape=(outputs,), out_weight=rng.normal(size=(outputs, before)), out_bias=rng.normal(size=outputs)
    )


def layered(rng: np.random.Generator, num_inputs: int, *sizes: int, outputs: int = 1) -> ReLUProgram:
    """Stages that read the one before, and outputs of the last."""
    program = mlp(num_inputs, *sizes, outputs)
    return replace(program, out_weight=program.out_weight * rng.choice([-1.0, 1.0], size=(outputs, 1)))


def within(posed: Posed, x: np.ndarray) -> bool:
    """Whether a point lies in the domain, to the last bit."""
    if isinstance(posed.domain, Box):
        lower, upper = posed.domain.bounds(posed.program.in_shape)
        return bool((lower <= x).all() and (x <= upper).all())
    a, b = posed.domain.inequalities(posed.program.in_shape)
    return bool((a @ x <= b).all())


TRIANGLE = Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [1.5, 0.5, 1.0])
CASES: dict[str, tuple[ReLUProgram, Domain, int]] = {
    "one layer": (layered(np.random.default_rng(0), 2, 8), Box(-2.0, 2.0), 1),
    "three layers": (layered(np.random.default_rng(1), 3, 6, 6, 6), Box(-2.0, [1.0, 2.0, 3.0]), 1),
    "skips": (skipping(np.random.default_rng(2), 3, 5, 4, 4), Box(-1.0, 1.0), 1),
    "a fixed input": (
        skipping(np.random.default_rng(3), 4, 6, 5),
        Box([-1.0, 0.3, -1.0, -2.0], [1.0, 0.3, 1.0, 0.0]),
        1,
    ),
    "a triangle": (skipping(np.random.default_rng(4), 2, 7, 5), TRIANGLE, 1),
    "two goals": (skipping(np.random.default_rng(5), 3, 6, 5, outputs=2), Box(-1.0, 1.0), 2),
    "three goals": (layered(np.random.default_rng(6), 2, 8, 6, outputs=3), Box(-3.0, 3.0), 3),
    "a constraint": (skipping(np.random.default_rng(7), 2, 7, 5, outputs=2), Box(-1.0, 1.0), 1),
    "goals and constraints": (skipping(np.random.default_rng(22), 3, 5, 5, outputs=4), Box(-1.0, 1.0), 2),
    "goals in a triangle": (skipping(np.random.default_rng(9), 2, 6, 5, outputs=3), TRIANGLE, 2),
    "a corner of constraints": (skipping(np.random.default_rng(13), 3, 5, 5, outputs=4), Box(-1.0, 1.0), 2),
    "constraints in a triangle": (skipping(np.random.default_rng(15), 2, 5, 4, outputs=4), TRIANGLE, 2),
    "no neurons": (skipping(np.random.default_rng(10), 3, outputs=2), Box(-1.0, 1.0), 2),
}
cases = pytest.mark.parametrize("posed", [Posed(*case) for case in CASES.values()], ids=list(CASES))


@cases
def test_the_answer_is_that_of_all_regions(posed: Posed) -> None:
    x, value, bound = searched(posed)
    best = by_regions(posed)
    assert x is not None
    assert within(posed, x)
    assert value == posed.value(x[None])[0]
    assert value == pytest.approx(best, abs=1e-6)
    assert best - 1e-9 <= max(bound, value) <= best + 1e-6


@cases
def test_one_cell_at_a_time_gives_the_same_answer(posed: Posed) -> None:
    _, value, bound = searched(posed, budget=1)
    _, expected, _ = searched(posed)
    assert value == pytest.approx(expected, abs=1e-7)
    assert max(bound, value) == pytest.approx(expected, abs=1e-6)


@cases
@pytest.mark.parametrize("tasks", [0, 1, 3, 10])
def test_the_bound_holds_whenever_the_search_stops(posed: Posed, tasks: int) -> None:
    _, value, bound = searched(posed, budget=2, tasks=tasks)
    best = by_regions(posed)
    assert value <= best + 1e-9
    assert best <= max(bound, value) + 1e-9


@cases
def test_what_is_below_the_floor_is_left_out(posed: Posed) -> None:
    best = by_regions(posed)
    x, _, bound = searched(replace(posed, floor=best + 1e-4))
    assert x is None
    assert bound <= best + 1e-4


@cases
def test_a_point_that_is_good_enough_ends_the_search(posed: Posed) -> None:
    best = by_regions(posed)
    x, value, _ = searched(replace(posed, floor=best - 1e-3, enough=best - 1e-3))
    assert x is not None
    assert value > best - 1e-3


def test_constraints_that_cannot_be_kept_leave_no_point() -> None:
    program = skipping(np.random.default_rng(11), 2, 6, 5, outputs=2)
    program = replace(program, out_bias=np.array([0.0, -by_regions(Posed(program, Box(-1.0, 1.0), 1)) - 100.0]))
    x, value, bound = searched(Posed(program, Box(-1.0, 1.0), 1))
    assert x is None
    assert value == bound == -np.inf


def test_constraints_that_rule_each_other_out_leave_no_point() -> None:
    program = skipping(np.random.default_rng(12), 2, 6, 5, outputs=3)
    weight, bias = program.out_weight.copy(), program.out_bias.copy()
    weight[2], bias[2] = -weight[1], -bias[1] - 1e-3  # c >= 0 and -c - 0.001 >= 0
    x, _, bound = searched(Posed(replace(program, out_weight=weight, out_bias=bias), Box(-1.0, 1.0), 1))
    assert x is None
    assert bound == -np.inf


def test_an_answer_depends_on_the_task_alone() -> None:
    posed = Posed(*CASES["goals and constraints"])
    engine = RayBounder(posed)
    task = CellTask((engine.root(),), -np.inf, 3)
    first = engine.explore(task)
    engine.explore(CellTask(first.open, first.value, 50))
    for again in (engine.explore(task), RayBounder(posed).explore(task)):
        assert [cell.path.tolist() for cell in again.open] == [cell.path.tolist() for cell in first.open]
        assert [cell.bound for cell in again.open] == [cell.bound for cell in first.open]
        assert (again.value, again.left_out, again.cells) == (first.value, first.left_out, first.cells)


def test_it_is_an_engine() -> None:
    assert isinstance(RayBounder(Posed(*CASES["one layer"])), Engine)


def test_an_unbounded_domain_is_refused() -> None:
    with pytest.raises(TransformError, match="bounded"):
        RayBounder(Posed(CASES["one layer"][0], WholeSpace()))


@needs_acas_xu
def test_acas_xu_property_3_holds() -> None:
    lower = [-0.303531156, -0.009549297, 0.493380324, 0.3, 0.3]
    upper = [-0.298552812, 0.009549297, 0.5, 0.5, 0.5]
    model = Model.of(from_onnx(ACAS_XU["1_1"]), torch.zeros(1, 1, 1, 5))
    program = model.program(Box(lower, upper))
    others = np.column_stack([-np.ones(4), np.eye(4)])  # the first output is least of all where no goal is negative
    posed = replace(program, out_shape=(4,), out_weight=others @ program.out_weight, out_bias=others @ program.out_bias)
    x, _, bound = searched(Posed(posed, Box(lower, upper), 4, floor=0.0, enough=0.0))
    assert x is None
    assert bound <= 0.0
