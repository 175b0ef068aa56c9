"""`python -m torch_shallow compile`: everything is there afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torch_shallow.commands.parser import main

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_what_the_readme_shows_compiles_nothing_afterwards(tmp_path):
    assert "functions compiled in" in run(["-m", "torch_shallow", "compile"], tmp_path).stdout
    assert run(["-m", "torch_shallow", "compile"], tmp_path).stdout == "All code is already compiled.\n"
    shown = run(["-m", "benchmarks.first_use", "pages"], tmp_path)
    assert "compiles its inner loops" not in shown.stderr
    assert "compiles its inner loops" in run(["-m", "benchmarks.first_use", "pages"], tmp_path / "empty").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["enumerate"], "invalid choice: 'enumerate'"),
        (["compile", "--processes", "0"], "expected a positive whole number, found '0'"),
        (["compile", "--processes", "two"], "expected a positive whole number, found 'two'"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
