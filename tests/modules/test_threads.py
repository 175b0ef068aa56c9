"""Rows are divided among torch's threads, or new ones, with the same results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.modules.torch_networks import network, points, points_and_outsiders, shared
from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.team import share
from torch_shallow.functions.operators import threads
from torch_shallow.functions.operators.threads import (
    FEWEST_ROWS,
    ROWS_AT_ONCE,
    ROWS_IN_A_CALL,
    ROWS_OF_A_NEW_THREAD,
    TEAM,
    Share,
    share_rows,
)

ROWS = [0, 1, FEWEST_ROWS, FEWEST_ROWS + 1, ROWS_OF_A_NEW_THREAD + 1, 3 * ROWS_IN_A_CALL, 6 * ROWS_IN_A_CALL + 1]
of_torch = pytest.mark.skipif(not TEAM, reason="torch's threads cannot be called on this system")


@pytest.fixture(params=[pytest.param("torch", marks=of_torch), "new"])
def three_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, several_threads: None) -> str:
    """Three threads, of torch or new ones."""
    if request.param == "new":
        monkeypatch.setattr(threads, "TEAM", 0)
    return str(request.param)


@compiled()
def count_range(thread, start, stop, done):
    for row in range(start, stop):
        done[row] += 1


@compiled()
def count_rows(team, number, size, start, stop, done):
    share(team, number, size, start, stop, count_range, (done,))


@pytest.mark.parametrize("rows", ROWS)
def test_every_row_is_worked_on_once(three_threads: str, rows: int) -> None:
    done, parts = np.zeros(rows, dtype=np.int64), []

    def work(part: Share) -> None:
        parts.append(part)
        count_rows(*part, done)

    share_rows(rows, work)
    assert (done == 1).all()
    used = 3 if three_threads == "torch" and rows > FEWEST_ROWS else 1
    assert {part.threads for part in parts} <= {used}
    assert all(bool(part.team) == (used > 1) for part in parts)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the runtime of OpenMP has no such function")
def test_torch_with_openmp_has_threads_to_be_called() -> None:
    assert bool(TEAM) == torch.backends.openmp.is_available()


@of_torch
def test_the_number_of_threads_is_that_of_torch() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            share_rows(FEWEST_ROWS + 1, lambda part: found.append(part.threads))
    finally:
        torch.set_num_threads(before)
    assert found == [1, 2, 5]


def test_any_number_of_threads_computes_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    for name in ("descent in a box", "projected"):
        x = points_and_outsiders(name)
        x = x.repeat(1 + 3 * ROWS_AT_ONCE * 7 // len(x), *[1] * (x.dim() - 1))
        found = []
        try:
            for number, team in ((1, TEAM), (2, TEAM), (3, TEAM), (3, 0)):
                torch.set_num_threads(number)
                monkeypatch.setattr(threads, "TEAM", team)
                shallow, inputs = network(name), x.clone().requires_grad_()
                y = shallow(inputs)
                y.nan_to_num().sum().backward()
                assert inputs.grad is not None
                found.append((shallow(x), shallow.locate(x), y.detach(), inputs.grad))
        finally:
            torch.set_num_threads(before)
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                torch.testing.assert_close(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def test_several_threads_of_python_call_at_once(three_threads: str) -> None:
    name = "descent in a box"
    shallow, x = shared(name), points(name, 20_000)
    expected = shallow(x)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(shallow, [x] * 40):
            assert torch.equal(y, expected)


def test_an_error_is_raised(three_threads: str) -> None:
    begun = []

    def work(part: Share) -> None:
        begun.append(part.start)
        if part.start >= 3 * ROWS_OF_A_NEW_THREAD:
            raise ValueError("row")

    rows = 40 * ROWS_IN_A_CALL
    with pytest.raises(ValueError, match="row"):
        share_rows(rows, work)
    assert max(begun) < rows // 2
    done = np.zeros(10_000, dtype=np.int64)
    share_rows(len(done), lambda part: count_rows(*part, done))
    assert (done == 1).all()


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_ends_the_call(three_threads: str) -> None:
    rows, begun = 40 * ROWS_IN_A_CALL, []

    def work(part: Share) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            begun.append(part.start)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        share_rows(rows, work)
    assert len(begun) == 1
    done = np.zeros(10_000, dtype=np.int64)
    share_rows(len(done), lambda part: count_rows(*part, done))
    assert (done == 1).all()


def test_nothing_is_held_after_the_call(three_threads: str) -> None:
    x = torch.zeros(10 * ROWS_OF_A_NEW_THREAD, dtype=torch.int64)
    alive = weakref.ref(x)

    def call(x: Tensor) -> None:
        share_rows(len(x), lambda part: count_rows(*part, x.numpy()))
        assert bool((x == 1).all())

    call(x)
    del x
    assert alive() is None


def test_a_new_thread_that_comes_late_holds_nothing_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], object]] = []
    monkeypatch.setattr(threads, "start_new_thread", lambda function, _: late.append(function))
    monkeypatch.setattr(threads, "TEAM", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x = torch.zeros(3 * ROWS_OF_A_NEW_THREAD)
    alive = weakref.ref(x)

    def call(x: Tensor) -> None:
        share_rows(len(x), lambda part: x[part.start : part.stop].add_(1.0))
        assert bool((x == 1.0).all())

    call(x)
    del x
    assert len(late) == 2
    assert alive() is None
    for helper in late:
        helper()


def run(script: str) -> str:
    """Run a program in a new process, and return what it prints."""
    options = [sys.executable, "-X", "dev", "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(options, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@of_torch
def test_the_threads_are_those_of_torch() -> None:
    found = run(
        """
        import os
        import torch
        import torch_shallow
        from torch_shallow.functions.operators.threads import share_rows
        from tests.modules.test_threads import count_rows
        import numpy as np

        torch.set_num_threads(3)
        alone = len(os.listdir("/proc/self/task"))
        x = torch.rand(500_000)
        x.add_(x)
        of_torch = set(os.listdir("/proc/self/task"))
        done = np.zeros(100_000, dtype=np.int64)
        for _ in range(10):
            share_rows(len(done), lambda part: count_rows(*part, done))
        print((done == 10).all(), len(of_torch) - alone, set(os.listdir("/proc/self/task")) == of_torch)
        """
    )
    assert found == "True 2 True"


FORK = """
    import multiprocessing
    import os
    import signal
    import torch
    signal.alarm(100)  # ends the process
    parent = os.getpid()
    torch.set_num_threads(3)
    x = torch.rand(500_000)
    x.add_(x)  # begins torch's threads, which a forked process does not have
    {before}

    def evaluate(_=None):
        if os.getpid() != parent:
            signal.alarm(50)
        import numpy as np
        from torch_shallow.functions.operators.threads import share_rows
        from tests.modules.test_threads import count_rows
        done = np.zeros(100_000, dtype=np.int64)
        share_rows(len(done), lambda part: count_rows(*part, done))
        return bool((done == 1).all()) and torch.get_num_threads() == 3

    {first}
    child = os.fork()
    if not child:
        os._exit(0 if evaluate() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(all(pool.map(evaluate, range(4))))
    print(evaluate())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.parametrize(
    ("before", "first"),
    [("import torch_shallow.functions.operators.threads", "evaluate()"), ("", "")],
    ids=["used before", "imported after"],
)
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have(before: str, first: str) -> None:
    assert run(FORK.format(before=before, first=first)).split() == ["0", "True", "True"]


def test_a_process_may_end_while_another_thread_calls(three_threads: str) -> None:
    found = run(
        f"""
        import threading
        import torch
        from tests.modules.test_threads import count_rows
        from torch_shallow.functions.operators import threads
        import numpy as np

        torch.set_num_threads(3)
        threads.TEAM = threads.TEAM if {three_threads == "torch"} else 0
        begun = threading.Event()

        def call_on():
            while True:
                done = np.zeros(100_000, dtype=np.int64)
                threads.share_rows(len(done), lambda part: count_rows(*part, done))
                begun.set()

        threading.Thread(target=call_on, daemon=True).start()
        print(begun.wait(60))
        """
    )
    assert found == "True"


def test_calls_leave_no_threads_behind(three_threads: str) -> None:
    found = run(
        f"""
        import threading
        import numpy as np
        import psutil
        import torch
        from tests.modules.test_threads import count_rows
        from torch_shallow.functions.operators import threads

        torch.set_num_threads(2)
        threads.TEAM = threads.TEAM if {three_threads == "torch"} else 0
        done = np.zeros(2 * threads.ROWS_OF_A_NEW_THREAD, dtype=np.int64)

        def call():
            threads.share_rows(len(done), lambda part: count_rows(*part, done))

        for _ in range(100):
            call()
        before = psutil.Process().memory_info().rss
        for _ in range(500):
            call()
        grown = psutil.Process().memory_info().rss - before
        print((done == 600).all(), threading.active_count(), grown < 2_000_000)
        """
    )
    assert found == "True 1 True"
