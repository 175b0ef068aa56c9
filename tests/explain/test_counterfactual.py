"""Counterfactuals: equal to mixed-integer programs, to a program for every region, and never beaten by a sample."""

from __future__ import annotations

import itertools
import math

import cvxpy
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.explain.milp import class_rows, milp_distance, other_class
from tests.zoo import chain
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain import Features
from torch_shallow.explain.counterfactuals import AtLeast, AtMost, Between, counterfactual
from torch_shallow.geometry.nearest_point import BEYOND, project, quadratic

NORMS = [1, 2, math.inf]


def made(*sizes, seed=0, dtype=torch.float64):
    """A chain of which no class is far off."""
    torch.manual_seed(seed)
    model = chain(*sizes).double().eval()
    with torch.no_grad():
        model[-1].bias -= model(torch.randn(1000, sizes[0], dtype=torch.float64)).mean(0)
    return model.to(dtype)


def distance_of(x, found, norm):
    return float(np.linalg.norm((found - x).double().numpy(), norm))


def brute_force(shallow, x, rows, offsets, norm, more=lambda point: []):
    """A program for every region, by cvxpy."""
    best = math.inf
    for region in shallow.regions:
        point = cvxpy.Variable(len(x))
        output = region.weight.numpy() @ point + region.bias.numpy()
        meets = [*region.constraints(point), rows @ output + offsets <= 0, *more(point)]
        cost = cvxpy.norm(point - x.double().numpy(), "inf" if norm == math.inf else norm)
        problem = cvxpy.Problem(cvxpy.Minimize(cost), meets)
        problem.solve(solver="CLARABEL")
        if problem.status in ("optimal", "optimal_inaccurate"):
            best = min(best, float(problem.value))
    return best


@pytest.mark.parametrize("norm", [1, math.inf])
def test_a_mixed_integer_program_finds_the_same_distance(norm):
    model = made(2, 4, 3, 3)
    shallow = torch_shallow.transform(model)
    for x in torch.randn(3, 2, dtype=torch.float64):
        target = other_class(model, x)
        found = counterfactual(shallow, x, target, norm)
        expected = milp_distance(model, x, *class_rows(target, 3), norm, 1.1 * found.distance)
        assert found.proven
        assert found.distance == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1, math.inf])
def test_a_hundred_mixed_integer_programs(norm):
    model = made(4, 6, 5, 3)
    shallow = torch_shallow.transform(model)
    for x in torch.randn(100, 4, dtype=torch.float64):
        target = other_class(model, x)
        found = counterfactual(shallow, x, target, norm)
        reach = 1.1 * found.distance if found.x is not None else 20.0
        expected = milp_distance(model, x, *class_rows(target, 3), norm, reach)
        assert found.distance == pytest.approx(expected, rel=1e-6) or (found.x is None and expected == math.inf)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("change", ["as it is", "merged", "maps on demand", "trained"])
def test_a_program_for_every_region_finds_the_same_distance(norm, change):
    model = made(2, 4, 3, 2)
    shallow = torch_shallow.transform(model, store_maps=change != "maps on demand")
    if change == "merged":
        shallow = shallow.merge()
    if change == "trained":
        shallow.unfreeze()
        with torch.no_grad():
            for parameter in shallow.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        shallow.freeze()
    x = torch.tensor([0.3, -0.8], dtype=torch.float64)
    target = other_class(shallow, x)
    found = counterfactual(shallow, x, target, norm)
    rows, offsets = class_rows(target, 2)
    assert found.distance == pytest.approx(brute_force(shallow, x, rows, offsets, norm), rel=1e-6)
    assert found.proven
    assert found.excess <= 0.0
    output = shallow(found.x)
    assert output[target] >= output.max()
    assert found.region == int(shallow.locate(found.x[None])[0])


