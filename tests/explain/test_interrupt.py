"""Ctrl-C ends an explanation: it is never computed of a part of the regions."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.cases import thinned
from tests.explain import interrupted
from torch_shallow import Box, explain, plot
from torch_shallow._transform import transform, transform_all
from torch_shallow.search.runs.schedule import Schedule

MODEL = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
BOX = Box(-1.0, 1.0)
CALLS: dict[str, Callable[[], object]] = {
    "transform_all": lambda: transform_all(MODEL, domain=BOX),
    "volumes": lambda: explain.volumes(MODEL, BOX),
    "moments": lambda: explain.moments(MODEL, BOX),
    "difference": lambda: explain.difference(MODEL, MODEL),
    "plot.regions": lambda: plot.regions(MODEL, lower=-1.0, upper=1.0),
}


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", thinned(CALLS, "transform_all", "difference"))
def test_ctrl_c_while_regions_are_found(name: str, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed, run = [], Schedule.run

    def pressing(schedule: Schedule[Any], observers: Sequence[Any] = ()) -> str:
        def press() -> None:
            if not pressed:
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)

        if late:  # after the last look whether it was pressed
            reason = run(schedule, observers)
            press()
            return reason
        schedule.task_seconds = 1e-9
        return run(schedule, [*observers, lambda *_: press()])

    monkeypatch.setattr(Schedule, "run", pressing)
    with pytest.raises(KeyboardInterrupt):
        CALLS[name]()
    assert pressed


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_all_of_space_gives_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, activity = explain.output_range(MODEL), explain.neuron_activity(MODEL)
    slopes, falling = explain.lipschitz_constant(MODEL), explain.monotonicity(MODEL)
    run = Schedule.run

    def pressing(schedule: Schedule[Any], observers: Sequence[Any] = ()) -> str:
        presses = iter([signal.SIGINT])  # once: the second one is KeyboardInterrupt
        schedule.task_seconds = 1e-9

        def press(growth: Any, _: object) -> None:
            if growth.num_regions > 4:
                for number in presses:
                    signal.raise_signal(number)

        return run(schedule, [*observers, press])

    monkeypatch.setattr(Schedule, "run", pressing)
    part, some = explain.output_range(MODEL), explain.neuron_activity(MODEL)
    assert part.reason == some.reason == "Ctrl-C"
    assert not part.proven
    assert (part.lower_bound == -torch.inf).all()
    assert (part.upper_bound == torch.inf).all()
    assert (whole.lower <= part.lower).all()
    assert (part.upper <= whole.upper).all()
    y = MODEL(part.argmax.float()).diagonal()
    assert torch.allclose(y.double(), part.upper, atol=1e-5)
    steepest, signs = explain.lipschitz_constant(MODEL), explain.monotonicity(MODEL)
    use = explain.unused_features(MODEL)
    assert steepest.reason == signs.reason == use.reason == "Ctrl-C"
    assert 0.0 < steepest.value <= slopes.value < steepest.upper_bound
    assert (falling.falls >= signs.falls).all()
    assert not signs.increasing.any()
    assert not use.never.any()
    assert not some.dead.any()
    assert not some.always_on.any()
    assert (activity.dead <= some.undecided).all()
    assert (activity.always_on <= some.undecided).all()


def test_the_network_is_that_of_transform() -> None:
    x = torch.rand(100, 2) * 2 - 1
    found, expected = transform_all(MODEL, domain=BOX), transform(MODEL, domain=BOX)
    assert found.complete
    assert found.made_from(MODEL)
    assert torch.equal(found(x), expected(x))
    with torch.inference_mode():
        assert not transform_all(MODEL, domain=BOX).selection.weights.is_inference()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*interrupted.CALLS, *interrupted.INTERVALS])
def test_ctrl_c_at_any_instant_gives_the_whole_answer_or_none(name: str) -> None:
    """In a process of its own, which must not die either."""
    command = [sys.executable, "-m", "tests.explain.interrupted", name]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900)
    assert not done.returncode, done.stdout + done.stderr
