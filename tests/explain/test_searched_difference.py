"""Two networks compared by the search, against all regions, samples and mixed-integer programs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, Polytope, TransformError, explain
from torch_shallow.explain.difference import difference


class Skip(nn.Module):
    """A network whose hidden layers and outputs all read the input."""

    def __init__(self, inputs, width, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(inputs + width, width)
        self.last = nn.Linear(inputs + width, outputs)

    def forward(self, x):
        h = self.first(x).relu()
        h = self.second(torch.cat([x, h], 1)).relu()
        return self.last(torch.cat([x, h], 1))


def changed(model, how, seed=0):
    """A copy: other weights by a little, the smaller half of them 0, or rounded to 8 bits."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            if how == "pruned":
                weight[weight.abs() < weight.abs().median()] = 0.0
            elif how == "rounded":
                step = weight.abs().max() / 127
                weight.copy_((weight / step).round() * step)
            else:
                weight += how * torch.randn(weight.shape, dtype=weight.dtype, generator=generator)
    return other


def networks(seed):
    """Two networks, of the same shape or not, and a bounded domain."""
    torch.manual_seed(seed)
    inputs = 2 + seed % 3
    kind = seed % 5
    a = Skip(inputs, 4, 2) if kind == 0 else zoo.chain(inputs, *[(6,), (4, 4), (3, 3, 3), (5, 3)][kind - 1], 2)
    a = a.double()
    how = [0.3, 0.01, 1e-6, "pruned", "rounded"][seed // 5 % 5]
    b = zoo.chain(inputs, 5, 2).double() if seed % 7 == 0 else changed(a, how, seed)
    lower, upper = -np.ones(inputs), np.ones(inputs)
    if seed % 4 == 1:
        return a, b, Polytope(np.concatenate([np.eye(inputs), -np.ones((1, inputs))]), np.ones(inputs + 1))
    if seed % 4 == 2:
        lower[0] = upper[0] = 0.3
    return a, b, Box(lower, upper)


METHODS = ("auto", "relaxation", "rays", "backward")


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 120))])
def test_equals_all_regions_and_no_sample_beats_it(seed):
    a, b, domain = networks(seed)
    by_regions = difference(a, b, domain, regions=True)
    found = difference(a, b, domain, method=METHODS[seed % 4])
    assert found.network is None
    assert found.proven
    assert found.exact.all()
    torch.testing.assert_close(found.largest, by_regions.largest, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.upper_bound, by_regions.largest, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.range.lower, by_regions.range.lower, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.range.upper, by_regions.range.upper, rtol=1e-7, atol=1e-7)
    x = 2.0 * torch.rand(20_000, found.where.shape[-1], dtype=torch.float64) - 1.0
    if isinstance(domain, Box):
        lower, upper = map(torch.from_numpy, domain.bounds(x.shape[1:]))
        x = x.clamp(lower, upper)
    x = x[domain.contains(x)]
    with torch.no_grad():
        assert ((a(x) - b(x)).abs().amax(0) <= found.upper_bound + 1e-9).all()
        at = (a(found.where) - b(found.where)).diagonal().abs()
    torch.testing.assert_close(at, found.largest, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["rays", "relaxation"])
def test_neurons_that_are_bounded_together_need_fewer_cells(method):
    torch.manual_seed(0)
    a = zoo.chain(3, 10, 10, 1).double()
    b = changed(a, 1e-3)
    together = difference(a, b, Box(-1.0, 1.0), method=method)
    apart = difference(a, Reordered(b), Box(-1.0, 1.0), method=method)
    torch.testing.assert_close(together.largest, apart.largest, rtol=1e-7, atol=1e-9)
    assert 2 * together.cells < apart.cells


class Reordered(nn.Module):
    """The same function with one more neuron, which is 0, so that nothing stands in the same place."""

    def __init__(self, chain):
        super().__init__()
        first, second = copy.deepcopy(chain[0]), copy.deepcopy(chain[2])
        with torch.no_grad():
            first.weight = nn.Parameter(torch.cat([first.weight, torch.zeros_like(first.weight[:1])]))
            first.bias = nn.Parameter(torch.cat([first.bias, -torch.ones_like(first.bias[:1])]))
            second.weight = nn.Parameter(torch.cat([second.weight, torch.ones_like(second.weight[:, :1])], 1))
        self.all = nn.Sequential(first, nn.ReLU(), second, *chain[3:])

    def forward(self, x):
        return self.all(x)


