"""The engine by backward bounds answers as a mixed-integer program does, and never claims more than is so."""

from __future__ import annotations

from dataclasses import replace

import cvxpy
import numpy as np
import pytest
import torch

import torch_shallow
from tests.explain.milp import encoded
from tests.search.programs import mlp
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.program.model import read_model
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.engines.backward_engine import BackwardEngine
from torch_shallow.search.engines.exploration import Effort
from torch_shallow.search.question import CellOutcome, CellTask, Engine, Posed


def skipping(seed: int, outputs: int) -> ReLUProgram:
    """Random stages that read everything before."""
    rng = np.random.default_rng(seed)
    inputs = sources = int(rng.integers(2, 6))
    stages = []
    for size in rng.integers(2, 7, rng.integers(1, 4)):
        stages.append(Stage("", rng.normal(size=(size, sources)) / np.sqrt(sources), 0.3 * rng.normal(size=size)))
        sources += int(size)
    weight, bias = rng.normal(size=(outputs, sources)), rng.normal(size=outputs)
    return ReLUProgram((inputs,), (outputs,), tuple(stages), weight, bias)


def by_milp(posed: Posed, lower: np.ndarray, upper: np.ndarray) -> float:
    """The same from HiGHS; -inf if no point keeps the constraints."""
    x, least = cvxpy.Variable(len(lower)), cvxpy.Variable()
    y, constraints = encoded(posed.program, x, lower, upper)
    a, b = posed.domain.inequalities(posed.program.in_shape)
    constraints += [a @ x <= b, y[: posed.num_goals] >= least]
    if posed.num_goals < posed.program.num_outputs:
        constraints.append(y[posed.num_goals :] >= 0.0)
    problem = cvxpy.Problem(cvxpy.Maximize(least), constraints)
    problem.solve(solver=cvxpy.HIGHS, mip_rel_gap=0.0, mip_abs_gap=1e-9, mip_feasibility_tolerance=1e-9)
    return float(problem.value) if problem.status == "optimal" else -np.inf


def searched(engine: Engine, floor: float = -np.inf, budget: int = 200) -> tuple[float, float]:
    """Task by task, until nothing is open: the best value, and the highest bound of all that was left out."""
    cells, value, left_out = (engine.root(),), floor, -np.inf
    while cells:
        found = engine.explore(CellTask(cells[:20], value, budget))
        cells = tuple(sorted(cells[20:] + found.open, key=lambda cell: -cell.bound))
        value, left_out = max(value, found.value), max(left_out, found.left_out)
    return value, left_out


def domain_of(seed: int, inputs: int) -> tuple[Domain, np.ndarray, np.ndarray]:
    """A box, one with a fixed entry, or a polytope; and a box around it."""
    lower, upper = -np.ones(inputs), np.ones(inputs)
    if seed % 3 == 1:
        lower[0] = upper[0] = 0.5
    if seed % 3 < 2:
        return Box(lower, upper), lower, upper
    rows = np.concatenate([-np.eye(inputs), np.eye(inputs), np.random.default_rng(seed).normal(size=(2, inputs))])
    return Polytope(rows, np.concatenate([-lower, upper, [0.3, 0.5]])), lower, upper


@pytest.mark.parametrize("seed", range(12))
def test_the_answer_is_that_of_a_mixed_integer_program(seed: int) -> None:
    goals, constraints = 1 + seed % 3, seed // 3 % 3
    program = skipping(seed, goals + constraints)
    domain, lower, upper = domain_of(seed, program.num_inputs)
    posed = Posed(program, domain, goals)
    truth = by_milp(posed, lower, upper)
    value, bound = searched(BackwardEngine(posed))
    if truth == -np.inf:
        assert value == bound == -np.inf
    else:
        assert abs(value - truth) <= 1e-6 * (1.0 + abs(truth))
        assert bound <= value + 1e-6 * (1.0 + abs(truth))


