"""Counterfactuals of deep networks: equal to those of all regions and to mixed-integer programs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import torch_shallow
from tests.explain.milp import class_rows, milp_distance, other_class
from tests.explain.test_counterfactual import NORMS, made
from tests.explain.test_robustness_radius import network, rows
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.errors import WrongTypeError
from torch_shallow.explain import Features
from torch_shallow.explain.counterfactuals import AtLeast, Between, counterfactual, one_feature_changes
from torch_shallow.explain.nearby import growing_balls


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_regions_tell_the_same(norm, seed):
    model = made(3, 6, 5, 3, seed=seed)
    x = torch.randn(3, dtype=torch.float64)
    for target in (other_class(model, x), AtLeast(0.1), Between(0.05, 0.1, output=1)):
        expected = counterfactual(torch_shallow.transform(model), x, target, norm)
        found = counterfactual(model, x, target, norm)
        assert found.distance == pytest.approx(expected.distance, rel=1e-7)
        assert found.proven
        assert found.excess <= 0.0


@pytest.mark.parametrize("norm", [1, math.inf])
def test_a_mixed_integer_program_tells_the_same(norm):
    model = made(8, 12, 10, 3, seed=1)
    x = torch.randn(8, dtype=torch.float64)
    target = other_class(model, x)
    found = counterfactual(model, x, target, norm)
    expected = milp_distance(model, x, *class_rows(target, 3), norm, 1.1 * found.distance)
    assert found.distance == pytest.approx(expected, rel=1e-6)
    assert found.lower_bound <= expected * (1.0 + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_whole_numbers_and_groups(norm, seed):
    model = made(5, 6, 4, 2, seed=seed)
    features = Features.of(
        ["age", "a", "b", "c", "rate"], mean=[2.0, 0.2, 0.3, 0.5, 1.0], scale=[1.5, 0.4, 0.5, -0.6, 2]
    )
    x = torch.tensor(features.rescale(np.array([3.0, 0.0, 1.0, 0.0, 1.0])))
    options = {"features": features, "integer": ["age"], "lower": {"age": 1}, "upper": {"age": 4}}
    options |= {"one_hot": [["a", "b", "c"]], "increasing": ["rate"]}
    target = other_class(model, x)
    expected = counterfactual(torch_shallow.transform(model), x, target, norm, **options)
    found = counterfactual(model, x, target, norm, **options)
    assert found.distance == pytest.approx(expected.distance, rel=1e-6)
    assert found.proven
    if found.x is not None:
        values = features.unscale(found.x.numpy())
        assert values[0] == pytest.approx(round(values[0]), abs=1e-9)
        assert sorted(values[1:4].round(9).tolist()) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_where_all_classes_are_equal_far_away(norm):
    """All ReLUs are off there, so that the target is reached on the boundary of a region alone."""
    model = network(3, 3, 4, seed=176)
    x = rows(1, 3, seed=176)[0]
    expected = counterfactual(torch_shallow.transform(model), x, 3, norm)
    found = counterfactual(model, x, 3, norm)
    assert found.distance == pytest.approx(expected.distance, rel=1e-7)
    assert found.proven


@pytest.mark.parametrize("norm", NORMS)
def test_a_stopped_search_gives_an_interval(norm):
    model = made(6, 16, 16, 2, seed=2)
    x = 3.0 * torch.randn(6, dtype=torch.float64)
    target = other_class(model, x)
    stopped, exact = (counterfactual(model, x, target, norm, time_limit=limit) for limit in (1e-9, None))
    assert exact.proven
    assert stopped.lower_bound <= exact.distance * (1.0 + 1e-9)
    assert exact.lower_bound <= stopped.upper_bound
    assert stopped.gap == stopped.upper_bound - stopped.lower_bound or stopped.gap == 0.0
    if not stopped.proven:
        assert stopped.reason == "time_limit=1e-09"


def test_workers_do_not_matter():
    model = made(5, 12, 12, 3, seed=3)
    x = torch.randn(5, dtype=torch.float64)
    one, two = (counterfactual(model, x, other_class(model, x), workers=workers) for workers in (1, 2))
    assert torch.equal(one.x, two.x)
    assert one.bound == two.bound
    assert one.cells == two.cells


@pytest.mark.parametrize("norm", [1, math.inf])
@pytest.mark.parametrize("deep", [True, False])
def test_relations_between_features_are_kept(norm, deep):
    """In units of the features: as constraints of a mixed-integer program."""
    model = made(4, 6, 5, 2, seed=4)
    features = Features.of(list("abcd"), mean=[1.0, 0.0, 2.0, -1.0], scale=[2.0, -0.5, 1.0, 3.0])
    x = torch.randn(4, dtype=torch.float64)
    target = other_class(model, x)
    start = features.unscale(x.numpy())
    relations = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0]])
    sides = relations @ start + [0.1, 0.05]
    asked = model if deep else torch_shallow.transform(model)
    free = counterfactual(asked, x, target, norm, features=features)
    found = counterfactual(asked, x, target, norm, features=features, within=Polytope(relations, sides))
    by_input, beside = relations * features.scale, sides - relations @ features.mean
    reach = 1.1 * found.distance if found.x is not None else 10.0
    expected = milp_distance(model, x, *class_rows(target, 2), norm, reach, lambda point: [by_input @ point <= beside])
    assert found.distance == pytest.approx(expected, rel=1e-6)
    assert found.distance >= free.distance * (1.0 - 1e-9)


def test_a_box_of_data_is_kept():
    model = made(3, 6, 5, 2, seed=1)
    x = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    target = other_class(model, x)
    found = counterfactual(model, x, target, within=Box([-0.5, -1.0, -9.0], [0.5, 1.0, 9.0]))
    expected = counterfactual(model, x, target, lower=[-0.5, -1.0, -9.0], upper=[0.5, 1.0, 9.0])
    assert found.distance == pytest.approx(expected.distance, rel=1e-9)
    with pytest.raises(WrongTypeError, match="within"):
        counterfactual(model, x, target, within=[0.0, 1.0])


@pytest.mark.parametrize("norm", NORMS)
def test_several_networks_reach_it_together(norm):
    """As one network of all outputs, whose regions are known."""
    models = [made(3, 5, 4, 2, seed=seed) for seed in (0, 1)]
    x = torch.randn(3, dtype=torch.float64)
    target = other_class(models[0], x)
    found = counterfactual(models, x, target, norm)
    apart = [counterfactual(model, x, target, norm).distance for model in models]
    assert found.proven
    assert found.distance >= max(apart) * (1.0 - 1e-9)

    class Least(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.models = torch.nn.ModuleList(models)

        def forward(self, x):
            margins = [y[:, target] - y[:, 1 - target] for y in (model(x) for model in self.models)]
            return torch.minimum(*margins)[:, None]

    expected = counterfactual(Least(), x, AtLeast(0.0), norm)
    assert found.distance == pytest.approx(expected.distance, rel=1e-7)
    if found.x is not None:
        outputs = [model(found.x) for model in models]
        assert all(y[target] >= y.max() - 1e-9 for y in outputs)  # each alone rounds otherwise than all together


def test_lists_of_networks_that_do_not_fit_are_refused():
    x = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(TransformError, match="same number of outputs"):
        counterfactual([made(2, 3, 2), made(2, 3, 3)], x, 0)
    with pytest.raises(WrongTypeError, match="a list of deep models"):
        counterfactual([made(2, 3, 2), torch_shallow.transform(made(2, 3, 2))], x, 0)


def test_single_features_are_counterfactuals_with_all_others_fixed():
    model = made(4, 6, 5, 2, seed=2)
    features = Features.of(list("abcd"), mean=[1.0, 0.0, 2.0, -1.0], scale=[2.0, -0.5, 1.0, 3.0])
    x = torch.tensor(features.rescale(np.array([2.0, 0.5, 1.0, -1.0])))
    target = other_class(model, x)
    options = {"lower": -9.0, "upper": 9.0, "integer": ["a"], "increasing": ["b"]}
    for asked in (model, torch_shallow.transform(model)):
        table = one_feature_changes(asked, x, target, features=features, fixed=["d"], **options)
        assert list(table.by_feature) == ["a", "b", "c"]
        assert table.proven
        for name, found in table.by_feature.items():
            others = [other for other in "abcd" if other != name]
            expected = counterfactual(model, x, target, 1, features=features, fixed=others, **options)
            assert found.distance == pytest.approx(expected.distance, rel=1e-7)
            assert set(found.changes) <= {name}
        distances = {name: found.distance for name, found in table.by_feature.items()}
        assert table.nearest == min(distances, key=distances.get) or math.isinf(min(distances.values()))
        assert "alone" in str(table)


def test_a_feature_of_a_group_does_not_change_alone():
    model = made(3, 6, 5, 2, seed=2)
    x = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64)
    table = one_feature_changes(model, x, other_class(model, x), one_hot=[[0, 1]], lower={2: -3}, upper={2: 3})
    assert table.by_feature["x0"].x is None
    assert table.by_feature["x1"].x is None
    with pytest.raises(WrongTypeError, match="ixed: expected one of"):
        one_feature_changes(model, x, 0, ixed=[0])


def test_a_solver_of_regions_is_refused():
    model = made(2, 3, 2)
    x = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(TransformError, match="solver: expected None for a deep network"):
        counterfactual(model, x, other_class(model, x), solver="CLARABEL")


@pytest.mark.parametrize("seed", range(6))
def test_along_a_line_it_is_what_the_search_of_balls_finds(seed: int) -> None:
    torch.manual_seed(seed)
    model, x = made(3, 9, 7, 2, seed=seed), torch.randn(3, dtype=torch.float64)
    target = 1 - int(model(x[None]).argmax())
    relations = [[1.0, 0.5, 0.0], [-1.0, 0.0, 0.3]]
    for bounds in (Box(-8.0, 8.0), Polytope([*np.eye(3), *-np.eye(3), *relations], [8.0] * 6 + [6.0, 6.0])):
        for free in range(3):
            fixed = [entry for entry in range(3) if entry != free]
            found = counterfactual(model, x, target, within=bounds, fixed=fixed)
            twin = counterfactual(model, x, target, within=bounds, fixed=fixed, scale=2.0)
            assert twin.distance == pytest.approx(2.0 * found.distance)
            points = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
            line = x.repeat(4001, 1)
            line[:, free] = points
            reaches = (model(line).argmax(dim=1) == target) & bounds.contains(line)
            nearest = (points[reaches] - x[free]).abs().min() if reaches.any() else torch.tensor(torch.inf)
            assert found.distance <= nearest + 1e-9
            if found.x is not None:
                assert found.proven
                assert bounds.contains(found.x[None]).all()
                y = model(found.x[None])[0]
                assert y[target] >= y[1 - target] - 1e-9
            whole = counterfactual(
                torch_shallow.transform(model, domain=Box(-9.0, 9.0)), x, target, within=bounds, fixed=fixed
            )
            assert found.distance == pytest.approx(whole.distance, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_few_inputs_are_searched_by_vertices_with_the_same_result(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, bounds = made(3, 8, 8, 3, seed=seed), torch.zeros(3, dtype=torch.float64), Box(-4.0, 4.0)
    monkeypatch.setattr(growing_balls, "MANY_NEURONS", 4)
    asked, of = [], growing_balls.box_questions
    monkeypatch.setattr(growing_balls, "box_questions", lambda *given: asked.append(of(*given)) or asked[-1])
    here = float(model(x[None])[0, 0].detach())
    top = float(torch_shallow.explain.output_range(model, bounds).upper[0])
    target = AtLeast(here + 0.8 * (top - here), output=0)  # far away
    found = counterfactual(model, x, target, math.inf, within=bounds)
    assert any(asked)
    monkeypatch.setattr(growing_balls, "box_questions", lambda *_: ())
    other = counterfactual(model, x, target, math.inf, within=bounds)
    assert found.proven
    assert other.proven
    assert found.distance == pytest.approx(other.distance, rel=1e-7)
