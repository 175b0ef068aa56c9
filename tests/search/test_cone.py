"""Double description of polyhedra, compared with brute force and with Qhull."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import null_space, orth
from scipy.spatial import HalfspaceIntersection

from tests.cases import examples
from tests.reference import rank
from torch_shallow.geometry.rays import cone
from torch_shallow.geometry.rays import storage as rays
from torch_shallow.geometry.rays.storage import intersection

pytestmark = pytest.mark.quick


def double_description(half_spaces, tolerance=1e-9):
    """Unit lines and unit rays of the cone of all (v, t) with t >= 0 and `half_spaces @ (v, t) >= 0`."""
    norms = np.linalg.norm(half_spaces, axis=1, keepdims=True)
    storage, (lines, extreme, _), _ = intersection(half_spaces / np.where(norms > 0.0, norms, 1.0), tolerance)
    ids, pool = storage.cones.ids, storage.cones.pool
    return pool[ids[:lines]], pool[ids[lines : lines + extreme]]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def with_t(half_spaces: np.ndarray) -> np.ndarray:
    """The half-spaces and t >= 0."""
    return np.concatenate([half_spaces, np.eye(half_spaces.shape[1])[-1:]])


def brute_force_cone(half_spaces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lineality space (orthonormal rows) and extreme rays orthogonal to it: every ray on enough half-spaces."""
    rows = with_t(half_spaces)
    lines = null_space(rows).T
    basis = orth(rows.T).T if len(lines) else np.eye(rows.shape[1])
    reduced, found = rows @ basis.T, []
    for chosen in itertools.combinations(range(len(rows)), len(basis) - 1):
        kernel = null_space(reduced[list(chosen)]) if chosen else np.eye(len(basis))
        if kernel.shape[1] != 1:
            continue
        for ray in (kernel[:, 0], -kernel[:, 0]):
            if (reduced @ ray >= -1e-9).all() and not any(np.allclose(ray, other, atol=1e-7) for other in found):
                found.append(ray)
    return lines, np.array(found).reshape(-1, len(basis)) @ basis


