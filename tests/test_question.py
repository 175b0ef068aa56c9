"""Questions of users: about inputs and outputs, against samples and mixed-integer programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from tests.clock import replaced_clock
from torch_shallow import Box, Polytope, TransformError, ask, transform


class Spread:
    """By how much output 0 is above output 1, where the first input is at least the second."""

    def goals(self, inputs: int, outputs: int) -> np.ndarray:
        return np.concatenate([np.zeros(inputs), [1.0, -1.0], [0.25]])[None]

    def constraints(self, inputs: int, outputs: int) -> np.ndarray:
        row = np.zeros(inputs + outputs + 1)
        row[:2] = 1.0, -1.0
        return row[None]


class Nearest:
    """The least distance, in the maximum norm, from a point to where output 1 is not less than output 0."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def goals(self, inputs: int, outputs: int) -> np.ndarray:
        rows = np.zeros((2 * inputs, inputs + outputs + 1))
        rows[:inputs, :inputs], rows[:inputs, -1] = -np.eye(inputs), self.x
        rows[inputs:, :inputs], rows[inputs:, -1] = np.eye(inputs), -self.x
        return rows

    def constraints(self, inputs: int, outputs: int) -> np.ndarray:
        return np.concatenate([np.zeros(inputs), [-1.0, 1.0], [0.0]])[None]


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(5)
    return zoo.chain(3, 8, 8, 2).double()


@pytest.mark.parametrize("domain", [Box(-1.0, 1.0), Polytope(np.vstack([np.eye(3), -np.ones((1, 3))]), np.ones(4))])
def test_spread(model: nn.Sequential, domain: torch_shallow.domain.Domain) -> None:
    found, reference = ask(model, Spread(), domain), ask(model, Spread(), domain, method="milp")
    assert found.proven
    assert found.gap < 1e-8
    assert found.lower_bound == pytest.approx(reference.lower_bound, abs=1e-7)
    y = model(found.x).detach()
    assert float(y[0] - y[1] + 0.25) == pytest.approx(found.lower_bound, abs=1e-12)
    x = torch.rand(10_000, 3, dtype=torch.float64) * 6.0 - 4.0
    x = x[domain.contains(x) & (x[:, 0] >= x[:, 1])]
    assert float((model(x).detach() @ torch.tensor([1.0, -1.0], dtype=torch.float64)).max()) + 0.25 <= found.upper_bound


def test_nearest_is_the_counterfactual(model: nn.Sequential) -> None:
    x = torch.zeros(3, dtype=torch.float64)
    target = 1 - int(model(x).argmax())
    expected = torch_shallow.explain.counterfactual(transform(model, domain=Box(-1.0, 1.0)), x, target, norm=np.inf)
    if target == 0:
        model[-1].weight.data, model[-1].bias.data = model[-1].weight.data.flip(0), model[-1].bias.data.flip(0)
    found = ask(model, Nearest(x.numpy()), Box(-1.0, 1.0))
    assert -found.upper_bound == pytest.approx(expected.distance, rel=1e-7)


def test_shallow_networks_are_asked_too(model: nn.Sequential) -> None:
    shallow = transform(model, domain=Box(-1.0, 1.0))
    assert ask(shallow, Spread()).upper_bound == pytest.approx(
        ask(model, Spread(), Box(-1.0, 1.0)).upper_bound, abs=1e-9
    )


def test_questions_that_cannot_be_asked(model: nn.Sequential) -> None:
    class Short(Spread):
        def goals(self, inputs: int, outputs: int) -> np.ndarray:
            return np.zeros((1, 2))

    with pytest.raises(TransformError, match=r"goals\(\) to return finite numbers of shape \(rows, 6\)"):
        ask(model, Short(), Box(-1.0, 1.0))
    with pytest.raises(TransformError, match="question: expected an object with the methods"):
        ask(model, object(), Box(-1.0, 1.0))
    with pytest.raises(TransformError, match="no bound"):
        ask(model, Spread(), Box(-np.inf, 1.0), method="rays")


def test_a_search_of_all_of_space_that_is_stopped_says_what_it_has_found(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = replaced_clock(monkeypatch)
    x = np.array([0.5, -0.25, 0.125])
    question = Nearest(x)
    target = int(model(torch.from_numpy(x)).argmax())
    if target == 1:
        model[-1].weight.data, model[-1].bias.data = model[-1].weight.data.flip(0), model[-1].bias.data.flip(0)
    whole = ask(model, question)
    assert whole.proven
    assert whole.gap < 1e-7
    stopped_at = set()
    for limit in (1.0, 200.0, 400.0, 700.0, 1000.0, 2000.0, 1e9):
        clock.now = 0.0
        part = ask(model, question, time_limit=limit)
        assert part.lower_bound <= whole.lower_bound + 1e-9 <= part.upper_bound + 2e-9
        assert part.proven or (part.upper_bound == np.inf and part.reason == f"time_limit={limit}")
        stopped_at.add(part.proven)
        if part.x is not None:
            assert float(-(part.x - torch.from_numpy(x)).abs().max()) == pytest.approx(part.lower_bound, abs=1e-9)
    assert stopped_at == {False, True}