@pytest.mark.parametrize("norm", NORMS)
def test_the_solvers_of_cvxpy_agree_with_compiled_code(norm):
    shallow = torch_shallow.transform(made(3, 5, 4, 2))
    x = torch.randn(3, dtype=torch.float64)
    ours = counterfactual(shallow, x, AtLeast(float(shallow(x)[0]) + 0.1), norm, fixed=["x0"])
    theirs = counterfactual(shallow, x, AtLeast(float(shallow(x)[0]) + 0.1), norm, fixed=["x0"], solver="CLARABEL")
    assert ours.distance == pytest.approx(theirs.distance, rel=1e-6)
    assert theirs.bound == pytest.approx(ours.bound, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("domain", [Box(-1.5, 1.5), Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]], [1.0, 1.0])], ids=str)
def test_no_sample_is_nearer_and_the_domain_is_kept(norm, domain):
    model = made(3, 6, 5, 2)
    shallow = torch_shallow.transform(model, domain=domain)
    x = torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64)
    target = other_class(model, x)
    found = counterfactual(shallow, x, target, norm)
    assert found.x is not None
    assert domain.contains(found.x[None]).all()
    around = x + 1.2 * found.distance * (2.0 * torch.rand(100_000, 3, dtype=torch.float64) - 1.0)
    around = around[domain.contains(around)]
    reached = around[shallow(around).argmax(1) == target]
    assert len(reached) > 0
    assert np.linalg.norm((reached - x).numpy(), norm, axis=1).min() >= found.bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NORMS)
