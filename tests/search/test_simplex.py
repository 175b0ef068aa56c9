"""The compiled dual simplex method, compared with scipy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.cases import examples
from torch_shallow.geometry.dual_simplex import ABOVE, BELOW, FAILED, maximise
from torch_shallow.geometry.only_maximum import only_maximum
from torch_shallow.search.engines.simplex_engine import _room


def unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0.0, norms, 1.0)


def draw_rows(rng: np.random.Generator, count: int, dimension: int, kind: str) -> np.ndarray:
    """Unit half-spaces that contain a point known to be inside the box, or touch it."""
    if kind == "generic":
        rows = rng.standard_normal((count, dimension))
    else:
        rows = rng.integers(-1, 2, (count, dimension)).astype(np.float64)
        rows = rows[rows.any(axis=1)]
    if kind == "through one point":
        rows[:, -1] = 0.0
    if kind == "repeated":
        rows = np.concatenate([rows, 3.0 * rows[::2]])
    inside = np.append(np.full(dimension - 1, 0.25), 1.0)
    return unit(np.where((rows @ inside)[:, None] < 0.0, -rows, rows))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from(["generic", "degenerate", "through one point", "repeated"]),
)
@examples(300)
def test_the_answer_is_that_of_scipy(seed: int, dimension: int, count: int, fixed_t: bool, kind: str) -> None:
    rng, tolerance = np.random.default_rng(seed), 1e-9
    rows = draw_rows(rng, count, dimension, kind)
    simplex = _room(np.zeros((0, dimension)), fixed_t)
    simplex.rows[: len(rows)] = rows
    objective = unit(rng.standard_normal(dimension) if seed % 2 else rng.integers(-1, 2, dimension).astype(float))
    bounds = list(zip(simplex.lower, simplex.upper, strict=True))
    maximum = -linprog(-objective, -rows, np.zeros(len(rows)), bounds=bounds, method="highs").fun
    for offset in (-1.0, -1e-3, -1e-7, 1e-7, 1e-3, 1.0):
        target = maximum + offset
        answer = maximise(simplex, len(rows), objective, target, 0.1 * tolerance)
        assert answer == (ABOVE if offset < 0.0 else BELOW)
        if answer == ABOVE:
            point = simplex.point
            assert objective @ point > target
            assert np.all(rows @ point >= -1e-9)
            assert np.all((point >= simplex.lower) & (point <= simplex.upper))
    # A target that is the maximum itself may be undecidable, but no answer is wrong.
    answer = maximise(simplex, len(rows), objective, maximum, 0.1 * tolerance)
    if answer == ABOVE:
        assert objective @ simplex.point > maximum
        assert np.all(rows @ simplex.point >= -1e-9)
    assert answer in (BELOW, ABOVE, FAILED)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@examples(60)
def test_the_zero_row_of_a_cell_that_touches_it_is_below(seed: int, dimension: int) -> None:
    # The question that the walk asks most: does a hyperplane that touches the cell in a face enter it?
    rng = np.random.default_rng(seed)
    rows = draw_rows(rng, 3 * dimension, dimension, "through one point")
    objective = unit(-rng.random(len(rows)) @ rows)
    simplex = _room(np.zeros((0, dimension)), fixed_t=True)
    simplex.rows[: len(rows)] = rows
    assert maximise(simplex, len(rows), objective, 1e-9, 1e-10) == BELOW


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
@examples(60)
def test_no_wrong_answer_on_half_spaces_that_are_nearly_parallel(seed: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    base = draw_rows(rng, 4, dimension, "generic")
    rows = unit(np.repeat(base, 3, axis=0) + 10.0 ** rng.integers(-13, -3) * rng.standard_normal((12, dimension)))
    objective = unit(-base[0] + 1e-6 * rng.standard_normal(dimension))
    simplex = _room(np.zeros((0, dimension)), fixed_t=True)
    simplex.rows[:12] = rows
    bounds = list(zip(simplex.lower, simplex.upper, strict=True))
    solved = linprog(-objective, -rows, np.zeros(12), bounds=bounds, method="highs")
    if solved.status == 0:
        answer = maximise(simplex, 12, objective, -solved.fun - 1e-6, 1e-10)
        assert answer in (ABOVE, FAILED)
        answer = maximise(simplex, 12, objective, -solved.fun + 1e-6, 1e-10)
        assert answer in (BELOW, FAILED)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 6),
    st.integers(0, 12),
    st.sampled_from(["generic", "degenerate", "repeated"]),
)
@examples(200)
def test_the_first_basis_changes_neither_the_answer_nor_an_only_maximum(
    seed: int, dimension: int, count: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    rows = draw_rows(rng, count, dimension, kind)
    objective = unit(rng.standard_normal(dimension))
    bounds = [(-1.0, 1.0)] * (dimension - 1) + [(1.0, 1.0)]
    maximum = -linprog(-objective, -rows, np.zeros(len(rows)), bounds=bounds, method="highs").fun
    points = []
    for _ in range(4):
        simplex = _room(np.zeros((0, dimension)), fixed_t=True)
        simplex.rows[: len(rows)] = rows
        chosen = rng.permutation(len(rows))[: rng.integers(0, dimension)]
        simplex.start[: len(chosen) + 1] = [len(chosen), *chosen]
        simplex.stays[:] = rng.integers(0, 2, dimension)
        assert maximise(simplex, len(rows), objective, maximum + 1e-3, 1e-10) == BELOW
        assert maximise(simplex, len(rows), objective, maximum - 1e-3, 1e-10) == ABOVE
        if only_maximum(simplex, len(rows), objective) > -np.inf:
            points.append(simplex.point.copy())
            assert np.isclose(objective @ points[-1], maximum)
            assert np.all(rows @ points[-1] >= -1e-10)
    assert len(points) in (0, 4)
    assert all(np.array_equal(point, points[0]) for point in points)
    if kind == "generic":
        assert len(points) == 4


def test_a_maximum_on_an_edge_or_at_a_vertex_of_too_many_half_spaces_is_not_the_only_one() -> None:
    simplex = _room(np.zeros((0, 3)), fixed_t=True)
    simplex.rows[:3] = unit(np.array([[-1.0, 0.0, 0.5], [-1.0, -1.0, 1.0], [-1.0, 1.0, 0.0]]))
    edge, vertex = np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.1, 0.0])
    assert maximise(simplex, 1, edge, 0.0, 1e-10) == ABOVE
    assert only_maximum(simplex, 1, edge) == -np.inf
    assert maximise(simplex, 3, vertex, 0.0, 1e-10) == ABOVE
    assert only_maximum(simplex, 3, vertex) == -np.inf
    assert maximise(simplex, 1, vertex, 0.0, 1e-10) == ABOVE
    assert only_maximum(simplex, 1, vertex) == 0.6
    assert np.array_equal(simplex.point, [0.5, 1.0, 1.0])