def test_the_range_is_that_of_the_known_regions() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
    )
    domain = Box(-1.0, [1.0, 2.0, 0.5])
    known = torch_shallow.explain.output_range(model, domain)
    program = read_model(model)
    for output in range(2):
        for sign, expected in ((1.0, known.upper[output]), (-1.0, -known.lower[output])):
            one = replace(
                program,
                out_shape=(1,),
                out_weight=sign * program.out_weight[output : output + 1],
                out_bias=sign * program.out_bias[output : output + 1],
            )
            value, bound = searched(BackwardEngine(Posed(one, domain)))
            assert abs(value - float(expected)) <= 1e-7
            assert value <= max(bound, value) <= float(expected) + 1e-7


def explored(budget: int, effort: Effort | None = None) -> tuple[Engine, CellOutcome]:
    engine = BackwardEngine(Posed(mlp(6, 12, 12, 1), Box(-1.0, 1.0)), effort)
    return engine, engine.explore(CellTask((engine.root(),), -np.inf, budget))


def test_a_task_that_is_cut_short_leaves_cells_that_cover_the_maximum() -> None:
    truth, _ = searched(explored(1)[0])
    for budget in (1, 3, 20):
        engine, found = explored(budget, Effort(batch=4))
        bounds = [cell.bound for cell in found.open]
        assert max([found.value, found.left_out, *bounds]) >= truth - 1e-9
        assert found.value <= truth + 1e-9
        assert bounds == sorted(bounds, reverse=True)
        assert max(bounds, default=-np.inf) <= engine.root().bound
        assert found.cells >= 1


def test_what_a_task_finds_does_not_depend_on_what_was_done_before() -> None:
    engine, first = explored(20)
    _, second = explored(20)
    third = engine.explore(CellTask((engine.root(),), -np.inf, 20))
    for other in (second, third):
        assert other.value == first.value
        assert [cell.bound for cell in other.open] == [cell.bound for cell in first.open]
        assert [cell.path.tolist() for cell in other.open] == [cell.path.tolist() for cell in first.open]


def test_a_question_is_settled_at_its_floor_or_by_one_point_that_is_enough() -> None:
    program, domain = mlp(6, 12, 12, 1), Box(-1.0, 1.0)
    truth, _ = searched(BackwardEngine(Posed(program, domain)))
    above = BackwardEngine(Posed(program, domain, floor=truth + 0.01, enough=truth + 0.01))
    value, bound = searched(above, floor=truth + 0.01)
    assert value == truth + 0.01  # no point was found
    assert bound <= truth + 0.01
    below = BackwardEngine(Posed(program, domain, floor=truth - 0.01, enough=truth - 0.01))
    assert below.explore(CellTask((below.root(),), truth - 0.01, 1000)).value > truth - 0.01


def test_many_inputs_in_a_small_box() -> None:
    posed = Posed(mlp(60, 8, 8, 1), Box(-0.1, 0.1))
    truth = by_milp(posed, -0.1 * np.ones(60), 0.1 * np.ones(60))
    value, bound = searched(BackwardEngine(posed))
    assert abs(value - truth) <= 1e-7
    assert bound <= value + 1e-7


def test_a_network_without_neurons_is_a_linear_program() -> None:
    program = ReLUProgram((2,), (2,), (), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([0.0, 1.0]))
    value, bound = searched(BackwardEngine(Posed(program, Box(0.0, 1.0))))
    assert abs(value - 2.0) <= 1e-8
    assert bound <= 2.0 + 1e-8


def test_a_domain_without_bounds_is_refused() -> None:
    for domain in (WholeSpace(), Box(0.0, np.inf), Polytope([[1.0, 0.0]], [1.0])):
        with pytest.raises(TransformError, match="bounded"):
            BackwardEngine(Posed(mlp(2, 3, 1), domain))


def test_a_task_without_time_opens_one_cell_and_gives_back_the_rest() -> None:
    truth, _ = searched(explored(1)[0])
    engine, whole = explored(200)
    found = engine.explore(CellTask((engine.root(),), -np.inf, 200, seconds=1e-9))
    assert found.cells == 1 < whole.cells
    assert max([found.value, found.left_out, *(cell.bound for cell in found.open)]) >= truth - 1e-9
