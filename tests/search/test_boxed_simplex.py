"""The boxed simplex method against HiGHS, from any basis, after any change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from torch_shallow.geometry import boxed_simplex as bs


def program(rng: np.random.Generator, columns: int, rows: int) -> tuple[bs.BoxedProgram, np.ndarray, np.ndarray]:
    lp, matrix = bs.room(columns, rows), rng.normal(size=(rows, columns + 1))
    matrix[rng.random(matrix.shape) < 0.3] = 0.0
    objective = rng.normal(size=columns + 1)
    lp.lower[:], lp.upper[:] = -rng.random(columns + rows), rng.random(columns + rows)
    lp.tableau[:rows] = matrix
    bs.begin(lp)
    bs.set_objective(lp, objective)
    bs.rest(lp)
    return lp, matrix, objective


def reference(lp: bs.BoxedProgram, matrix: np.ndarray, objective: np.ndarray) -> float:
    columns = len(lp.loose)
    a, constants = matrix[:, :-1], matrix[:, -1]
    found = linprog(
        -objective[:-1],
        np.concatenate([a, -a]),
        np.concatenate([lp.upper[columns:] - constants, constants - lp.lower[columns:]]),
        bounds=np.column_stack([lp.lower[:columns], lp.upper[:columns]]),
    )
    return -np.inf if found.status == 2 else objective[-1] - found.fun


def maximum(lp: bs.BoxedProgram) -> float:
    status = bs.maximise(lp, -np.inf, 10_000, bs.OUTSIDE)
    assert status in (bs.OPTIMAL, bs.EMPTY)
    return float(lp.value[-1]) if status == bs.OPTIMAL else -np.inf


@pytest.mark.parametrize("seed", range(40))
def test_the_maximum_is_that_of_highs_and_stays_so_after_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lp, matrix, objective = program(rng, int(rng.integers(1, 9)), int(rng.integers(0, 12)))
    assert maximum(lp) == pytest.approx(reference(lp, matrix, objective), abs=1e-8)
    for _ in range(4):  # other bounds and another objective, from the basis where the last program ended
        variable, middle = int(rng.integers(len(lp.lower))), rng.normal()
        lp.lower[variable], lp.upper[variable] = middle - rng.random(), middle + rng.random()
        objective = rng.normal(size=len(objective))
        bs.set_objective(lp, objective)
        bs.rest(lp)
        assert maximum(lp) == pytest.approx(reference(lp, matrix, objective), abs=1e-7)


@pytest.mark.parametrize("seed", range(10))
def test_every_step_gives_a_bound_and_the_last_is_below_a_target(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    lp, matrix, objective = program(rng, 6, 8)
    best = reference(lp, matrix, objective)
    bounds = [float(lp.value[-1])]
    while bs.maximise(lp, -np.inf, 1, bs.OUTSIDE) == bs.STUCK:
        bounds.append(float(lp.value[-1]))
    assert all(one >= other - 1e-9 for one, other in itertools.pairwise(bounds))
    assert min(bounds) >= best - 1e-8
    lp, *_ = program(np.random.default_rng(100 + seed), 6, 8)
    assert bs.maximise(lp, bounds[0] + 1.0, 100, bs.OUTSIDE) == bs.BELOW
