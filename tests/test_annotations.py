"""Shapes and types are what annotations say: a part of the tests again, with every call checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Most of the package takes part in these, in little time: every kind of layer, domain and engine, and explanations.
SOME = (
    "tests/test_fresh.py",
    "tests/explain/test_table.py",
    "tests/plot/test_segment.py",
    "tests/modules/test_files_hash.py",
    "tests/program/test_wrappers.py",
)


def test_calls_of_the_package_are_as_annotated(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--typecheck"):
        pytest.skip("every test is such a test in this run")
    command = [sys.executable, "-m", "pytest", "--typecheck", "-qq", "-m", "not slow", "-p", "no:cacheprovider", *SOME]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stdout + done.stderr