@pytest.mark.parametrize("method", ["rays", "relaxation", "backward"])
def test_stopped_it_is_an_interval(method):
    torch.manual_seed(1)
    a = zoo.chain(6, 30, 30, 2).double()
    b = changed(a, 0.05)
    found = difference(a, b, Box(-1.0, 1.0), method=method, time_limit=0.05)
    assert not found.proven
    assert "time_limit" in found.reason
    assert "stopped by" in str(found)
    assert not found.exact.all()
    x = 2.0 * torch.rand(20_000, 6, dtype=torch.float64) - 1.0
    with torch.no_grad():
        assert ((a(x) - b(x)).abs().amax(0) <= found.upper_bound).all()
        torch.testing.assert_close((a(found.where) - b(found.where)).diagonal().abs(), found.largest)
    assert found.equal(float(found.upper_bound.max())) is True
    assert found.equal(float(found.largest.max()) * (1 + 1e-9)) is None
    assert found.equal(float(found.largest.max()) * 0.99) is False
    assert found.gap > 0.0


def test_more_or_less_than_so_much():
    a, b, domain = networks(3)
    largest = difference(a, b, domain).largest
    for share, equal in ((1.01, True), (0.99, False)):
        found = difference(a, b, domain, at_most=share * float(largest.max()))
        assert found.proven
        assert found.exact.all()
        assert found.equal(share * float(largest.max())) is equal
        assert (found.largest <= largest + 1e-9).all()


def test_any_number_of_workers():
    a, b, domain = networks(4)
    one, two = (difference(a, b, domain, workers=workers) for workers in (1, 2))
    assert torch.equal(one.largest, two.largest)
    assert torch.equal(one.where, two.where)
    assert one.cells == two.cells


@pytest.mark.parametrize("seed", range(10))
def test_the_same_class_or_a_counterexample(seed):
    torch.manual_seed(seed)
    a = zoo.chain(2, 6, 5, 3).double()
    b = changed(a, [0.0, 1e-3, 0.02, 0.1, 0.5][seed % 5], seed)
    box = Box(-1.0, 1.0)
    x = 2.0 * torch.rand(50_000, 2, dtype=torch.float64) - 1.0
    with torch.no_grad():
        y, other = a(x), b(x)
    top = y.topk(2, dim=1)
    for margin in (0.0, 0.05, 0.3):
        verdict = difference(a, b, box, same_class=True, margin=margin)
        sure = top.values[:, 0] - top.values[:, 1] >= margin
        seen = bool((sure & (other.argmax(1) != top.indices[:, 0])).any())
        assert verdict.proven
        assert not (verdict.holds and seen)
        assert verdict.lower_bound <= verdict.upper_bound
        if verdict.holds:
            assert verdict.counterexample is None
            continue
        first, second = (f(verdict.counterexample[None]).detach()[0] for f in (a, b))
        torch.testing.assert_close(verdict.outputs, torch.stack([first, second]))
        i, j = verdict.classes
        assert first.argmax() == i
        assert first[i] - first[torch.arange(3) != i].max() >= margin - 1e-9
        assert second[j] > second[i]
        assert f"Class {i}, and then {j}" in str(verdict)
    assert difference(a, b, box, same_class=True, margin=1e6).holds


def test_the_same_class_in_time():
    torch.manual_seed(0)
    a = zoo.chain(6, 40, 40, 4).double()
    verdict = difference(a, changed(a, 1e-4), Box(-1.0, 1.0), same_class=True, margin=0.2, time_limit=0.05)
    assert verdict.holds is None
    assert "Not known" in str(verdict)
    assert explain.SameClass is type(verdict)


def test_shallow_networks_and_single_precision():
    torch.manual_seed(0)
    a = zoo.chain(2, 5, 4, 2)
    b = changed(a, 0.05)
    shallow = torch_shallow.transform(a, domain=Box(-1.0, 1.0))
    exact = difference(a, b, Box(-1.0, 1.0)).largest
    assert difference(shallow, b).network is not None
    searched = difference(shallow, b, regions=False)
    assert searched.network is None
    torch.testing.assert_close(searched.largest, exact, rtol=1e-6, atol=1e-6)
    verdict = difference(shallow, b, same_class=True)
    assert verdict.holds is not None
    assert verdict.holds or verdict.counterexample.dtype == torch.float64


def test_what_it_refuses():
    a = zoo.chain(2, 4, 1)
    shallow = torch_shallow.transform(a, domain=Box(-1.0, 1.0))
    with pytest.raises(TransformError, match="time_limit"):
        difference(shallow, a, time_limit=1.0)
    with pytest.raises(TransformError, match="method"):
        difference(a, a, method="rays")
    with pytest.raises(TransformError, match="at_most"):
        difference(shallow, a, at_most=1.0)
    with pytest.raises(TransformError, match="two or more outputs"):
        difference(a, a, Box(-1.0, 1.0), same_class=True)
    with pytest.raises(TransformError, match="same_class"):
        difference(a, a, Box(-1.0, 1.0), same_class=True, regions=True)
    with pytest.raises(TransformError, match="margin"):
        difference(a, a, Box(-1.0, 1.0), same_class=True, margin=-1.0)
