"""Linear functions in a ball and a box: never below what a point has, and tight; and the distance of half-spaces."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest
import torch

from torch_shallow.bounds.norm_ball import BallNetwork
from torch_shallow.bounds.staged import Layer, StagedNetwork

NORMS = (1.0, 2.0, np.inf)


def ball(norm: float, lower: np.ndarray, upper: np.ndarray, reach: float) -> BallNetwork:
    outputs = Layer(((0, torch.eye(len(lower), dtype=torch.float64)),), torch.zeros(len(lower)).double(), 0)
    staged = StagedNetwork((outputs,), torch.from_numpy(lower), torch.from_numpy(upper))
    return BallNetwork.around(staged, norm, reach)


def boxes(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ball lies in the first one, is cut by the second, and the third does not hold 0."""
    lower, upper = -rng.random(4), rng.random(4)
    beside = np.array([0.2, -1.0, -0.3, 0.0])
    return [(np.full(4, -9.0), np.full(4, 9.0)), (lower, upper), (beside, beside + 0.8)]


@pytest.mark.parametrize("norm", NORMS)
def test_the_greatest_value_is_that_of_a_convex_program(norm: float) -> None:
    rng = np.random.default_rng(0)
    for lower, upper in boxes(rng):
        network = ball(norm, lower, upper, 0.9)
        for a in rng.normal(size=(4, 4)):
            u = cvxpy.Variable(4)
            length = cvxpy.norm(u, "inf" if norm == np.inf else norm)
            problem = cvxpy.Problem(cvxpy.Maximize(a @ u), [u >= lower, u <= upper, length <= 0.9])
            problem.solve(solver="CLARABEL")
            value, at = network.greatest(torch.from_numpy(a))
            assert float(value) >= problem.value - 1e-7
            assert float(value) == pytest.approx(problem.value, rel=2e-2, abs=1e-6)
            assert ((at.numpy() >= lower - 1e-12) & (at.numpy() <= upper + 1e-12)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_distance_of_a_half_space_is_never_too_large_and_tight(norm: float) -> None:
    rng = np.random.default_rng(1)
    for lower, upper in boxes(rng):
        network = ball(norm, lower, upper, 5.0)
        for a in rng.normal(size=(6, 4)):
            constant = -0.3 * float(np.abs(a) @ np.maximum(np.abs(lower), np.abs(upper)).clip(max=1.0))
            u = cvxpy.Variable(4)
            length = cvxpy.norm(u, "inf" if norm == np.inf else norm)
            problem = cvxpy.Problem(cvxpy.Minimize(length), [u >= lower, u <= upper, a @ u + constant >= 0])
            problem.solve(solver="CLARABEL")
            found = float(network.distance(torch.from_numpy(a), torch.tensor(constant).double()))
            if problem.status == "infeasible":
                continue  # any distance is proven, infinity included
            assert found <= problem.value + 1e-6
            if (lower < 0.0).all() and (upper > 0.0).all():
                assert found >= 0.98 * problem.value - 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_a_function_is_bounded_by_the_inequality_at_all_points_of_the_box(norm: float) -> None:
    rng = np.random.default_rng(2)
    for lower, upper in boxes(rng):
        network = ball(norm, lower, upper, 0.9)
        u = np.clip(rng.normal(size=(500, 4)), network.lower.numpy(), network.upper.numpy())
        for a in rng.normal(size=(4, 4)):
            fixed, price, _ = network.support(torch.from_numpy(a), torch.tensor(0.9).double())
            assert (u @ a <= float(fixed) + float(price) * np.linalg.norm(u, norm, axis=1) + 1e-12).all()
