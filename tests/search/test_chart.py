"""Laws of charts, and of stages composed in them by compiled code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import examples
from tests.reference import rank
from tests.search.programs import arrangement, dense_program, draw_domain, draw_program, mlp
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart, row_space
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.problem import compose, pack

pytestmark = pytest.mark.quick


def points_of(rng: np.random.Generator, domain: Domain, num_inputs: int, inner: np.ndarray) -> np.ndarray:
    """Random points of the domain: some as they fall, others drawn towards a point inside until they are in it."""
    points = np.concatenate([scale * rng.standard_normal((30, num_inputs)) for scale in (0.1, 1.0, 10.0)])
    a, b = domain.inequalities((num_inputs,))
    if isinstance(domain, Box):
        return np.clip(points, *domain.bounds((num_inputs,)))
    rise, room = (points - inner) @ a.T, b - a @ inner
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(rise > 0.0, room / rise, np.inf).min(axis=1, initial=np.inf)
    return inner + np.minimum(1.0, share)[:, None] * (points - inner)


@given(st.data())
@examples(150)
def test_the_chart_shows_all_that_the_program_reads_of_the_domain(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    chart = make_chart(program, domain)
    points = points_of(rng, domain, program.num_inputs, chart.lift(chart.inner[None])[0])
    a, b = domain.inequalities(program.in_shape)
    bounded = np.isfinite(np.stack(domain.bounds(program.in_shape))).any(axis=0) if isinstance(domain, Box) else False
    free = np.ones(program.num_inputs, dtype=bool) & np.logical_not(bounded)
    lines = chart.lines(np.concatenate([program.reads, a]), free)
    both, *_ = np.linalg.lstsq(np.concatenate([chart.directions, lines]).T, (points - chart.origin).T, rcond=None)
    v = both[: chart.num_coordinates]
    lifted = chart.lift(v.T)
    np.testing.assert_allclose(program.preactivations(lifted), program.preactivations(points), rtol=1e-9, atol=1e-9)
    assert np.all(lifted @ a.T <= b + 1e-9)
    homogeneous = np.column_stack([v.T, np.ones(len(points))])
    assert np.all(homogeneous @ chart.inequalities.T >= -1e-9)


@given(st.data())
@examples(150)
def test_points_of_the_chart_lie_in_the_domain_just_if_its_inequalities_say_so(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    chart = make_chart(program, domain)
    p = chart.num_coordinates
    assert rank(chart.directions) == p
    assert chart.inner.shape == (p,)
    v = np.concatenate([2.0 * rng.standard_normal((100, p)), chart.inner[None]])
    values = np.column_stack([v, np.ones(101)]) @ chart.inequalities.T
    a, b = domain.inequalities(program.in_shape)
    room = b - chart.lift(v) @ a.T
    clear = np.abs(values).min(axis=1, initial=np.inf) > 1e-9
    assert np.array_equal((values > 0.0).all(axis=1)[clear], (room >= -1e-9).all(axis=1)[clear])
    assert (values[-1] > 0.0).all(), "the inner point is not inside"
    np.testing.assert_allclose(np.linalg.norm(chart.inequalities, axis=1), 1.0)
    if chart.is_box:
        assert np.array_equal((values >= 0.0).all(axis=1), (np.abs(v) <= 1.0).all(axis=1))


@given(st.data())
@examples(60)
def test_pulling_back_is_composition_with_lifting(data: st.DataObject) -> None:
    program = draw_program(data)
    chart = make_chart(program, draw_domain(data, program.num_inputs))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight, bias = rng.standard_normal((5, program.num_inputs)), rng.standard_normal(5)
    v = rng.standard_normal((20, chart.num_coordinates))
    pulled = np.column_stack([v, np.ones(20)]) @ chart.pull_back(weight, bias).T
    np.testing.assert_allclose(pulled, chart.lift(v) @ weight.T + bias, atol=1e-9)


def test_directions_that_no_neuron_reads_are_left_out() -> None:
    program = mlp(784, 5, 4, 3)
    assert make_chart(program, WholeSpace()).num_coordinates == 5
    # A box is not invariant along them.
    assert make_chart(mlp(12, 5, 1), Box(-1.0, 1.0)).num_coordinates == 12
    unread = arrangement(np.array([[1.0, 0.0, 2.0]]), np.zeros(1))
    assert make_chart(unread, Box(-1.0, 1.0)).num_coordinates == 2
    assert make_chart(unread, Box([-1.0, -1.0, 3.0], [1.0, 1.0, 3.0])).num_coordinates == 1
    assert make_chart(unread, Box(2.0, 2.0)).num_coordinates == 0
    assert make_chart(unread, Polytope([[0.0, 1.0, 0.0]], [1.0])).num_coordinates == 2
    assert make_chart(dense_program(3, [], []), WholeSpace()).num_coordinates == 0


@pytest.mark.parametrize("rounding", [0.0, 4e-16, -4e-16])
def test_what_rounding_leaves_of_a_wall_through_the_middle_tells_no_length(rounding: float) -> None:
    rows = [[2.0, -2.0, -2.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    polytope = Polytope(rows, [-2.0 + rounding, 1.0, 2.0, 1.0, 2.0, 1.0])
    box = Box([-np.inf, -1.0, -1.0], [1.0, 2.0, 2.0])
    program = arrangement(np.array([[1.0, -1.0, -1.0]]), np.array([rounding]))
    for domain in (polytope, box):
        lengths = make_chart(program, domain).lengths
        assert (lengths > 0.1).all()
        assert (lengths < 10.0).all()


def test_fixed_inputs_keep_their_value() -> None:
    chart = make_chart(mlp(4, 5, 1), Box([-1.0, 0.1, -np.inf, 7.0], [1.0, 0.1, np.inf, 7.0]))
    lifted = chart.lift(np.random.default_rng(0).standard_normal((10, chart.num_coordinates)))
    assert np.array_equal(lifted[:, [1, 3]], np.tile([0.1, 7.0], (10, 1)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(1, 5))
@examples(60)
def test_the_basis_of_a_row_space_spans_it(seed: int, rows: int, columns: int) -> None:
    matrix = np.random.default_rng(seed).integers(-1, 2, (rows, columns)).astype(np.float64)
    basis = row_space(matrix, np.ones(columns))
    expected = rank(matrix)
    assert len(basis) == expected
    assert rank(np.concatenate([matrix, basis])) == expected if expected else basis.shape == (0, columns)
    np.testing.assert_allclose(basis @ basis.T, np.eye(expected), atol=1e-12)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (Polytope([[1.0, 0.0], [-1.0, 0.0]], [-1.0, -1.0]), "domain: the polytope is empty.*relax b"),
        (Polytope([[0.0, 0.0]], [-1.0]), "domain: the polytope is empty"),
        (Polytope([[1.0, 0.0], [-1.0, 0.0]], [1.0, -1.0]), "domain: the polytope has no interior.*Box"),
        (Polytope([[1.0, 1.0, 1.0]], [1.0]), r"A has 3 columns.*\(2,\).*2 entries"),
        (Box([0.0, 0.0, 0.0], 1.0), r"lower has shape \(3,\).*\(2,\)"),
    ],
    ids=["empty", "empty by a constant", "flat", "columns", "box"],
)
def test_domains_that_do_not_do(domain: Domain, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        make_chart(mlp(2, 3, 1), domain)


def composed(program: ReLUProgram, domain: Domain, pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of all neurons by compiled code, the sizes their values are measured against, and the rows by NumPy."""
    chart = make_chart(program, domain)
    network, dimension = pack(program, chart), chart.num_coordinates + 1
    maps, norms = np.zeros(max(1, program.num_neurons) * dimension), np.zeros(program.num_neurons)
    for stage in range(len(program.stages)):
        compose(network, maps, norms, pattern.astype(np.uint8), np.zeros(program.num_neurons, dtype=np.int64), stage)
    rows = [
        maps[start * dimension : stop * dimension].reshape(dimension, stop - start).T
        for start, stop in zip(program.offsets, program.offsets[1:], strict=False)
    ]
    weights, biases, _, _ = program.affine_maps(pattern)
    return np.concatenate(rows), norms, chart.pull_back(weights, biases)


@given(st.data())
@examples(80)
def test_composed_stages_are_the_affine_maps_of_the_program(data: st.DataObject) -> None:
    program = draw_program(data, max_neurons=9)
    domain = draw_domain(data, program.num_inputs)
    pattern = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random(program.num_neurons) < 0.6
    rows, sizes, expected = composed(program, domain, pattern)
    np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-12 * (1.0 + np.abs(expected).max(initial=0.0)))
    assert np.all(sizes >= np.linalg.norm(rows, axis=1) * (1 - 1e-12))


def test_rows_that_cancel_are_measured_against_what_they_were_added_up_from() -> None:
    weight = np.array([[0.1, 0.7], [-0.1, -0.7]])
    program = dense_program(2, [weight, np.array([[-0.1, -0.7, 1.0, -1.0]])], [np.array([0.3, -0.3]), np.array([-0.3])])
    rows, sizes, _ = composed(program, WholeSpace(), np.array([True, False, False]))
    assert np.linalg.norm(rows[2]) < 1e-15
    assert sizes[2] > 1e-5