def test_the_target_is_reached_in_the_dtype_of_the_input(dtype, norm):
    model = made(3, 6, 5, 2, dtype=dtype)
    shallow = torch_shallow.transform(model)
    for x in torch.randn(5, 3, dtype=dtype):
        target = other_class(model, x)
        found = counterfactual(shallow, x, target, norm)
        output = shallow(found.x.double())
        assert found.x.dtype == dtype
        assert found.proven
        assert output[target] >= output.max()
        assert found.distance == pytest.approx(distance_of(x, found.x, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_fixed_stays_and_what_is_monotone_goes_one_way(norm):
    model = made(4, 8, 2)
    shallow = torch_shallow.transform(model, domain=Box(-3.0, 3.0))
    x = torch.randn(4, dtype=torch.float64)
    target = other_class(model, x)
    scale = np.array([1.0, 2.0, 0.5, 1.0])
    found = counterfactual(
        shallow, x, target, norm, fixed=["x3"], increasing=["x0"], decreasing=[1], upper={"x2": 1.0}, scale=scale
    )
    limits = [x.numpy()[0], -3.0, -3.0, x.numpy()[3]], [3.0, x.numpy()[1], max(1.0, float(x[2])), x.numpy()[3]]
    scaled = [(limit - x.numpy()) for limit in np.array(limits)]
    expected = math.inf
    rows, offsets = class_rows(target, 2)
    for region in shallow.regions:
        change = cvxpy.Variable(4)
        output = region.weight.numpy() @ (change + x.numpy()) + region.bias.numpy()
        a, b = region.half_spaces.numpy()
        meets = [a @ (change + x.numpy()) <= b, rows @ output + offsets <= 0, change >= scaled[0], change <= scaled[1]]
        cost = cvxpy.norm(cvxpy.multiply(scale, change), "inf" if norm == math.inf else norm)
        problem = cvxpy.Problem(cvxpy.Minimize(cost), meets)
        problem.solve(solver="CLARABEL")
        if problem.status in ("optimal", "optimal_inaccurate"):
            expected = min(expected, float(problem.value))
    assert found.distance == pytest.approx(expected, rel=1e-6)
    if found.x is not None:
        assert found.x[3] == x[3]
        assert found.x[0] >= x[0]
        assert found.x[1] <= x[1]


@pytest.mark.parametrize("norm", NORMS)
def test_integers_and_one_hot_groups_as_by_trying_all(norm):
    model = made(5, 8, 2, seed=1)
    shallow = torch_shallow.transform(model)
    features = Features.of(
        ["age", "a", "b", "c", "rate"], mean=[2.0, 0.2, 0.3, 0.5, 1.0], scale=[1.5, 0.4, 0.5, -0.6, 2]
    )
    x = torch.tensor(features.rescale(np.array([3.0, 0.0, 1.0, 0.0, 1.0])))
    target = other_class(model, x)
    rows, offsets = class_rows(target, 2)
    found = counterfactual(
        shallow,
        x,
        target,
        norm,
        features=features,
        integer=["age"],
        one_hot=[["a", "b", "c"]],
        lower={"age": 1},
        upper={"age": 4},
    )
    expected = math.inf
    for age, group in itertools.product(range(1, 5), np.eye(3)):
        values = features.rescale(np.array([age, *group, 0.0]))[:4]
        # What is left is one input: a chain of layers of it alone, whose regions are intervals.
        first = nn.Linear(1, 8, dtype=torch.float64)
        with torch.no_grad():
            first.weight.copy_(model[0].weight[:, 4:])
            first.bias.copy_(model[0].bias + model[0].weight[:, :4] @ torch.tensor(values))
        line = torch_shallow.transform(nn.Sequential(first, *list(model)[1:]))
        rest = brute_force(line, x[4:], rows, offsets, 1)
        expected = min(expected, float(np.linalg.norm([*(values - x.numpy()[:4]), rest], norm)))
    assert found.distance == pytest.approx(expected, rel=1e-6)
    if found.x is not None:
        assert found.proven
        after = features.unscale(found.x.numpy())
        assert after[0] == pytest.approx(round(after[0]), abs=1e-9)
        assert sorted(after[1:4].round(9).tolist()) == [0.0, 0.0, 1.0]


def test_an_input_that_reaches_the_target_is_its_own_counterfactual():
    shallow = torch_shallow.transform(made(3, 5, 2))
    x = torch.randn(3, dtype=torch.float64)
    found = counterfactual(shallow, x, int(shallow(x).argmax()))
    assert torch.equal(found.x, x)
    assert found.distance == found.bound == 0.0
    assert found.changes == {}


def test_an_input_on_a_boundary():
    model = made(2, 4, 3, 2)
    shallow = torch_shallow.transform(model)
    point = shallow.regions[3].vertices()[0]
    target = other_class(model, point)
    found = counterfactual(shallow, point, target)
    assert found.distance == pytest.approx(brute_force(shallow, point, *class_rows(target, 2), 2), rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0)], ids=str)
def test_a_target_that_nothing_reaches(norm, domain):
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    with torch.no_grad():
        model[2].weight.abs_()
        model[2].bias.zero_()
    shallow = torch_shallow.transform(model, domain=domain)
    found = counterfactual(shallow, torch.zeros(2, dtype=torch.float64), AtMost(-1.0), norm)
    assert found.x is None
    assert found.distance == math.inf
    assert found.bound > 1e6
    assert "No counterfactual" in str(found)


@pytest.mark.parametrize("norm", NORMS)
def test_a_deep_network_in_growing_balls(norm):
    model = made(3, 6, 5, 2)
    shallow = torch_shallow.transform(model)
    for x in torch.randn(2, 3, dtype=torch.float64):
        target = other_class(model, x)
        expected, found = counterfactual(shallow, x, target, norm), counterfactual(model, x, target, norm)
        assert found.distance == pytest.approx(expected.distance, rel=1e-6)
        assert found.proven
        assert found.cells >= 0
        assert found.region == -1


def test_a_deep_network_with_many_inputs():
    model = made(64, 8, 6, 3)
    x = torch.rand(64, dtype=torch.float64)
    target = other_class(model, x)
    found = counterfactual(model, x, target, math.inf)
    assert found.proven
    expected = milp_distance(model, x, *class_rows(target, 3), math.inf, 1.1 * found.distance)
    assert found.distance == pytest.approx(expected, rel=1e-6)


