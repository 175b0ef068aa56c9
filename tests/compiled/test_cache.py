"""What is compiled is kept for as long as it is what the code says, and is found by others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.compiled.counted import compilations, first_use, forget_what_is_on_disk
from torch_shallow.compiled.decorator import Announcement, compiled
from torch_shallow.compiled.machine_code import closure, key

ROOT = Path(__file__).parents[2]
SOURCE = """
LIMIT = 3


@compiled()
def below(x):
    return x + LIMIT


@compiled()
def entry(x):
    return below(x) * 2.0
"""


def key_of(source: str) -> str:
    """The key of `entry`."""
    names = {"compiled": compiled, "__name__": __name__}
    exec(compile(source, __file__, "exec"), names)
    return key(closure(names["entry"]))


@pytest.mark.parametrize(
    ("old", "new"),
    [("* 2.0", "* 3.0"), ("x + LIMIT", "x - LIMIT"), ("LIMIT = 3", "LIMIT = 4"), ("@compiled()", "@compiled('nsz')")],
    ids=["the function", "one below", "a constant", "a flag"],
)
def test_the_key_changes_with_what_is_compiled(old, new):
    assert key_of(SOURCE) != key_of(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n\n\n", "\n\n\n\n\n"), ("def entry(x):", "def entry(x):  # a comment"), ("LIMIT = 3", "LIMIT = 3\nOTHER = 4")],
    ids=["lines move", "a comment", "what is not read"],
)
def test_the_key_stays_where_nothing_compiled_changes(old, new):
    assert key_of(SOURCE) == key_of(SOURCE.replace(old, new))


def test_the_closure_is_all_that_is_called():
    from torch_shallow.search.order_cuts import order_cuts

    names = {part.py_func.__name__ for part in closure(order_cuts)}
    assert names == {"order_cuts", "is_leaf", "most_even", "fewest_kinds", "divide"}


def compiled_in(folder: Path, cache: Path) -> int:
    """How many functions a new process compiles with the package in a folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(folder)}
    command = "from tests.compiled.counted import first_use; import sys; sys.stdout.write(str(first_use()))"
    ran = subprocess.run(
        [sys.executable, "-c", command], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_edits_of_files_compile_nothing_unless_compiled_code_changes(tmp_path):
    folder, cache = tmp_path / "clone", tmp_path / "cache"
    shutil.copytree(ROOT / "torch_shallow", folder / "torch_shallow", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "compiled", folder / "tests" / "compiled")
    compose_maps = folder / "torch_shallow" / "search" / "compose_maps.py"

    def edit(file: Path, change: Callable[[str], str]) -> None:
        file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")

    assert compiled_in(folder, cache) > 0
    edit(folder / "torch_shallow" / "errors.py", lambda text: text + "\n# one more line\n")
    edit(folder / "torch_shallow" / "search" / "problem.py", lambda text: "# one more line\n" + text)
    edit(compose_maps, lambda text: "# one more line\n" + text)
    assert compiled_in(folder, cache) == 0
    edit(compose_maps, lambda text: text.replace("below = children[cut]", "below = children[cut + 0]"))
    assert compiled_in(folder, cache) > 0


def test_a_worker_process_finds_it():
    first_use()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(first_use).result() == 0


def test_the_log_says_it_once(caplog):
    announcement = Announcement()
    with caplog.at_level(logging.WARNING, logger="torch_shallow"):
        announcement.end()  # nothing has begun
        for _ in range(3):
            announcement.begin("walk", 20)
            announcement.end()
            announcement.end()
    (line,) = caplog.messages
    assert "`python -m torch_shallow compile`" in line


def test_an_error_while_compiling_leaves_nothing_behind():
    @compiled()
    def wrong(x):
        return x.nothing_of_this_name

    for _ in range(2):
        with pytest.raises(Exception, match="nothing_of_this_name"):
            wrong(np.zeros(2))


def test_threads_that_need_the_same_function_compile_it_once(monkeypatch, tmp_path):
    forget_what_is_on_disk(monkeypatch, tmp_path)

    @compiled()
    def entry(x):
        return x + 1

    with compilations() as count, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(entry, range(50))) == list(range(1, 51))
    assert count.functions == 2  # what Python calls, and the function itself
