"""Laws of a local explanation: it is the network around x, and ends where the network changes."""

from __future__ import annotations

from functools import cache

import cvxpy
import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linprog
from sklearn import preprocessing
from torch import Tensor, nn

from tests.piecewise_models import classifier
from tests.zoo import ALL, ARCHITECTURES, DEGENERATE, Specimen, chain, transformed
from torch_shallow import Box, Polytope, ShallowReLU, TransformError, transform
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.explanation import explain
from torch_shallow.explain.locally.seen_facets import facets_of
from torch_shallow.geometry.inequalities import irredundant
from torch_shallow.geometry.polyhedron import polyhedron

pytestmark = pytest.mark.quick

FEW = [s for s in (*DEGENERATE, *ARCHITECTURES[:5]) if s.regions is None or s.regions < 200]
SLOW = [pytest.param(s, marks=pytest.mark.slow) for s in ALL if s not in FEW and (s.regions is None or s.regions < 500)]
UNITS = Features.of(["a", "b", "c"], mean=[40.0, -3.0, 0.5], scale=[12.0, -0.01, 300.0])
DOMAINS = [
    WholeSpace(),
    Box(-1.0, 1.0),
    Box([-1.0, 0.25, -np.inf], [1.0, 0.25, 2.0]),
    Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [1.0, 0.5, 3.0]),
]


@cache
def networks(domain: Domain, seed: int = 0) -> list[ShallowReLU]:
    """One function: of all regions, merged, without stored maps, and of visited regions."""
    torch.manual_seed(seed)
    model = chain(3, 6, 4, 3).double()
    whole = transform(model, domain=domain)
    data = whole.partition.interior_points()
    visited = transform(model, data=torch.from_numpy(data), domain=domain)
    return [whole, whole.merge(), transform(model, domain=domain, store_maps=False), visited]


def inputs(shallow: ShallowReLU, count: int) -> list[Tensor]:
    regions = shallow.regions[:: max(1, shallow.num_regions // count)]
    return [region.interior_point for region in regions]


def minimum(a: np.ndarray, b: np.ndarray, direction: np.ndarray) -> float:
    found = linprog(direction, A_ub=a, b_ub=b, bounds=(None, None), method="highs")
    assert found.status in (0, 3)
    return found.fun if found.status == 0 else -np.inf


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_the_local_model_is_the_network(domain: Domain) -> None:
    for shallow in networks(domain):
        for x in inputs(shallow, 2):
            found = explain(shallow, x, features=UNITS)
            assert found.region.index == int(shallow.locate(x))
            assert np.allclose(found.output, shallow.trunk(x).numpy(), atol=1e-9)
            assert np.allclose(found.weight @ found.value + found.bias, found.output, atol=1e-9)
            assert np.allclose(found.contribution.sum(1) + found.bias, found.output, atol=1e-9)
            assert np.allclose(UNITS.rescale(found.value), x.numpy())
            inner = x + torch.from_numpy(
                0.3 * found.step(found.nearest) / UNITS.scale if found.nearest else 1.0 + 0.0 * x
            )
            assert int(shallow.locate(inner)) == found.region.index
            assert np.allclose(shallow.trunk(inner), found.weight @ UNITS.unscale(inner.numpy()) + found.bias)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_each_feature_alone_leaves_the_region_at_the_ends_of_its_interval(domain: Domain) -> None:
    for shallow in networks(domain):
        for x in inputs(shallow, 2):
            found = explain(shallow, x, features=UNITS)
            assert (found.lower <= found.value).all()
            assert (found.value <= found.upper).all()
            for i in range(3):
                if found.fixed[i]:
                    assert found.lower[i] == found.value[i] == found.upper[i]
                    continue
                for end in (found.lower[i], found.upper[i]):
                    finite = np.isfinite(end)
                    beyond = 1.0 + 1e-6 * abs(UNITS.scale[i] / (end - found.value[i]))
                    for share, inside in [(1.0 - 1e-6, True), (beyond, False)] if finite else [(1.0, True)]:
                        moved = found.value.copy()
                        moved[i] += share * (end - moved[i]) if finite else np.copysign(1e4, end)
                        there = np.where(found.fixed, x, UNITS.rescale(moved))
                        same = int(shallow.locate(torch.from_numpy(there))) == found.region.index
                        assert same == inside, (i, end, share)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_distances_are_those_of_quadratic_programs(domain: Domain) -> None:
    """The distance to each facet, as part of the region's boundary, by a general solver."""
    shallow = networks(domain)[0]
    for x in inputs(shallow, 2):
        found = explain(shallow, x)
        if not found.facets:
            continue
        a, b = found.region.half_spaces.numpy()
        point, free = x.numpy(), ~found.fixed
        distances = []
        for facet in found.facets:
            y = cvxpy.Variable(3)
            on_it = [a @ y <= b, facet.normal @ y == facet.offset, y[~free] == point[~free]]
            problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(y - point)), on_it[: 2 + int((~free).any())])
            distances.append(problem.solve(solver="CLARABEL"))
            assert facet.distance <= distances[-1] + 1e-6
            assert facet.direct == (distances[-1] <= facet.distance + 1e-6)
        assert found.nearest is not None
        assert found.nearest.direct
        assert found.nearest.distance == pytest.approx(min(distances), abs=1e-6)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_what_changes_first(domain: Domain) -> None:
    """Along the shortest way the region ends at the nearest facet, and it is its neuron that changes sign."""
    for shallow in (networks(domain)[0], networks(domain)[3]):
        program = networks(domain)[0].partition.program
        for x in inputs(shallow, 3):
            found = explain(shallow, x, features=UNITS)
            facet = found.nearest
            if facet is None:
                continue
            step = found.step(facet) / UNITS.scale
            assert np.linalg.norm(step) == pytest.approx(facet.distance)
            beyond = 1.0 + 1e-6 / facet.distance
            before, behind = (torch.from_numpy(x.numpy() + share * step) for share in (1.0 - 1e-6, beyond))
            assert int(shallow.locate(before)) == found.region.index
            assert int(shallow.locate(behind)) != found.region.index
            if facet.neuron >= 0:
                changed = program.pattern(before.numpy()[None])[0] != program.pattern(behind.numpy()[None])[0]
                assert np.isin(facet.neuron, program.network.neurons[changed])
            else:
                assert facet.name == "domain"
                assert int(shallow.locate(behind)) == -1


