"""Counterfactuals of several inputs, and several of one: against a search for each set of features."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from tests.zoo import chain
from torch_shallow import Box, TransformError, transform
from torch_shallow.errors import WrongTypeError
from torch_shallow.explain import AtLeast, NearestCounterfactuals, counterfactual, nearest_counterfactuals
from torch_shallow.explain.counterfactuals import several
from torch_shallow.explain.counterfactuals.asked_network import AskedNetwork

BOX = Box(-2.0, 2.0)


def scores(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return chain(3, 6, 5, 1).double()


def by_sets(model: torch.nn.Module, x: torch.Tensor, level: float, norm: float, count: int) -> list[float]:
    """The distances, by the nearest counterfactual for each set of features that may change, one after another."""
    alone: dict[frozenset[int], tuple[float, frozenset[int]]] = {}
    for size in range(1, 4):
        for moving in itertools.combinations(range(3), size):
            fixed = [i for i in range(3) if i not in moving]
            found = counterfactual(model, x, AtLeast(level), norm, within=BOX, fixed=fixed)
            changed = frozenset(int(name[1:]) for name in found.changes)
            alone[frozenset(moving)] = found.distance, changed
    distances, before = list[float](), list[frozenset[int]]()
    while len(distances) < count:
        allowed = [
            alone[moving] for moving in alone if alone[moving][0] < math.inf and not any(b <= moving for b in before)
        ]
        if not allowed:
            break
        distance, changed = min(allowed, key=lambda pair: pair[0])
        distances.append(distance)
        before.append(changed)
    return distances


def test_what_the_next_one_takes_is_said_before_it_starts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = scores(0), torch.full((1, 3), 0.1, dtype=torch.float64)
    target = AtLeast(float(model(x).detach()) + 0.05)
    monkeypatch.setattr(several, "LONG", 0.0)
    for more in ({"count": 1}, {"count": 2, "time_limit": 1e6}):
        nearest_counterfactuals(model, x, target, within=BOX, **more)
        assert not caplog.records
    ((first, _),) = nearest_counterfactuals(model, x, target, within=BOX, count=2).found
    (line,) = caplog.messages
    assert f"changes {len(first.changes)} features" in line
    assert "time_limit=" in line


def test_the_nearest_alone_takes_one_search_and_is_that_of_counterfactual(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = scores(0), torch.full((3,), 0.1, dtype=torch.float64)
    target, searches, nearest = AtLeast(float(model(x).detach()) + 0.05), [], AskedNetwork.nearest
    alone = counterfactual(model, x, target, within=BOX)
    monkeypatch.setattr(AskedNetwork, "nearest", lambda *given: searches.append(given) or nearest(*given))
    ((found,),) = nearest_counterfactuals(model, x[None], target, within=BOX).found
    assert found.x.equal(alone.x)
    assert found.bound == alone.bound
    assert len(searches) == 1


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("seed", range(3))
def test_each_is_the_nearest_that_leaves_alone_what_those_before_have_changed(seed: int, norm: float) -> None:
    model, x = scores(seed), torch.full((3,), 0.1, dtype=torch.float64)
    level = float(model(x).detach()) + 0.05
    found = nearest_counterfactuals(model, x[None], AtLeast(level), norm, 4, within=BOX)
    assert found.proven
    (row,) = found.found
    expected = by_sets(model, x, level, norm, 4)
    assert [one.distance for one in row if one.x is not None] == pytest.approx(expected, rel=1e-5)
    for one, other in itertools.combinations([one for one in row if one.x is not None], 2):
        assert not set(one.changes) <= set(other.changes)
        assert float(model(other.x).detach()) >= level - 1e-9
    shallow = nearest_counterfactuals(transform(model, domain=BOX), x[None], AtLeast(level), norm, 4)
    np.testing.assert_allclose(shallow.distances, found.distances, rtol=1e-5)


def test_a_batch_is_row_after_row() -> None:
    torch.manual_seed(3)
    model = chain(3, 8, 3).double()
    x = torch.randn(4, 3, dtype=torch.float64).clip(-1.0, 1.0)
    targets = [(int(label) + 1) % 3 for label in model(x).argmax(dim=1)]
    found = nearest_counterfactuals(model, x, targets, within=BOX)
    assert isinstance(found, NearestCounterfactuals)
    assert found.reasons == ("",) * 4
    for row, one, target in zip(x, found.found, targets, strict=True):
        alone = counterfactual(model, row, target, within=BOX)
        assert one[0].distance == pytest.approx(alone.distance, rel=1e-9)
    assert str(found).count("input") == 4
    assert nearest_counterfactuals(model, x[:0], 0).found == ()


def test_a_stopped_search_gives_an_interval_for_each_input() -> None:
    torch.manual_seed(4)
    model, x = chain(6, 20, 20, 2).double(), torch.zeros(2, 6, dtype=torch.float64)
    target = 1 - int(model(x[:1]).argmax())
    found = nearest_counterfactuals(model, x, target, count=3, time_limit=1e-9)
    assert not found.proven
    assert found.reasons == ("time_limit=1e-09",) * 2
    whole = counterfactual(model, x[0], target)
    assert all(row[0].lower_bound <= whole.distance <= row[0].upper_bound for row in found.found)


def test_what_cannot_be_asked_is_said() -> None:
    model, x = scores(0), torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(TransformError, match=r"for one, pass x\[None\]"):
        nearest_counterfactuals(model, x[0], AtLeast(0.0))
    with pytest.raises(TransformError, match="expected one target for each of the 2 inputs, found 1"):
        nearest_counterfactuals(model, x, [AtLeast(0.0)])
    with pytest.raises(TransformError, match="count: expected a positive integer, found 0"):
        nearest_counterfactuals(model, x, AtLeast(0.0), count=0)
    with pytest.raises(WrongTypeError, match="wrong: expected one of the constraints"):
        nearest_counterfactuals(model, x, AtLeast(0.0), wrong=1)
