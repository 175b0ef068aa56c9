"""What is said of searches that go on for long, and of which: once, and only where there is no limit or bar."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import torch_shallow
from tests.search.programs import mlp
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.explain import lipschitz_constant, monotonicity, output_range, robustness_radius
from torch_shallow.search.enumerate import pose
from torch_shallow.search.growing_tree import Growth
from torch_shallow.search.runs import patience, watch
from torch_shallow.search.runs.best_first import Standing
from torch_shallow.search.runs.patience import Patience
from torch_shallow.search.runs.watch import Forecast

pytestmark = pytest.mark.quick

BOX = Box(-1.0, 1.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)).double()


def test_it_speaks_up_once_while_a_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said, spoken = list[str](), threading.Event()

    def warning(message: str, *arguments: object) -> None:
        said.append(message % arguments)
        spoken.set()

    monkeypatch.setattr(patience.logger, "warning", warning)
    standing, watched = Standing(0.0, cells=1234), Patience(seconds=0.0)
    for _ in range(2):
        with watched.watching(standing):
            assert spoken.wait(60.0)
    with Patience(seconds=1e6).watching(standing):
        pass  # it has ended in time
    (line,) = said
    assert "1,234 cells opened" in line
    assert "time_limit=" in line


def test_searches_within_what_is_watched_share_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    said, spoken = list[str](), threading.Event()

    def warning(message: str, *arguments: object) -> None:
        said.append(message % arguments)
        spoken.set()

    monkeypatch.setattr(patience.logger, "warning", warning)
    watched = Patience(seconds=0.0)
    with watched.watching():
        assert spoken.wait(60.0)
        with watched.watching(Standing(0.0, cells=5)):
            pass
    with watched.watching(Standing(0.0, cells=5)):
        pass
    (line,) = said
    assert "first cells" in line


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Patience]:
    """Whoever watches a search, each time."""
    calls = list[Patience]()

    @contextmanager
    def watching(self: Patience, _: Standing | None = None) -> Iterator[None]:
        calls.append(self)
        yield

    monkeypatch.setattr(Patience, "watching", watching)
    return calls


def test_all_searches_of_a_question_share_their_patience(watched: list[Patience]) -> None:
    x = torch.full((2, 3), 0.3, dtype=torch.float64)
    for ask in (
        lambda **limit: output_range(network(), BOX, **limit),
        lambda **limit: robustness_radius(network(), x, 2, domain=BOX, **limit),
        lambda **limit: monotonicity(network(), BOX, exact_slopes=True, **limit),
        lambda **limit: lipschitz_constant(network(), domain=BOX, **limit),
        lambda **limit: torch_shallow.verify(network(), BOX, torch_shallow.AtMost(0.1), **limit),
    ):
        watched.clear()
        ask()
        assert watched
        assert len(set(map(id, watched))) == 1
        watched.clear()
        ask(time_limit=1e6)
        assert not watched


def test_a_forecast_says_that_there_is_none(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, growth = pose(mlp(4, 8, 8, 1), WholeSpace()), Growth()
    forecast = Forecast(problem, growth, patience=0.0)
    monkeypatch.setattr(watch, "estimate_open", lambda *_: None)
    for _ in range(3):
        forecast(growth, None)
    (record,) = caplog.records
    assert "0 regions so far" in record.getMessage()
    assert "not even an estimate" in record.getMessage()
