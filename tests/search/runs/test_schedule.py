"""The same regions, bit for bit, whoever finds them, in whatever portions."""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import examples
from tests.clock import Clock
from tests.search.programs import draw_domain, draw_program, mlp
from tests.search.walks import Counting, assert_same, known_of, problem_of
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import IncompleteWarning, TransformError
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.enumerate import enumerate_regions, resume
from torch_shallow.search.growing_tree import ROOT, Growth, Piece
from torch_shallow.search.runs import schedule
from torch_shallow.search.runs.schedule import ATTEMPTS
from torch_shallow.search.runs.workers import Enumeration, Task, explore, packed
from torch_shallow.search.task_output import Quota

SHORT = {"task_seconds": 1e-9}  # each task ends as soon as it has found anything
PROGRAM = mlp(4, 10, 10, 1)
MANY = mlp(3, 6, 6, 1)  # many tasks, if each is short
CASES = {
    "rays": (MANY, WholeSpace(), {}),
    "rays in a box": (mlp(4, 8, 8, 1), Box(-1.0, 1.0), {}),
    "half-spaces": (mlp(3, 8, 8, 1), Box(-1.0, 1.0), {"method": "lp"}),
    "rays, later half-spaces": (mlp(4, 6, 6, 1), WholeSpace(), {"max_rays": 8}),
    "HiGHS": (mlp(2, 4, 4, 1), Polytope([[1.0, 1.0]], [1.0]), {"method": "lp", "solver": "HIGHS"}),
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_any_number_of_threads(case: tuple[ReLUProgram, Domain, dict[str, Any]], workers: int) -> None:
    program, domain, options = case
    expected = enumerate_regions(program, domain, **options, task_seconds=1e9)
    short = {"task_seconds": 0.02} if "solver" in options else SHORT
    assert_same(enumerate_regions(program, domain, **options, workers=workers, **short), expected)


@given(st.data())
@examples(30)
def test_any_way_to_cut_the_work_into_tasks(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    by_rays, max_rays = data.draw(st.sampled_from([(True, None), (True, 5), (False, None)]))
    problem = problem_of(program, domain, by_rays=by_rays, max_rays=max_rays)
    whole = Growth()
    whole.add(explore(packed(Enumeration(problem)), Task((ROOT,), (whole.path(ROOT),), Quota())).piece)

    growth, rng = Growth(), random.Random(data.draw(st.integers(0, 100)))
    while growth.open:
        starts = tuple(rng.sample(sorted(growth.open), rng.randint(1, min(3, len(growth.open)))))
        quota = Quota(cuts=rng.choice([1, 2, 7]), regions=rng.choice([None, 1, 3]))
        before = growth.explored
        growth.add(explore(packed(Enumeration(problem)), Task(starts, tuple(map(growth.path, starts)), quota)).piece)
        assert growth.explored >= before
    assert growth.explored == pytest.approx(1.0)

    found, expected = (each.finish(problem, domain) for each in (growth, whole))
    assert sorted(known_of(found)) == sorted(known_of(expected))
    assert found.method == expected.method


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def most_is_done_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little more than the way to the first region is done before others are asked, however fast the machine is."""
    monkeypatch.setattr(schedule, "FIRST_SECONDS", 0.0)


def at_the_third_piece(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something in mid-run: when a third piece arrives."""
    add, count = Growth.add, itertools.count(1)

    def added(growth: Growth, piece: Piece) -> Any:
        if next(count) == 3:
            act()
        return add(growth, piece)

    patch.setattr(Growth, "add", added)


@pytest.mark.parametrize(
    "case",
    [(MANY, WholeSpace(), {}), (mlp(5, 6, 6, 1), WholeSpace(), {"max_rays": 8})],
    ids=["rays", "both engines"],
)
@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_processes(processes: Executor, case: tuple[ReLUProgram, Domain, dict[str, Any]]) -> None:
    program, domain, options = case
    expected, counting = enumerate_regions(program, domain, **options), Counting(processes)
    assert_same(enumerate_regions(program, domain, **options, workers=counting, **SHORT), expected)
    assert counting.count > 4


@pytest.mark.filterwarnings("ignore::torch_shallow.errors.IncompleteWarning")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stopped_and_resumed(case: tuple[ReLUProgram, Domain, dict[str, Any]], workers: int) -> None:
    program, domain, options = case
    expected = enumerate_regions(program, domain, **options)
    known = set(known_of(expected))
    most = max(1, expected.num_regions // 4)
    part = enumerate_regions(program, domain, **options, max_regions=most, workers=workers)
    stops = 0
    while not part.complete:
        assert part.num_regions == most
        assert set(known_of(part)) < known
        assert part.num_cuts == part.num_regions + len(part.open_cells) - 1
        most, stops = most + max(1, expected.num_regions // 4), stops + 1
        part = resume(part, max_regions=most, workers=workers)
    assert stops >= 3
    assert_same(part, expected)


def test_a_time_limit(clock: Clock) -> None:
    with pytest.warns(IncompleteWarning, match=r"stopped by time_limit=50\.0 with [\d,]+ regions, .* % of the tree"):
        part = enumerate_regions(PROGRAM, WholeSpace(), time_limit=50.0)
    assert clock.now < 100.0
    assert part.num_regions >= 1
    assert not part.complete
    clock.tick = 1e-6
    assert_same(resume(part), enumerate_regions(PROGRAM, WholeSpace()))


def test_a_budget_that_is_not_reached_says_nothing() -> None:
    expected = enumerate_regions(PROGRAM, WholeSpace())
    assert_same(enumerate_regions(PROGRAM, WholeSpace(), max_regions=expected.num_regions, time_limit=1e6), expected)


@pytest.mark.usefixtures("most_is_done_elsewhere", "ctrl_c")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = enumerate_regions(MANY, WholeSpace())
    at_the_third_piece(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(IncompleteWarning, match="stopped by Ctrl-C"):
        part = enumerate_regions(MANY, WholeSpace(), workers=workers, **SHORT)
    assert not part.complete
    assert_same(resume(part), expected)


class OfThreads(ThreadPoolExecutor):
    """An executor whose tasks may fail."""

    def __init__(self, fails: Callable[[Task], bool], error: BaseException) -> None:
        super().__init__(2)
        self.fails, self.error = fails, error

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        def work() -> Any:
            result = function(*arguments, **options)
            if self.fails(arguments[-1]):
                raise self.error
            return result

        return super().submit(work)


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_tasks_that_fail_are_done_again(caplog: pytest.LogCaptureFixture) -> None:
    expected, failed = enumerate_regions(MANY, WholeSpace()), set()

    def fails_first(task: Task) -> bool:
        is_first = failed.isdisjoint(task.starts)
        failed.update(task.starts)
        return is_first

    with OfThreads(fails_first, OSError("worker died")) as executor:
        found = enumerate_regions(MANY, WholeSpace(), workers=executor, **SHORT)
    assert_same(found, expected)
    assert "a task has failed and is repeated: OSError: worker died" in caplog.text


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_tasks_that_always_fail_are_an_error() -> None:
    message = f"workers: a task has failed {ATTEMPTS} times, last with OSError: disk is gone"
    executor = OfThreads(lambda task: True, OSError("disk is gone"))
    with executor, pytest.raises(TransformError, match=message):
        enumerate_regions(MANY, WholeSpace(), workers=executor)


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_an_executor_that_breaks_down(caplog: pytest.LogCaptureFixture) -> None:
    count = itertools.count()
    with OfThreads(lambda task: next(count) >= 3, BrokenExecutor("a process died")) as executor:
        found = enumerate_regions(MANY, WholeSpace(), workers=executor, **SHORT)
    assert_same(found, enumerate_regions(MANY, WholeSpace()))
    assert "the executor has broken down and takes no more tasks (a process died)" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_a_process_that_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        counting = Counting(pool, 5, lambda: os.kill(next(iter(pool._processes)), signal.SIGKILL))
        found = enumerate_regions(MANY, WholeSpace(), workers=counting, **SHORT)
    assert "the executor has broken down" in caplog.text
    assert_same(found, enumerate_regions(MANY, WholeSpace()))


def test_the_first_region_comes_before_any_limit() -> None:
    # Each of its cells has more cuts above it than a breadth-first search would ever reach.
    program = mlp(60, 40, 20, 1)
    with pytest.warns(IncompleteWarning):
        part = enumerate_regions(program, Box(-1.0, 1.0), time_limit=1e-9, task_seconds=1e-9)
    assert part.num_regions >= 1


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_workers_that_are_told_to_exit_are_failures() -> None:
    for error in (SystemExit(3), KeyboardInterrupt()):
        executor = OfThreads(lambda task: True, error)
        with executor, pytest.raises(TransformError, match=f"failed {ATTEMPTS} times, .* {type(error).__name__}"):
            enumerate_regions(MANY, WholeSpace(), workers=executor)


def test_a_limit_does_not_wait_for_workers_that_are_busy(clock: Clock) -> None:
    busy = threading.Event()
    clock.tick = 0.02  # the tasks before the first that is handed on end at the first look

    def time_passes() -> None:
        clock.now += 2e6

    with ThreadPoolExecutor(1) as executor:
        work = executor.submit(busy.wait, 60.0)  # or who waits for it would hang
        with pytest.warns(IncompleteWarning, match="time_limit"):
            part = enumerate_regions(MANY, WholeSpace(), workers=Counting(executor, 1, time_passes), time_limit=1e6)
        assert not work.done()
        busy.set()
    assert_same(resume(part), enumerate_regions(MANY, WholeSpace()))


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_an_executor_that_is_shut_down_in_mid_run(caplog: pytest.LogCaptureFixture) -> None:
    executor = ThreadPoolExecutor(2)
    counting = Counting(executor, 5, lambda: executor.shutdown(wait=False, cancel_futures=True))
    expected = enumerate_regions(MANY, WholeSpace())
    assert_same(enumerate_regions(MANY, WholeSpace(), workers=counting, **SHORT), expected)
    assert "the executor has broken down" in caplog.text


@pytest.mark.usefixtures("most_is_done_elsewhere")
def test_an_executor_that_is_shut_down() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(TransformError, match="workers: expected an executor that takes tasks"):
        enumerate_regions(MANY, WholeSpace(), workers=executor)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", True),
        ("max_regions", 0),
        ("max_regions", True),
        ("time_limit", 0.0),
        ("time_limit", float("nan")),
        ("task_seconds", -1.0),
    ],
)
def test_arguments(name: str, value: object) -> None:
    with pytest.raises(TransformError, match=f"^{name}: expected a positive"):
        enumerate_regions(PROGRAM, WholeSpace(), **{name: value})


def test_a_path_of_another_network() -> None:
    problem = problem_of(PROGRAM, WholeSpace())
    growth = Growth()
    growth.add(explore(packed(Enumeration(problem)), Task((ROOT,), (growth.path(ROOT),), Quota(regions=1))).piece)
    code = max(growth.open, key=growth.open.__getitem__)
    path = growth.path(code)
    for wrong in (path + 2, np.append(path, 2 * np.arange(1000, dtype=np.int32))):
        with pytest.raises(TransformError, match="cut by other neurons"):
            explore(packed(Enumeration(problem)), Task((code,), (wrong,), Quota()))


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    expected = enumerate_regions(PROGRAM, WholeSpace())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's notebook bar, without widgets
        enumerate_regions(PROGRAM, WholeSpace(), progress=True, task_seconds=0.02)
    shown = capsys.readouterr().err
    assert "100.0 % explored |" in shown
    assert f"{expected.num_regions:,} regions" in shown.split("\r")[-1]


def test_logs_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    enumerate_regions(PROGRAM, WholeSpace(), workers=2)  # which says so if it has to be compiled
    caplog.clear()
    with caplog.at_level(logging.INFO):
        enumerate_regions(PROGRAM, WholeSpace(), workers=2)
    assert not [record for record in caplog.records if record.name.startswith("torch_shallow")]
