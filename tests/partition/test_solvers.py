"""Laws of the linear programs over cells, of their witnesses, and of composed stages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.cases import examples
from tests.partition.programs import mlp
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.search.engines.solver.charted import ChartedProgram
from torch_shallow.search.engines.solver.programs.cell_program import Answer, CellProgram
from torch_shallow.search.engines.solver.programs.choice import cell_program
from torch_shallow.search.engines.solver.witnesses import Witnesses, recentred


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("solver", [None, "CLARABEL", "HIGHS"])
@pytest.mark.parametrize("fixed_t", [True, False])
@given(st.integers(0, 2**32 - 1))
@examples(6)
def test_maxima_are_those_of_scipy_while_rows_come_and_go(solver: str | None, fixed_t: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = -np.ones(4), np.ones(4)
    lower[-1] = 1.0 if fixed_t else 0.0
    cells = cell_program(solver, lower, upper, 1e-9)
    interior = np.append(0.3 * rng.standard_normal(3).clip(-2, 2), 1.0)
    for _ in range(8):
        cells.truncate(int(rng.integers(0, cells.num_rows + 1)))
        for row in unit(rng.standard_normal((int(rng.integers(0, 4)), 4))):
            cells.push(row if row @ interior > 0.0 else -row)
        objective = unit(rng.standard_normal(4))
        expected = linprog(
            -objective, -cells.rows, np.zeros(cells.num_rows), bounds=list(zip(lower, upper, strict=True))
        )
        found = cells.maximise(objective, np.inf, interior)
        assert found.value <= found.bound + 1e-12
        assert abs(found.value + expected.fun) <= 1e-7
        found = cells.maximise(objective, -np.inf, interior)
        assert found.bound >= -expected.fun - 1e-9
        assert np.all(cells.rows @ found.point >= -1e-9)


class Liar(CellProgram):
    """Claims a maximum it has no proof of, or a proof of something else."""

    name = "Liar"
    claim = Answer(None, None, "no idea")

    def _like(self, lower: np.ndarray, upper: np.ndarray) -> CellProgram:
        return Liar(lower, upper, self.tolerance)

    def _solve(self, objective: np.ndarray, *, careful: bool) -> Answer:
        return self.claim


@pytest.mark.parametrize(
    "claim",
    [
        Answer(None, None, "no idea"),
        Answer(np.array([1.0, 1.0]), np.array([0.0]), "outside the cell"),
        Answer(np.array([-1.0, 1.0]), np.array([0.0]), "not optimal"),
        Answer(np.array([0.0, 1.0]), np.array([-1.0]), "wrong multiplier"),
    ],
    ids=lambda claim: claim.status,
)
def test_a_wrong_answer_is_refused(claim: Answer) -> None:
    cells = Liar(np.array([-1.0, 1.0]), np.ones(2), 1e-9)
    cells.push(np.array([-1.0, 0.0]))  # v <= 0
    cells.claim = claim
    with pytest.raises(TransformError, match=rf"Liar.*{claim.status}.*use a more accurate solver"):
        cells.maximise(np.array([1.0, 0.0]), 1e-9, np.array([-0.5, 1.0]))


def test_a_right_answer_of_the_same_solver_is_taken() -> None:
    cells = Liar(np.array([-1.0, 1.0]), np.ones(2), 1e-9)
    cells.push(np.array([-1.0, 0.0]))
    cells.claim = Answer(np.array([0.0, 1.0]), np.array([1.0]), "optimal")
    result = cells.maximise(np.array([1.0, 0.0]), 1e-9, np.array([-0.5, 1.0]))
    assert (result.value, result.bound) == (0.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
@examples(30)
def test_witnesses_stay_in_their_cell_and_the_first_inside(seed: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = -np.ones(dimension), np.ones(dimension)
    lower[-1] = 1.0
    cells = cell_program(None, lower, upper, 1e-9)
    inner = np.eye(dimension)[-1]
    corners = np.column_stack([rng.choice([-1.0, 1.0], (10, dimension - 1)), np.ones(10)])
    witnesses = Witnesses(np.concatenate([inner[None], corners]), 1.0)
    for row in unit(rng.standard_normal((6, dimension))):
        values = witnesses.points @ row
        if not values.min() < -1e-6 < 1e-6 < values.max():
            continue
        sides = witnesses.split(row, 64)
        side = int(rng.integers(2))
        witnesses = sides[side]
        cells.push(row if side else -row)
        assert np.all(witnesses.points @ cells.rows.T >= -1e-12)
        assert np.all(np.abs(witnesses.points) <= 1.0 + 1e-12)
        for some in (witnesses, recentred(witnesses, cells, inner, 1.0)):
            margin = min(float((cells.rows @ some.points[0]).min()), 1.0 - float(np.abs(some.points[0, :-1]).max()))
            assert 0.0 < some.margin <= margin + 1e-12


@given(st.integers(0, 2**32 - 1))
@examples(20)
def test_composed_rows_are_the_preactivations(seed: int) -> None:
    program = mlp(3, 4, 4, 1)
    chart = make_chart(program, Box([-1.0, 0.5, -np.inf], [2.0, 0.5, 1.0]))
    pattern = np.random.default_rng(seed).random(8) < 0.5
    weights, biases, _, _ = program.affine_maps(pattern)
    charted = ChartedProgram.of(program, chart)
    composed = charted.begin()
    for stage, (start, stop) in enumerate([(0, 4), (4, 8)]):
        np.testing.assert_allclose(composed.rows, chart.pull_back(weights[start:stop], biases[start:stop]), atol=1e-12)
        composed = charted.advance(composed, stage, pattern[start:stop].astype(np.int8))
    assert composed.rows.shape == (0, 3)
    assert np.array_equal(composed.pattern == 1, pattern)