def test_the_change_of_one_feature_that_reaches_a_facet() -> None:
    reached = 0
    for domain in DOMAINS:
        shallow = networks(domain)[0]
        for x in inputs(shallow, 3):
            found = explain(shallow, x, features=UNITS)
            for facet in found.facets:
                reachers = {}
                for i in np.flatnonzero(~found.fixed):
                    for end in (found.lower[i], found.upper[i]):
                        if np.isfinite(end):
                            moved = found.value.copy()
                            moved[i] = end
                            if abs(facet.normal @ UNITS.rescale(moved) - facet.offset) < 1e-9:
                                reachers[i] = end - found.value[i]
                if facet.feature is None:
                    assert not reachers
                    assert np.isnan(facet.change)
                    continue
                reached += 1
                sizes = {i: abs(change / UNITS.scale[i]) for i, change in reachers.items()}
                assert facet.change == pytest.approx(reachers[facet.feature])
                assert sizes[facet.feature] == pytest.approx(min(sizes.values()))
    assert reached > 25


@pytest.mark.parametrize("specimen", [*FEW, *SLOW], ids=str)
def test_facets_are_those_of_the_region(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    for region in shallow.regions[:: max(1, shallow.num_regions // 2)]:
        fast, slow = facets_of(region, region.half_spaces), region.facets()
        assert fast.names == slow.names
        assert torch.equal(fast.A, slow.A)
        found = explain(shallow, region.interior_point)
        fixed = int(found.fixed.sum())
        assert len(found.facets) == len(slow) - 2 * fixed
        assert str(found)
        assert len(found.to_frame()) == len(found.value)


@pytest.mark.parametrize("seed", range(4))
def test_irredundant_as_by_vertices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for rows, columns in [(1, 1), (7, 2), (30, 4), (40, 6)]:
        a = np.concatenate([rng.integers(-2, 3, (rows, columns)), np.eye(columns), -np.eye(columns)]).astype(float)
        a, slack = a[a.any(1)], rng.integers(1, 4, int(a.any(1).sum())).astype(float)
        point = rng.standard_normal(columns)
        shape = polyhedron(np.column_stack([-a, slack]), 10_000)
        assert shape is not None
        assert (irredundant(a, slack + a @ point, point) == shape.facets).all()


def test_the_class_in_the_whole_region() -> None:
    kinds = []
    for domain in DOMAINS:
        for shallow in networks(domain)[::3]:
            for x in inputs(shallow, 3):
                found = explain(shallow, x)
                decision, (a, b) = found.decision, found.region.half_spaces.numpy()
                assert decision is not None
                order = np.argsort(-found.output)
                assert (decision.label, decision.runner_up) == tuple(order[:2])
                assert decision.margin == pytest.approx(found.output[order[0]] - found.output[order[1]])
                a, b = np.vstack([a, np.zeros(3)]), np.append(b, 0.0)
                gaps, lead = found.weight[decision.label] - found.weight, found.bias[decision.label] - found.bias
                lowest = min(minimum(a, b, gaps[k]) + lead[k] for k in range(3) if k != decision.label)
                kinds.append(decision.constant)
                assert decision.constant == (lowest > 0.0)
                if decision.rival is not None and decision.rival_at is not None:
                    assert found.region.contains(torch.from_numpy(decision.rival_at))
                    there = found.weight @ decision.rival_at + found.bias
                    assert there[decision.rival] > there[decision.label]
    assert kinds.count(True) > 3
    assert kinds.count(False) > 3


def test_classes_that_differ_by_rounding_are_ties_everywhere() -> None:
    """Sums of the same three terms in different orders."""
    same = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        same[0].weight.copy_(torch.tensor([[1 / 3, 2.0]] * 3 + [[0.3, -1.0]]))
        same[0].bias.copy_(torch.tensor([0.1, 0.1, 0.1, 0.7], dtype=torch.float64))
        shares = torch.tensor([0.1, 0.2, 0.3, 1.0], dtype=torch.float64)
        same[2].weight.copy_(shares[torch.tensor([[0, 1, 2, 3], [2, 1, 0, 3], [1, 0, 2, 3]])])
        same[2].bias.zero_()
    shallow, points = transform(same), torch.tensor([[1.0, 1.0], [0.5, 0.2], [0.123, 0.456]], dtype=torch.float64)
    found = [explain(shallow, x).decision for x in points]
    assert len(np.unique(shallow.affine_maps(shallow.locate(points[:1]))[0][0].numpy(), axis=0)) > 1
    assert all(decision is not None and decision.constant for decision in found)


@pytest.mark.parametrize("domain", [WholeSpace(), DOMAINS[3]], ids=str)
def test_classes_that_are_far_behind(domain: Domain) -> None:
    """Small weights: other classes win a million units away."""
    torch.manual_seed(1)
    model = chain(3, 6, 4, 3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e-6
    shallow, far = transform(model, domain=domain), 0
    for x in inputs(shallow, 12):
        found = explain(shallow, x)
        assert found.decision is not None
        if found.decision.rival_at is not None:
            there = found.weight @ found.decision.rival_at + found.bias
            assert there[found.decision.rival] > there[found.decision.label]
            far += bool(np.linalg.norm(found.decision.rival_at) > 1e5)
            assert found.region.contains(torch.from_numpy(found.decision.rival_at))
    assert far > 2


def test_scalers_of_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)) * [10.0, 1.0, 1e6] + [40.0, 0.0, 1e7]
    x[:, 1] = 3.0
    options: list[dict[str, bool]] = [{}, {"with_mean": False}, {"with_std": False}]
    robust: list[dict[str, bool]] = [{}, {"with_centering": False}, {"with_scaling": False}]
    for scaler in (
        *(preprocessing.StandardScaler(**option) for option in options),
        *(preprocessing.RobustScaler(**option) for option in robust),
        preprocessing.MinMaxScaler((-5, 2)),
        preprocessing.MaxAbsScaler(),
    ):
        scaled, features = scaler.fit_transform(x), Features.of(scaler=scaler)
        np.testing.assert_allclose(features.rescale(x), scaled, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(features.unscale(scaled), x, rtol=1e-9)
    with pytest.raises(TransformError, match=r"scaler: expected a fitted .* \(without clip\)"):
        Features.of(scaler=preprocessing.MinMaxScaler(clip=True).fit(x))


def test_both_dtypes_and_the_edge_of_the_domain() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        shallow = transform(chain(2, 4, 1).to(dtype), domain=Box(0.1, 0.7))
        found = explain(shallow, torch.tensor([0.1, 0.7], dtype=dtype))
        assert found.nearest is not None
        assert found.nearest.distance == pytest.approx(0.0, abs=1e-7)
        assert found.lower[0] == pytest.approx(0.1)
        assert found.lower[0] >= 0.1 - 1e-15
        assert found.upper[1] <= 0.7 + 1e-15
        assert found.output.dtype == np.float64


def test_networks_of_other_kinds() -> None:
    torch.manual_seed(0)
    headed = transform(classifier().eval(), torch.zeros(1, 3))
    found = explain(headed, torch.zeros(3))
    assert np.allclose(found.output, headed.trunk(torch.zeros(3, dtype=torch.float64)).numpy())
    image = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Unflatten(1, (2, 3)))
    found = explain(transform(image, torch.zeros(1, 2, 2)), torch.ones(2, 2))
    assert (found.weight.shape, found.decision) == ((6, 4), None)
    trained = transform(chain(2, 3, 2)).unfreeze()
    assert "may have been trained" in str(explain(trained, torch.zeros(2)))
    free = transform(chain(2, 3, 2)).soften(10.0).harden()
    found = explain(free, torch.zeros(2))
    assert all(facet.name.startswith("cut ") and facet.neuron == -1 for facet in found.facets)
    constant = explain(transform(nn.Linear(2, 1)), torch.zeros(2))
    assert (constant.facets, constant.nearest) == ((), None)
    assert np.isinf(constant.upper).all()
    assert "No facet" in str(constant)


def test_tables_and_text() -> None:
    torch.manual_seed(0)
    shallow = transform(chain(3, 5, 2), domain=Box(-1.0, 1.0))
    found = explain(shallow, torch.zeros(3), features=UNITS)
    frame = found.to_frame(1)
    assert list(frame.index) == ["a", "b", "c"]
    assert list(frame.columns) == ["value", "weight", "contribution", "lower", "upper"]
    assert frame["contribution"].sum() + found.bias[1] == pytest.approx(found.output[1])
    assert list(found.to_frame().columns) == [
        "value", "weight[0]", "contribution[0]", "weight[1]", "contribution[1]", "lower", "upper"
    ]  # fmt: skip
    facets = found.facets_frame()
    assert isinstance(facets, pd.DataFrame)
    assert len(facets) == len(found.facets)
    assert facets["distance"].is_monotonic_increasing
    printed = str(found)
    assert all(name in printed for name in ("a", "b", "c", "bias", "distance (scaled)", facets["name"][0]))
    many = str(explain(transform(chain(30, 8, 1)), torch.ones(30)))
    assert "feature (10 of 30)" in many
    assert "20 others" in many


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.zeros(4, 2),
            r"x: expected one input of shape \(2,\), found a batch of shape \(4, 2\); explain its rows",
        ),
        (torch.zeros(3), r"x: expected one input of shape \(2,\), found shape \(3,\); reshape"),
        (torch.zeros(2, dtype=torch.int64), "x: expected a floating-point tensor"),
        (torch.full((2,), 5.0), r"x: expected a finite input in the domain Box.* for which locate\(\) is -1"),
        (torch.full((2,), torch.nan), "x: expected a finite input"),
    ],
)
def test_refusals(x: Tensor, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(TransformError, match=message):
        explain(transform(chain(2, 3, 1), domain=Box(-1.0, 1.0)), x)


def test_refusals_of_networks_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow = transform(chain(2, 3, 1))
    with pytest.raises(TransformError, match="features: expected one for each of the 2"):
        explain(shallow, torch.zeros(2), features=["a"])
    with pytest.raises(TransformError, match="shallow: expected a ShallowReLU, found Linear"):
        explain(nn.Linear(2, 1), torch.zeros(2))
    with pytest.raises(TransformError, match=r"features: expected names or Features, found StandardScaler"):
        explain(shallow, torch.zeros(2), features=preprocessing.StandardScaler())
    with pytest.raises(TransformError, match="output: expected a number from -1 to 0, found 1"):
        explain(shallow, torch.zeros(2)).to_frame(1)
