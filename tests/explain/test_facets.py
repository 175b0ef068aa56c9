"""Facets and interiors of polyhedra of many rows, against a linear program with all other rows for each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from torch_shallow.geometry.inequalities import irredundant
from torch_shallow.geometry.interior import step_inside

pytestmark = pytest.mark.quick


def by_all_others(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows go beyond their bounds if they are left out, from the last one to the first."""
    needed = np.ones(len(b), dtype=bool)
    for row in reversed(range(len(b))):
        others, limits = needed.copy(), b.copy()
        limits[row] += 1.0
        found = linprog(-a[row], A_ub=a[others], b_ub=limits[others], bounds=(None, None), method="highs")
        needed[row] = -found.fun > b[row] + 1e-7
    return needed


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["sphere", "box", "twice", "sparse"])
def test_facets_are_what_all_others_let_go(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((40, 4))
    if kind == "sparse":
        a[generator.random(a.shape) < 0.6] = 0.0
        a = a[a.any(axis=1)]
    b = np.linalg.norm(a, axis=1) * (1.0 + generator.random(len(a)))
    if kind == "box":
        a, b = np.vstack([a, np.eye(4), -np.eye(4), np.eye(4)]), np.concatenate([b, np.full(12, 0.9)])
    if kind == "twice":
        a, b = np.vstack([a, 2.0 * a[::-1]]), np.concatenate([b, 2.0 * b[::-1]])
    assert (irredundant(a, b, np.zeros(4)) == by_all_others(a, b)).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_step_from_a_corner_stays_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((30, 5))
    # A cone of five rows in five dimensions has an interior.
    slack = np.concatenate([np.zeros(5), np.linalg.norm(a[5:], axis=1) * generator.random(25)])
    step, room = step_inside(a, slack, slack == 0.0)
    assert (slack - a @ step > 0.0).all()
    assert room == pytest.approx(((slack - a @ step)[:5] / np.linalg.norm(a[:5], axis=1)).min())


def test_no_step_where_there_is_no_interior() -> None:
    a = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert step_inside(a, np.array([0.0, 0.0, 1.0]), np.array([True, True, False]))[1] <= 0.0
