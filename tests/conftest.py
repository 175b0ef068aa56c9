"""Options and fixtures of the tests, and their clock.

The seed of fresh examples is in the header of every run; `--fresh-seed` with it repeats them.

With `--typecheck`, array shapes and types are checked on every call of a function of the package. That takes as long
as the tests themselves, so all tests run with it where there is time, and `test_annotations.py` runs some everywhere.
A test that passes wrong types on purpose, or traces a shallow network with torch.fx, whose proxies are not tensors,
sets `jaxtyping.config.jaxtyping_disable`.
"""

from __future__ import annotations

import gc
import os
import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

from tests.cases import THOROUGH
from tests.clock import Clock, replaced_clock

PACKAGE = Path(__file__).parents[1] / "torch_shallow"
COMPILED = re.compile(r"^(@(compiled|njit|intrinsic)\b|\w+ = compiled\()", flags=re.MULTILINE)

settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("repeatable")


def annotated_modules() -> list[str]:
    """Return the modules whose annotations can be checked: all except those with compiled functions."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    annotated = [path for path in modules if not COMPILED.search(path.read_text(encoding="utf-8"))]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in annotated]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--typecheck", action="store_true", help="check array shapes and types on every call")
    parser.addoption("--fresh-seed", type=int, help="of the networks of test_fresh.py; new in CI, and 0 elsewhere")


def pytest_configure(config: pytest.Config) -> None:
    # Processes share the cores, so one thread each; torch, numpy and subprocesses read it when imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if config.getoption("--fresh-seed") is None:  # and handed on to the workers of xdist
        config.option.fresh_seed = secrets.randbelow(2**32) if os.environ.get("CI") else 0
    if config.getoption("--typecheck"):
        jaxtyping.install_import_hook(annotated_modules(), "beartype.beartype")


def pytest_report_header(config: pytest.Config) -> str:
    return f"fresh examples: --fresh-seed={config.getoption('--fresh-seed')}"


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # imported objects stay: searching them again and again takes a twentieth of the time


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Start each test with the same random numbers, whether it runs alone or after others."""
    import torch  # late, since it reads the number of threads from the environment

    torch.manual_seed(0)


@pytest.fixture
def several_threads() -> Iterator[None]:
    """Let torch, and everything that follows its number of threads, use three, whatever the machine has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let time pass only when the package reads its clock."""
    return replaced_clock(monkeypatch)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Install Python's own handler of Ctrl-C, which background processes ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
