"""Local models as parameters: any optimizer trains them, and the network says so."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.modules.laws import assert_equal, random_points
from tests.modules.tuned import TUNED, shallow_of
from tests.zoo import Specimen, chain
from torch_shallow import Box, ShallowReLU, transform
from torch_shallow.errors import TransformError
from torch_shallow.modules import visited_relu as visited_module

pytestmark = pytest.mark.quick


def visited() -> ShallowReLU:
    torch.manual_seed(0)
    return transform(chain(3, 8, 8, 2).double(), data=torch.randn(50, 3, dtype=torch.float64))


def locals_of(shallow: ShallowReLU) -> dict[str, nn.Parameter]:
    return {name.split(".")[1]: p for name, p in shallow.named_parameters() if name.split(".")[0] != "neurons"}


@pytest.mark.parametrize("specimen", TUNED, ids=str)
def test_unfreezing_changes_nothing_but_what_can_be_trained(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    x = random_points(shallow, 200)
    expected, keys = shallow(x), set(shallow.state_dict())
    assert not list(shallow.parameters())
    assert not shallow.may_be_discontinuous
    assert "discontinuous" not in repr(shallow)
    assert shallow.unfreeze() is shallow
    names = {"weights", "biases"} | ({"skip"} if shallow.selection.skip is not None else set())
    assert set(locals_of(shallow)) == names
    assert all(p.dtype == torch.float64 and p.requires_grad for p in shallow.parameters())
    assert torch.equal(shallow(x), expected)
    assert set(shallow.state_dict()) == keys
    assert shallow.may_be_discontinuous
    assert "may be discontinuous" in repr(shallow)
    parameters = list(shallow.parameters())
    assert list(shallow.unfreeze().parameters()) == parameters or all(
        a is b for a, b in zip(shallow.unfreeze().parameters(), parameters, strict=True)
    )
    assert shallow.freeze() is shallow
    assert not list(shallow.parameters())
    assert set(shallow.state_dict()) == keys
    assert torch.equal(shallow(x), expected)
    assert shallow.may_be_discontinuous, "it may have been trained in between"


def test_there_is_a_specimen_with_a_skip_and_one_with_a_projection() -> None:
    found = [shallow_of(specimen) for specimen in TUNED]
    assert any(shallow.selection.skip is not None for shallow in found)
    assert any(shallow.half_spaces.projection is not None for shallow in found)


@pytest.mark.parametrize("specimen", TUNED, ids=str)
def test_the_gradient_of_a_bias_is_added_up_in_its_region(specimen: Specimen) -> None:
    shallow = shallow_of(specimen).unfreeze()
    x = random_points(shallow, 300)
    g = torch.randn(len(x), *shallow.trunk_shape, dtype=torch.float64)
    (shallow.trunk(x) * g).sum().backward()
    region, u = shallow.locate(x), x.flatten(1)
    if shallow.half_spaces.projection is not None:
        u = u @ shallow.half_spaces.projection.T
    g, parameters = g.flatten(1), locals_of(shallow)
    for k in region.unique():
        here = region == k
        assert_equal(parameters["biases"].grad[k], g[here].sum(0), 1e-12)
        assert_equal(parameters["weights"].grad[k], g[here].T @ u[here], 1e-9)
    if "skip" in parameters:
        assert_equal(parameters["skip"].grad, g.T @ x.flatten(1), 1e-9)


@pytest.mark.parametrize("make", [lambda: shallow_of("3-8-8-3"), visited], ids=["complete", "visited"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_of_torch_trains_it(make: Callable[[], ShallowReLU], optimizer: Callable[..., object]) -> None:
    shallow = make()
    x = shallow.points[:40] if not shallow.complete else torch.rand(40, 3, dtype=torch.float64)
    before, target = shallow(x), shallow(x).detach() + 1.0
    opt, losses = optimizer(shallow.unfreeze().parameters(), lr=3e-2), []
    for _ in range(30):
        opt.zero_grad()
        loss = (shallow(x) - target).square().mean()
        loss.backward()
        opt.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    trained = shallow(x).detach()
    assert torch.equal(shallow.freeze()(x), trained)
    assert not torch.equal(trained, before)


@pytest.mark.parametrize("make", [lambda: shallow_of("30-5-4-2"), visited], ids=["complete", "visited"])
@pytest.mark.parametrize("change", [lambda m: m.half(), lambda m: m.to(torch.float32), lambda m: m.bfloat16()])
def test_parameters_and_their_gradients_stay_float64(
    make: Callable[[], ShallowReLU], change: Callable[[nn.Module], nn.Module]
) -> None:
    shallow = make().unfreeze()
    x = shallow.points if not shallow.complete else random_points(shallow, 100)
    shallow(x).sum().backward()
    before = {
        name: (p, p.detach().clone(), p.grad.clone()) for name, p in shallow.named_parameters() if p.grad is not None
    }
    assert before
    change(shallow)
    for name, p in shallow.named_parameters():
        if name in before:
            same, values, grad = before[name]
            assert p is same
            assert torch.equal(p, values)
            assert torch.equal(p.grad, grad)


def test_state_dicts_and_copies_go_between_frozen_and_unfrozen() -> None:
    frozen, trained = shallow_of("3-8-8-3"), shallow_of("3-8-8-3").unfreeze()
    x = random_points(frozen, 200)
    with torch.no_grad():
        for p in trained.parameters():
            p.mul_(1.5)
    copied = copy.deepcopy(trained)
    assert torch.equal(copied(x), trained(x))
    assert copied.may_be_discontinuous
    assert len(list(copied.parameters())) == len(list(trained.parameters()))
    frozen.load_state_dict(trained.state_dict())
    assert torch.equal(frozen(x), trained(x))
    trained.load_state_dict(shallow_of("3-8-8-3").state_dict())
    assert not torch.equal(frozen(x), trained(x))


def test_a_trained_network_fails_its_certificate_and_not_the_certifier() -> None:
    model = TUNED[0].model()
    shallow = transform(model).unfreeze()
    assert shallow.certify(model).passed
    with torch.no_grad():
        shallow.selection.biases[3] += 0.5
    for _ in range(2):
        certificate = shallow.certify(model)
        failed = {check.name for check in certificate.checks if not check.passed}
        assert "equal, interior points" in failed
        assert failed.isdisjoint({"tree", "cells", "deep pattern"})
        shallow.freeze()
    with torch.no_grad():
        shallow.unfreeze().selection.weights[3] += 0.5
    assert "deep Jacobian" in {check.name for check in shallow.certify(model).checks if not check.passed}


def test_a_trained_network_of_visited_regions_fails_its_certificate() -> None:
    torch.manual_seed(0)
    model, data = chain(3, 8, 8, 2).double(), torch.randn(50, 3, dtype=torch.float64)
    shallow = transform(model, data=data).unfreeze()
    assert shallow.certify(model).passed
    with torch.no_grad():
        shallow.local_models.biases[3] += 0.5
        shallow.local_models.weights[4] += 0.5
    assert not shallow.certify(model).passed


def test_visited_regions_do_not_grow_any_more() -> None:
    shallow, x = visited(), torch.randn(10, 3, dtype=torch.float64)
    shallow.grow(x)
    shallow.unfreeze()
    for _ in range(2):
        with pytest.raises(TransformError, match=r"grow: .* may have been trained.*before unfreeze\(\)"):
            shallow.grow(x)
        shallow.freeze()


def test_maps_that_are_not_stored_cannot_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visited_module, "STORED_BYTES", 10)
    shallow = visited()
    with pytest.raises(TransformError, match=r"unfreeze: expected stored .* fewer rows"):
        shallow.unfreeze()
    assert not shallow.may_be_discontinuous
    assert shallow.freeze() is shallow


def test_a_network_made_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        shallow = transform(chain(2, 4, 1).double(), domain=Box(-1.0, 1.0))
    shallow.unfreeze()
    shallow(torch.rand(5, 2, dtype=torch.float64)).sum().backward()
    assert shallow.selection.weights.grad is not None