def test_between_and_margin():
    shallow = torch_shallow.transform(made(2, 4, 3, 2))
    x = torch.tensor([0.3, -0.8], dtype=torch.float64)
    y = shallow(x).detach()
    between = counterfactual(shallow, x, Between(float(y[1]) + 0.05, float(y[1]) + 0.06, output=1))
    assert float(y[1]) + 0.05 <= float(shallow(between.x)[1]) <= float(y[1]) + 0.06
    chosen = int(y.argmin())
    wide = counterfactual(shallow, x, chosen, margin=0.01)
    assert wide.x is None or shallow(wide.x)[chosen] - shallow(wide.x)[1 - chosen] >= 0.01
    assert wide.distance >= counterfactual(shallow, x, chosen).distance


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("norm", NORMS)
def test_any_scale_of_inputs(factor, norm):
    model = made(3, 6, 4, 2)
    large = made(3, 6, 4, 2)
    with torch.no_grad():
        large[0].weight /= factor
    x = torch.randn(3, dtype=torch.float64)
    target = other_class(model, x)
    expected = counterfactual(torch_shallow.transform(model), x, target, norm)
    found = counterfactual(torch_shallow.transform(large), factor * x, target, norm)
    assert found.distance == pytest.approx(factor * expected.distance, rel=1e-6)


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), nn.Linear(1, 2)], ids=str
)
@pytest.mark.parametrize("zero", [False, True])
def test_small_networks(model, zero):
    model = model.double()
    if zero:
        with torch.no_grad():
            model[-1].weight.zero_() if isinstance(model, nn.Sequential) else model.weight.zero_()
    shallow = torch_shallow.transform(model)
    x = torch.zeros(shallow.in_shape, dtype=torch.float64)
    target = other_class(model, x)
    found = counterfactual(shallow, x, target)
    assert found.distance == pytest.approx(brute_force(shallow, x, *class_rows(target, 2), 2), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 2}, "target: expected an output"),
        ({"target": Between(1.0, 0.0)}, "lower one first"),
        ({"norm": 3}, "norm: expected 1, 2"),
        ({"margin": -1.0}, "margin"),
        ({"target": AtLeast(1.0), "margin": 1.0}, "margin"),
        ({"fixed": ["income"]}, "fixed: expected one of the features"),
        ({"fixed": "x0"}, "fixed: expected a list"),
        ({"lower": 1.0, "upper": 0.0}, "relax it"),
        ({"lower": {"x0": 0.2}, "upper": {"x0": 0.8}, "integer": ["x0"]}, "relax it"),
        ({"increasing": ["x0"], "upper": {"x0": -5.0}}, "relax them"),
        ({"scale": 0.0}, "scale: expected positive"),
        ({"one_hot": [["x0"], ["x0"]]}, "one_hot"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"fixed": [True, False]}, "fixed: expected names or numbers"),
        ({"one_hot": [[]]}, "one_hot: expected groups of at least one"),
        ({"lower": {"q": 1.0}}, "lower: expected one of the features"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    shallow = torch_shallow.transform(made(2, 3, 2))
    arguments = {"target": 0, **arguments}
    with pytest.raises(TransformError, match=message):
        counterfactual(shallow, torch.zeros(2, dtype=torch.float64), arguments.pop("target"), **arguments)


def test_networks_that_do_not_know_all_regions_are_refused():
    model = made(2, 8, 2)
    x = torch.randn(3, 2, dtype=torch.float64)
    with pytest.raises(TransformError, match="pass the deep model"):
        counterfactual(torch_shallow.transform(model, data=x), x[0], 0)
    with pytest.warns(torch_shallow.errors.IncompleteWarning):
        part = torch_shallow.transform(model, max_regions=3)
    with pytest.raises(TransformError, match="incomplete"):
        counterfactual(part, x[0], 0)


@pytest.mark.parametrize("norm", NORMS)
def test_whole_numbers_that_float32_has_rounded_may_stay(norm):
    shallow = torch_shallow.transform(made(4, 6, 2))
    features = Features.of(["a", "b", "c", "age"], mean=[0.37, -1.3, 0.2, 41.7], scale=[0.3, -2.7, 0.7, 13.3])
    exact = torch.tensor(features.rescale(np.array([1.0, 0.0, 0.0, 52.0])))
    target = other_class(shallow, exact)
    options = {"features": features, "one_hot": [["a", "b", "c"]], "integer": ["age"], "increasing": ["b", "age"]}
    options |= {"lower": {"age": 0}, "upper": {"age": 90}, "fixed": ["c"]}
    expected = counterfactual(shallow, exact, target, norm, **options)
    found = counterfactual(shallow, exact.float(), target, norm, **options)
    assert found.distance == pytest.approx(expected.distance, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_group_stays_beside_what_changes(norm):
    shallow = torch_shallow.transform(made(3, 6, 2))
    features = Features.of(["a", "b", "rate"], mean=[0.37, -1.3, 0.0], scale=[0.3, -2.7, 1.0])
    x = torch.tensor(features.rescale(np.array([0.0, 1.0, 0.3]))).float()
    value = float(shallow(torch.cat([x[:2], x[2:] + 0.5]).double())[0].detach())
    target = AtLeast(value) if value > float(shallow(x.double())[0].detach()) else AtMost(value)
    found = counterfactual(shallow, x, target, norm, features=features, one_hot=[["a", "b"]])
    assert 0.0 < found.distance <= 0.5 * (1.0 + 1e-5)


def test_a_deep_network_of_an_input_outside_the_range():
    model = made(2, 4, 2)
    x = torch.tensor([3.0, 0.0], dtype=torch.float64)
    for target in range(2):
        found = counterfactual(model, x, target, upper={"x0": -3.0})
        expected = counterfactual(torch_shallow.transform(model), x, target, upper={"x0": -3.0})
        assert found.distance == pytest.approx(expected.distance, rel=1e-6)


def test_a_deep_network_that_does_not_tell_the_shape_of_its_input():
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    x = torch.rand(1, 3, 3)
    found = counterfactual(model, x, other_class(lambda image: model(image[None])[0], x), lower=-5.0, upper=5.0)
    assert found.proven


@pytest.mark.parametrize("norm", NORMS)
def test_the_ends_of_the_domain_are_kept_to_the_last_bit(norm):
    model = nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.zero_()
    shallow = torch_shallow.transform(model, domain=Box(-0.1, 0.1))
    found = counterfactual(shallow, torch.zeros(2), AtLeast(0.1999999), norm)
    assert found.excess <= 0.0
    line = torch_shallow.transform(model, domain=Box([0.1, -1.0], [0.1, 1.0]))
    x = torch.tensor([-1.2345678, 0.3], dtype=torch.float64)
    found = counterfactual(line, x, AtLeast(0.7), norm, scale=[1.7, 9.1])
    assert found.x[0] == 0.1
    assert found.excess <= 0.0


def test_a_region_that_does_not_reach_the_target_is_proven_so_in_a_half_bounded_domain():
    work = quadratic(2, 3)
    angle = np.array([[1.0, 2.0], [-2.0, 1.0], [1.0, -3.0]])
    work.rows[:], work.rhs[:] = angle / np.linalg.norm(angle, axis=1)[:, None], [-1.0, -1.0, -1.0]
    for lower, upper in [([0.0, -np.inf], [np.inf, np.inf]), ([-np.inf, -np.inf], [0.5, np.inf])]:
        assert project(work, 3, np.array(lower), np.array(upper), 1e9) == BEYOND
        assert work.bound[0] >= 1e9
