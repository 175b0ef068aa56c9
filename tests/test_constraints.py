"""Networks as constraints of cvxpy: what satisfies them are the points of the network's graph."""

from __future__ import annotations

from typing import Any

import cvxpy
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, Polytope, TransformError, WholeSpace, constraints
from torch_shallow.explain import output_range

cp: Any = cvxpy  # mypy finds no functions in it
SPECIMENS = [specimen for specimen in (*zoo.ARCHITECTURES, *zoo.PIECEWISE) if np.prod(specimen.in_shape) <= 6]
TIGHT = {"mip_rel_gap": 0.0, "mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9}
BOX = Box(-1.0, 1.0)


def variables(model, in_shape):
    """Variables of one input and output; flat ones of images, for which cvxpy has no fast way."""
    with torch.no_grad():
        out_shape = tuple(model(torch.zeros(1, *in_shape, dtype=torch.float64)).shape[1:])
    shapes = [shape if len(shape) <= 2 else (int(np.prod(shape)),) for shape in (in_shape, out_shape)]
    return tuple(cp.Variable(shape) for shape in shapes)


def optimum(objective, tied) -> float:
    problem = cp.Problem(objective, tied)
    problem.solve(solver=cp.HIGHS, **TIGHT)
    assert problem.status == "optimal"
    return float(problem.value)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_the_only_output_at_an_input_is_that_of_the_model(specimen) -> None:
    model, example = specimen.model(), specimen.example()
    x, y = variables(model, specimen.in_shape)
    tied = constraints(model, x, y, BOX, example_input=example)
    rng, parameter = np.random.default_rng(0), cp.Parameter(x.shape)
    weight = rng.normal(size=y.shape)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(weight, y))), [*tied, x == parameter])
    for _ in range(3):
        parameter.value = rng.uniform(-1.0, 1.0, x.shape)
        problem.solve(solver=cp.HIGHS, **TIGHT)
        with torch.no_grad():
            expected = model(torch.from_numpy(parameter.value).reshape(1, *specimen.in_shape))[0].numpy()
        assert np.allclose(y.value, expected.reshape(y.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("domain", [BOX, Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [1.0, 1.0, 1.0])], ids=str)
def test_an_optimum_over_them_is_that_over_all_regions(domain) -> None:
    torch.manual_seed(0)
    model = zoo.chain(2, 6, 6, 2).double()
    shallow = torch_shallow.transform(model, domain=domain)
    expected = output_range(shallow)
    for given in (model, shallow, shallow.function):
        x, y = cp.Variable(2), cp.Variable(2)
        tied = constraints(given, x, y, domain)
        assert optimum(cp.Maximize(y[1]), tied) == pytest.approx(expected.upper[1].item(), abs=1e-7)
        assert optimum(cp.Minimize(y[0]), tied) == pytest.approx(expected.lower[0].item(), abs=1e-7)
        with torch.no_grad():
            assert np.allclose(model(torch.from_numpy(x.value)), y.value, atol=1e-7)


def test_expressions_of_other_variables_and_networks_of_networks() -> None:
    torch.manual_seed(1)
    first, second = zoo.chain(2, 4, 3).double(), zoo.chain(3, 4, 1).double()
    between = output_range(first, BOX)
    x, h, y = cp.Variable(2), cp.Variable(3), cp.Variable(1)
    tied = constraints(first, x, h, BOX) + constraints(second, h, y, Box(between.lower - 1.0, between.upper + 1.0))
    expected = output_range(nn.Sequential(first, second), BOX)
    assert optimum(cp.Maximize(y[0]), tied) == pytest.approx(expected.upper.item(), abs=1e-7)
    t = cp.Variable()
    along = constraints(first, cp.hstack([2.0 * t - 1.0, 0.5]), h, BOX)
    line = first(torch.stack([torch.linspace(-1.0, 1.0, 20_001), torch.full((20_001,), 0.5)], 1).double())
    assert optimum(cp.Maximize(h[2]), along) == pytest.approx(line[:, 2].max().item(), abs=1e-3)
    assert optimum(cp.Maximize(h[2]), along) >= line[:, 2].max().item() - 1e-9


def test_neurons_that_keep_their_sign_take_no_binaries() -> None:
    shifted = nn.Sequential(zoo.linear([[1.0], [1.0], [1.0]], [2.0, -2.0, 0.0]), nn.ReLU(), nn.Linear(3, 1)).double()
    x, y = cp.Variable(1), cp.Variable(1)
    assert cp.Problem(cp.Maximize(y[0]), constraints(shifted, x, y, BOX)).is_mixed_integer()
    booleans = [v for c in constraints(shifted, x, y, BOX) for v in c.variables() if v.attributes["boolean"]]
    assert {v.size for v in booleans} == {1}
    assert not cp.Problem(cp.Maximize(y[0]), constraints(shifted, x, y, Box(0.5, 1.0))).is_mixed_integer()


def test_visited_regions_exported_programs_and_shapes() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), zoo.chain(4, 5, 2), nn.Unflatten(1, (2, 1))).double()
    data = torch.rand(5, 2, 2, dtype=torch.float64)
    exported = torch.export.export(model, (data,))
    for given in (exported, torch_shallow.transform(model, data=data, domain=BOX)):
        x, y = cp.Variable((2, 2)), cp.Variable((2, 1))
        tied = constraints(given, x, y, Box(-2.0, 0.9), example_input=data[:1])
        best = optimum(cp.Maximize(y[1, 0] - y[0, 0]), tied)
        found = model(torch.from_numpy(x.value)[None])[0].detach()
        assert (found[1, 0] - found[0, 0]).item() == pytest.approx(best, abs=1e-7)


def test_what_they_refuse() -> None:
    torch.manual_seed(0)
    model, x, y = zoo.chain(2, 4, 3), cp.Variable(2), cp.Variable(3)
    for domain in (WholeSpace(), Box(-1.0, [1.0, np.inf]), Polytope([[1.0, 1.0]], [1.0])):
        with pytest.raises(TransformError, match="domain: expected a bounded"):
            constraints(model, x, y, domain)
    with pytest.raises(TransformError, match=r"y: expected shape \(3,\).*found \(2,\)"):
        constraints(model, x, cp.Variable(2), BOX)
    with pytest.raises(TransformError, match="x: expected an expression that is affine"):
        constraints(model, cp.square(x), y, BOX)
    classifier = nn.Sequential(model, nn.Softmax(-1))
    for headed in (classifier, torch_shallow.transform(classifier, domain=BOX)):
        with pytest.raises(TransformError, match=r"model: .* a head"):
            constraints(headed, x, y, BOX)
    assert constraints(torch_shallow.transform(classifier, domain=BOX).function, x, y, BOX)
    with pytest.raises(TransformError, match="may have been trained"):
        constraints(torch_shallow.transform(model, domain=BOX).unfreeze(), x, y, BOX)
