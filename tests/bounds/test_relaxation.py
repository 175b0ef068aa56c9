"""Bounds hold at points, are exact where they can be, and know which domains have some."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import zoo
from torch_shallow import Box, Polytope, TransformError, WholeSpace
from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.bounds.relaxation import relaxed_bounds
from torch_shallow.program.model import read_model

SPECIMENS = [specimen for specimen in zoo.ARCHITECTURES if np.prod(specimen.in_shape) <= 6]
SIMPLEX = Polytope([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 1.0, 1.0]], [0.0, 0.0, 0.0, 1.0])


def contains(bounds, program, x) -> None:
    z, y = program.preactivations(x), program(x)
    assert (bounds.lower <= z.min(axis=0)).all()
    assert (z.max(axis=0) <= bounds.upper).all()
    assert (bounds.out_lower <= y.min(axis=0)).all()
    assert (y.max(axis=0) <= bounds.out_upper).all()


@pytest.mark.parametrize("most_programs", [2000, 0])
@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_they_hold_at_all_points(specimen, most_programs) -> None:
    program = read_model(specimen.model(), specimen.example())
    d, rng = program.num_inputs, np.random.default_rng(0)
    lower, upper = rng.uniform(-2.0, -0.5, d), rng.uniform(0.0, 2.0, d)
    upper[0] = lower[0]
    bounds = relaxed_bounds(program, Box(lower, upper), most_programs=most_programs)
    x = rng.uniform(lower, upper, (2000, d))
    corners = np.where(rng.random((500, d)) < 0.5, lower, upper)
    contains(bounds, program, np.concatenate([x, corners]))


def test_they_hold_in_a_polytope_and_are_tighter_than_in_its_box() -> None:
    torch.manual_seed(0)
    program = read_model(zoo.chain(3, 8, 8, 2).double())
    x = np.random.default_rng(0).dirichlet(np.ones(4), 5000)[:, :3]
    inside, box = relaxed_bounds(program, SIMPLEX), relaxed_bounds(program, Box(0.0, 1.0))
    contains(inside, program, np.concatenate([x, np.eye(3), np.zeros((1, 3))]))
    assert (inside.unstable <= box.unstable).all()
    assert (inside.out_upper - inside.out_lower).sum() < 0.9 * (box.out_upper - box.out_lower).sum()


def test_linear_programs_tighten_and_one_hidden_layer_is_known_up_to_triangles() -> None:
    torch.manual_seed(1)
    program = read_model(zoo.chain(4, 16, 16, 16, 1).double())
    tight = relaxed_bounds(program, Box(-1.0, 1.0))
    loose = relaxed_bounds(program, Box(-1.0, 1.0), most_programs=0)
    assert (tight.lower >= loose.lower).all()
    assert (tight.out_upper - tight.out_lower)[0] < 0.9 * (loose.out_upper - loose.out_lower)[0]
    ridge = read_model(
        torch.nn.Sequential(zoo.linear([[1.0, 1.0]], [0.0]), torch.nn.ReLU(), zoo.linear([[2.0]], [1.0]))
    )
    bounds = relaxed_bounds(ridge, Box(-1.0, 1.0))
    assert np.allclose([bounds.lower[0], bounds.upper[0], *bounds.out_lower, *bounds.out_upper], [-2, 2, 1, 5])


@pytest.mark.parametrize("scale", [2.0**-40, 1.0, 2.0**40])
def test_units_do_not_matter(scale) -> None:
    torch.manual_seed(2)
    model = zoo.chain(3, 8, 8, 1).double()
    expected = relaxed_bounds(read_model(model), Box(-1.0, 1.0))
    with torch.no_grad():
        model[0].weight /= scale
    found = relaxed_bounds(read_model(model), Box(-scale, scale))
    assert np.allclose(found.out_upper, expected.out_upper, rtol=1e-6)
    assert np.allclose(found.out_lower, expected.out_lower, rtol=1e-6)


def test_the_box_of_a_polytope() -> None:
    lower, upper = bounding_box(SIMPLEX, (3,))
    assert np.allclose([lower, upper], [[0.0] * 3, [1.0] * 3], atol=1e-9)
    assert (lower <= 0.0).all()
    assert (upper >= 1.0).all()
    rng = np.random.default_rng(0)
    units = np.array([1e-6, 1.0, 1e6])
    normals, centre = rng.normal(size=(12, 3)) / units, rng.normal(size=3) * units
    polytope = Polytope(normals, normals @ centre + 1.0)
    lower, upper = bounding_box(polytope, (3,))
    directions = rng.normal(size=(1000, 3)) * units
    reach = 1.0 / (directions @ normals.T).max(axis=1)
    ends = centre + reach[:, None] * directions  # on the boundary
    assert (lower <= ends.min(axis=0)).all()
    assert (ends.max(axis=0) <= upper).all()
    assert ((upper - lower) < 3.0 * (ends.max(axis=0) - ends.min(axis=0))).all()


def test_domains_without_bounds_and_points() -> None:
    for domain in (WholeSpace(), Box([-1.0, -np.inf], 1.0), Polytope([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1, 1, 1])):
        with pytest.raises(TransformError, match="domain: expected a bounded"):
            bounding_box(domain, (2,))
    with pytest.raises(TransformError, match="empty"):
        bounding_box(Polytope([[1.0], [-1.0]], [0.0, -1.0]), (1,))