def assert_same_rays(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    distances = np.linalg.norm(unit(found)[:, None] - unit(expected)[None], axis=-1)
    assert (distances.min(axis=1, initial=np.inf) < 1e-6).all()
    assert (distances.min(axis=0, initial=np.inf) < 1e-6).all()


def assert_same_cone(half_spaces: np.ndarray) -> None:
    """The double description of a cone with an interior is that of brute force."""
    lines, extreme = double_description(half_spaces)
    expected_lines, expected_rays = brute_force_cone(half_spaces)
    assert rank(lines) == len(lines) == len(expected_lines)
    np.testing.assert_allclose(
        with_t(half_spaces) @ lines.T, 0.0, atol=1e-9 * (1.0 + np.abs(half_spaces).max(initial=0))
    )
    # Rays are rays modulo lines.
    assert_same_rays(extreme - extreme @ expected_lines.T @ expected_lines, expected_rays)


def has_interior(half_spaces: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The half-spaces, turned and moved so that `point` is inside all of them."""
    values = half_spaces @ np.append(point, 1.0)
    turned = np.where(values[:, None] < 0.0, -half_spaces, half_spaces)
    turned[values == 0.0, -1] += 1.0
    return turned


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 8))
@examples(150)
def test_random_polyhedra(seed: int, dimension: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    half_spaces = has_interior(rng.standard_normal((count, dimension + 1)), rng.standard_normal(dimension))
    assert_same_cone(half_spaces)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 9))
@examples(200)
def test_degenerate_polyhedra(seed: int, dimension: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (count, dimension + 1)).astype(np.float64)
    rows = rows[rows[:, :-1].any(axis=1)]
    rows = np.concatenate([rows, 2.0 * rows[: count // 4]])  # some twice
    assert_same_cone(has_interior(rows, np.full(dimension, 0.5)))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
@examples(25)
def test_simple_polytopes_have_the_vertices_that_qhull_finds(seed: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    normals = unit(rng.standard_normal((4 * dimension, dimension)))
    a = np.concatenate([normals, np.eye(dimension), -np.eye(dimension)])
    b = np.concatenate([rng.uniform(0.3, 1.0, len(normals)), np.full(2 * dimension, 1.5)])
    lines, extreme = double_description(np.column_stack([-a, b]))
    expected = HalfspaceIntersection(np.column_stack([a, -b]), np.zeros(dimension)).intersections
    assert len(lines) == 0
    assert_same_rays(extreme, np.column_stack([expected, np.ones(len(expected))]))


def cube(dimension: int) -> np.ndarray:
    eye = np.eye(dimension)
    return np.column_stack([np.concatenate([eye, -eye]), np.ones(2 * dimension)])


def test_polytopes_known_by_name() -> None:
    cross = np.column_stack([list(itertools.product([-1.0, 1.0], repeat=4)), np.ones(16)])
    assert len(double_description(cube(4))[1]) == 16
    assert len(double_description(cross)[1]) == 8
    pairs = list(itertools.permutations(range(5), 2))
    braid = [np.append(np.eye(5)[i] - np.eye(5)[j], 0.0) for i, j in pairs if i < j]
    lines, extreme = double_description(np.array(braid))
    assert len(lines) == 1
    assert len(extreme) == 5  # four of the chamber, and the apex at t = 1


def test_all_of_space_and_half_of_it() -> None:
    lines, extreme = double_description(np.zeros((0, 4)))
    assert rank(lines) == 3
    assert_same_rays(extreme, np.eye(4)[-1:])
    assert_same_cone(np.array([[1.0, 2.0, 3.0, 0.5]]))


@pytest.mark.parametrize(
    "half_spaces",
    [[[1.0, -1.0], [-1.0, -1.0]], [[1.0, 0.0], [-1.0, 0.0]], [[0.0, -1.0]]],
    ids=["empty", "flat", "never"],
)
def test_a_cone_without_interior_has_no_rays(half_spaces: list[list[float]]) -> None:
    lines, extreme = double_description(np.array(half_spaces))
    assert len(lines) == len(extreme) == 0


def test_half_spaces_that_are_not_facets_are_forgotten() -> None:
    # A square, each side twice, and a half-space that touches a corner.
    rows = np.concatenate([cube(2), cube(2), [[-1.0, -1.0, 2.0]]])
    storage, (lines, count, _), used = intersection(unit(rows), 1e-9)
    assert (lines, count) == (0, 4)
    assert sum(int(word).bit_count() for word in used) == 4
    assert [int(word).bit_count() for word in storage.cones.sets[:4, 0]] == [2] * 4


@given(st.integers(0, 2**32 - 1))
@examples(10)
def test_more_half_spaces_than_bits_in_a_word(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0.0, 2 * np.pi, 150))
    polygon = np.column_stack([-np.cos(angles), -np.sin(angles), np.ones(150)])
    pyramid = np.column_stack([polygon[:, :2], np.zeros(150), polygon[:, 2:]])  # a prism
    lines, extreme = double_description(polygon)
    assert (len(lines), len(extreme)) == (0, 150)
    lines, extreme = double_description(np.concatenate([pyramid, cube(3)[[2, 5]]]))
    assert (len(lines), len(extreme)) == (0, 300)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.booleans())
@examples(40)
def test_hashing_finds_the_same_pairs(seed: int, dimension: int, degenerate: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (3 * dimension, dimension + 1)
    rows = rng.integers(-1, 2, shape).astype(np.float64) if degenerate else rng.standard_normal(shape)
    rows = has_interior(rows[rows[:, :-1].any(axis=1)], np.full(dimension, 0.5))
    expected = double_description(rows)
    with pytest.MonkeyPatch.context() as patch:
        # The cut is interpreted, with a threshold that sends all pairs to hashing.
        patch.setattr(cone, "BRUTE_FORCE_PAIRS", -1)
        patch.setattr(cone, "pairs_by_force", None)
        patch.setattr(rays, "split", cone.split.py_func)
        patch.setattr(rays, "intersect", rays.intersect.py_func)
        found = double_description(rows)
    assert len(found[0]) == len(expected[0])
    assert_same_rays(found[1], expected[1])


@pytest.mark.parametrize("normal", ["generic", "degenerate"])
def test_a_cut_through_a_large_cube(normal: str) -> None:
    # 2^10 vertices, so that pairs are matched by hashing in compiled code; the cut edges are those of the cube.
    dimension = 10
    rng = np.random.default_rng(0)
    row = rng.standard_normal(dimension + 1) if normal == "generic" else np.array([1.0] * 6 + [0.0] * 4 + [0.0])
    row[-1] *= 0.1
    vertices = np.array(list(itertools.product([-1.0, 1.0], repeat=dimension)))
    values = vertices @ row[:-1] + row[-1]
    expected = [vertices[values >= 0.0]]
    for axis in range(dimension):
        low = vertices[:, axis] < 0.0
        other = values + 2.0 * row[axis]
        crossing = low & (values * other < 0.0)
        point = vertices[crossing].copy()
        point[:, axis] -= 2.0 * values[crossing] / (other - values)[crossing]
        expected.append(point)
    corners = np.concatenate(expected)
    lines, extreme = double_description(np.concatenate([cube(dimension), row[None]]))
    assert len(lines) == 0
    assert len(extreme) == len(corners)
    found = extreme[:, :-1] / extreme[:, -1:]
    order, expected_order = np.lexsort(np.round(found, 6).T), np.lexsort(np.round(corners, 6).T)
    np.testing.assert_allclose(found[order], corners[expected_order], atol=1e-6)
