"""Slopes of deep models that are searched, against the same of all regions."""

import math

import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import AtLeast, Box, Monotone, Polytope, TransformError, explain, transform, verify

BOX = Box(-1.0, 1.0)
WEDGE = Polytope([[1.0, 1.0, 0.5], [-1.0, 0.2, 0.0], [0.3, -1.0, 0.2], [0.0, 0.0, 1.0], [0.0, 0.1, -1.0]], [1.0] * 5)
FIXED = Box([-1.0, 0.3, -1.0], [1.0, 0.3, 1.0])
DOMAINS = [BOX, WEDGE, FIXED]


def network(seed: int, *sizes: int) -> nn.Module:
    torch.manual_seed(seed)
    return zoo.chain(*sizes).double()


def rising() -> nn.Module:
    """A network that rises in its first input, falls in its second and does not read its third."""
    model = network(0, 3, 6, 5, 1)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.abs_()
        model[0].weight[:, 1] *= -1.0
        model[0].weight[:, 2] = 0.0
    return model


@pytest.mark.parametrize("domain", DOMAINS, ids=["box", "polytope", "fixed"])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_lipschitz_constants_are_those_of_all_regions(norm: float, domain: torch_shallow.domain.Domain) -> None:
    model = network(1, 3, 6, 5, 2)
    shallow = torch_shallow.transform(model, domain=domain)
    for chosen in ({}, {"output": 1}, {"of": [[1.0, -1.0]]}):
        found, counted = (explain.lipschitz_constant(what, norm, domain, **chosen) for what in (model, shallow))
        assert found.proven
        assert found.value == pytest.approx(counted.value, rel=1e-9)
        assert found.lower_bound <= found.upper_bound == pytest.approx(counted.value, rel=1e-9)
        assert torch.linalg.vector_norm(found.direction, ord=norm).item() == pytest.approx(1.0)
        if not chosen:
            moved = model((found.point + 1e-7 * found.direction)[None]) - model(found.point[None])
            assert torch.linalg.vector_norm(moved, ord=norm).item() / 1e-7 == pytest.approx(found.value, rel=1e-5)
        assert "reached at `point`" in str(found)


@pytest.mark.parametrize("domain", DOMAINS, ids=["box", "polytope", "fixed"])
def test_slopes_are_those_of_all_regions(domain: torch_shallow.domain.Domain) -> None:
    model = network(2, 3, 6, 5, 2)
    features = explain.Features.of(["a", "b", "c"], scale=[-1.0, 2.0, 1.0])
    counted = explain.monotonicity(torch_shallow.transform(model, domain=domain), features=features)
    signs = explain.monotonicity(model, domain, features=features)
    exact = explain.monotonicity(model, domain, features=features, exact_slopes=True)
    moving = ~counted.fixed
    for found in (signs, exact):
        assert found.proven
        assert torch.equal(found.falls, counted.falls)
        assert torch.equal(found.rises, counted.rises)
        assert torch.equal(found.fixed, counted.fixed)
        assert (found.lower_bound <= counted.least + 1e-9)[..., moving].all()
        assert (found.upper_bound >= counted.greatest - 1e-9)[..., moving].all()
    for end in ("least", "greatest"):
        assert torch.allclose(getattr(exact, end)[..., moving], getattr(counted, end)[..., moving], rtol=1e-9)
    assert exact.gap[..., moving].max() < 1e-8
    for row in range(2):
        for column in range(3):
            assert signs.verdict(column, row) == counted.verdict(column, row)
            broken = signs.breaks("increasing", column, row)
            if broken is not None:
                slope = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], broken.point)[row, column]
                assert broken.slope == pytest.approx(float(slope / features.scale[column]))
                assert broken.slope < 0.0
    with pytest.raises(TransformError, match="breaking_regions"):
        signs.breaking_regions("increasing", 0)


def test_a_monotone_network_is_proven_to_be_one() -> None:
    model, names = rising(), ["up", "down", "flat"]
    found = explain.monotonicity(model, BOX, features=names)
    assert [found.verdict(name) for name in names] == ["increasing", "decreasing", "constant"]
    assert "increasing" in str(found)
    assert list(found.to_frame()["verdict"]) == ["increasing", "decreasing", "constant"]
    unused = explain.unused_features(model, BOX, features=names)
    assert unused.never_used == ("flat",)
    assert unused.proven
    assert "never used: flat" in str(unused)
    assert list(unused.to_frame()["never_used"]) == [False, False, True]
    with pytest.raises(TransformError, match="share"):
        _ = unused.share


def test_monotone_is_a_property() -> None:
    model = rising()
    verdict = verify(model, BOX, Monotone(increasing=[0, 2], decreasing=[1, 2]))
    assert verdict.holds
    assert verdict.proven
    assert verdict.margin == pytest.approx(0.0, abs=1e-9)
    verdict = verify(model, BOX, Monotone(increasing=[0, 1]))
    assert verdict.holds is False
    assert verdict.counterexample is not None
    slope = torch.autograd.functional.jacobian(lambda x: model(x[None])[0, 0], verdict.counterexample)[1]
    assert slope.item() == pytest.approx(verdict.margin)
    assert verdict.margin < 0.0
    assert verdict.lower_bound <= verdict.margin
    for wrong in (Monotone(), Monotone(increasing=[5]), Monotone([0]) & AtLeast(0.0), ~Monotone([0])):
        with pytest.raises(TransformError, match="property: expected"):
            verify(model, BOX, wrong)
    with pytest.raises(TransformError, match="bounded"):
        verify(model, None, Monotone([0]))
    with pytest.raises(TransformError, match="method"):
        verify(model, BOX, Monotone([0]), method="milp")


def test_a_stopped_search_does_not_decide() -> None:
    model = rising()
    found = explain.monotonicity(model, BOX, time_limit=1e-9)
    assert found.verdict(0) == "undecided"
    assert not found.proven
    assert "time_limit" in found.reason
    assert "stopped" in str(found)
    assert verify(model, BOX, Monotone([0]), time_limit=1e-9).holds is None
    unused = explain.unused_features(model, BOX, time_limit=1e-9)
    assert unused.undecided.tolist() == [False, False, True]
    assert "not decided" in str(unused)


def test_arguments_of_a_search_are_refused_where_there_is_none() -> None:
    model = network(0, 3, 4, 1)
    for ask in (explain.lipschitz_constant, explain.monotonicity, explain.unused_features):
        with pytest.raises(TransformError, match="time_limit"):
            ask(transform(model, domain=BOX), time_limit=1.0)
        assert ask(model, time_limit=1e3).proven
    with pytest.raises(TransformError, match="of: expected None"):
        explain.lipschitz_constant(model, 2, BOX, output=0, of=[[1.0]])
