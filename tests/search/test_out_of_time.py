"""What is proven where no time is left: bounds and values that hold, however early the work has ended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.search.programs import mlp
from tests.search.questions import greatest_of_regions, random_question
from torch_shallow.approximation.minimax import NearestMap
from torch_shallow.bounds.multipliers import Descent
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.domain import Box
from torch_shallow.search.ask import answer
from torch_shallow.search.engines.exploration import Effort
from torch_shallow.search.nearest.near_engine import NearestEngine
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import CellTask

PAST = -1.0  # on the monotonic clock


@pytest.mark.parametrize("method", ["relaxation", "backward"])
@pytest.mark.parametrize("seed", range(16))
def test_an_interval_that_ends_at_once_contains_the_answer(seed: int, method: str) -> None:
    posed = random_question(seed)
    expected = greatest_of_regions(posed)
    found = answer(posed, method=method, time_limit=1e-9)
    assert found.bound >= expected - 1e-7
    if found.x is not None:
        assert found.value == posed.value(found.x[None])[0] <= expected + 1e-7
        assert posed.domain.contains(torch.from_numpy(found.x[None]), 1e-9).all()
    if posed.num_goals == posed.program.num_outputs:
        assert found.x is not None  # every point counts, so there is one


def test_neurons_that_are_not_bounded_in_time_have_the_bounds_of_intervals() -> None:
    program = mlp(6, 12, 12, 12, 2)
    network = StagedNetwork.of(program, -np.ones(6), np.ones(6))
    z = network(torch.rand(5000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0)[0]
    early, late = (BoxBounds.of(network, schedule).cell for schedule in (Descent(20), Descent(20, until=PAST)))
    for cell in (early, late):
        assert (z >= cell.lower).all()
        assert (z <= cell.upper).all()
    assert (late.lower <= early.lower).all()
    assert (late.upper >= early.upper).all()
    assert (late.upper - late.lower).sum() > 1.1 * (early.upper - early.lower).sum()


@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
def test_a_small_ball_is_proven_to_be_empty_without_a_step(norm: float) -> None:
    """Of ten goals, one is far from being met: the bound of this one alone suffices, and no others' share of it."""
    program = mlp(4, 8, 10)
    bias = program.out_bias - program(np.zeros((1, 4)))[0] + 10.0
    bias[7] -= 10.5
    program = replace(program, out_bias=bias)
    free = np.full(4, np.inf)
    sought = Sought(program, -free, free, (10,), norm, 1e-2, 1e-2, np.zeros(10))
    engine = NearestEngine(sought, Effort().until(PAST, PAST))
    assert -engine.root().bound >= sought.reach
    found = engine.explore(CellTask((engine.root(),), sought.floor, 100))
    assert found.x is None
    assert not found.open


def test_a_map_that_is_fitted_without_time_has_a_deviation_that_others_cannot_fall_below() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (400, 3))
    y = np.abs(x[:, 0]) + 0.3 * x[:, 1]
    lower, upper, every = -np.ones(3), np.ones(3), np.arange(3)
    best, least = NearestMap(lower, upper, every, y).fitted(x, y)
    rough, below = NearestMap(lower, upper, every, y).fitted(x, y, until=PAST)

    def deviation(affine: np.ndarray) -> float:
        return float(np.abs(x @ affine[:-1] + affine[-1] - y).max())

    assert deviation(best) == pytest.approx(least, rel=1e-6)
    assert below <= least <= deviation(rough) <= 2.0 * least  # that of least squares is not far


def test_a_search_that_is_late_counts_its_cell_as_opened() -> None:
    """Otherwise it would be handed out again and again."""
    posed = replace(random_question(1), domain=Box(-1.0, 1.0))
    found = answer(posed, method="backward", time_limit=1e-9)
    assert found.cells <= 2
