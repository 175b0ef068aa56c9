"""Laws of the linear programs that a solver settles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.cases import examples
from tests.search.programs import mlp
from tests.search.walks import problem_of
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.engines.solvers import CellProgram, Solved, Solver, centre
from torch_shallow.search.task_output import Harvest, Quota


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("solver", [None, "CLARABEL", "HIGHS"])
@pytest.mark.parametrize("domain", [Box(-1.0, 1.0), WholeSpace()], ids=str)
@given(st.integers(0, 2**32 - 1))
@examples(6)
def test_maxima_are_those_of_scipy(solver: str | None, domain: Box, seed: int) -> None:
    rng = np.random.default_rng(seed)
    walk = SimplexWalk(problem_of(mlp(3, 3, 1), domain, solver=solver, tolerance=1e-9), Harvest(Quota()))
    lower, upper = walk.simplex.lower, walk.simplex.upper
    interior = np.append(0.3 * rng.standard_normal(3).clip(-2, 2), 1.0)
    for count in rng.integers(0, 40, 8):
        rows = unit(rng.standard_normal((count, 4)))
        program = CellProgram(np.where((rows @ interior)[:, None] > 0.0, rows, -rows), lower, upper)
        objective = unit(rng.standard_normal(4))
        bounds = list(zip(lower, upper, strict=True))
        maximum = -linprog(-objective, -program.rows, np.zeros(count), bounds=bounds).fun
        found = walk.solver.maximise(program, objective, np.inf, interior)
        assert found.value <= found.bound + 1e-12
        assert abs(found.value - maximum) <= 1e-7
        found = walk.solver.maximise(program, objective, -np.inf, interior)
        assert found.bound >= maximum - 1e-9
        assert np.all(program.rows @ found.point >= -1e-9)


HALF = CellProgram(np.array([[-1.0, 0.0]]), np.array([-1.0, 1.0]), np.ones(2))  # -1 <= v <= 0 at t = 1


def liar(claim: Solved) -> Solver:
    """Claims a maximum it has no proof of, or a proof of something else."""
    return Solver("Liar", lambda *_: claim, 1e-9)


@pytest.mark.parametrize(
    "claim",
    [
        Solved(None, None, "no idea"),
        Solved(np.array([1.0, 1.0]), np.array([0.0]), "outside the cell"),
        Solved(np.array([-1.0, 1.0]), np.array([0.0]), "not optimal"),
        Solved(np.array([0.0, 1.0]), np.array([-1.0]), "wrong multiplier"),
    ],
    ids=lambda claim: claim.status,
)
@pytest.mark.parametrize("interior", [-0.5, 0.5], ids=["known inside", "known outside"])
def test_a_wrong_answer_is_refused(claim: Solved, interior: float) -> None:
    with pytest.raises(TransformError, match=rf"Liar.*{claim.status}.*use a more accurate solver"):
        liar(claim).maximise(HALF, np.array([1.0, 0.0]), 1e-9, np.array([interior, 1.0]))


def test_a_right_answer_of_the_same_solver_is_taken() -> None:
    claim = Solved(np.array([0.0, 1.0]), np.array([1.0]), "optimal")
    result = liar(claim).maximise(HALF, np.array([1.0, 0.0]), 1e-9, np.array([-0.5, 1.0]))
    assert (result.value, result.bound) == (0.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([0.5, 1e-4, 1e-8]))
@examples(30)
def test_the_centre_is_further_inside_than_any_other_point(seed: int, dimension: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    inner = np.append(0.2 * rng.uniform(-1.0, 1.0, dimension - 1), 1.0)
    rows = rng.standard_normal((6, dimension))
    rows[:, -1] = width - rows[:, :-1] @ inner[:-1]  # each at `inner` is `width`
    lower = np.append(-np.ones(dimension - 1), 1.0)
    program = CellProgram(unit(rows), lower, np.ones(dimension))
    found = centre(program)
    assert found is not None
    assert np.all(np.abs(found) <= 1.0)
    others = np.concatenate([inner[None], rng.uniform(lower, 1.0, (20, dimension))])
    assert program.depth(found) >= max(0.0, *map(program.depth, others)) - 1e-9
