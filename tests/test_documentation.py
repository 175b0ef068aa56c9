"""The examples in docstrings, in the README and on the pages of the site run, and print what they say."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torch_shallow.commands.parser import DONE, main

ROOT = Path(__file__).parents[1]
GENERATED = {"api", "copied", "reference"}  # folders of pages that are made when the site is built
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "torch_shallow").rglob("*.py"))
PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if "```python\n" in page.read_text(encoding="utf-8") and page.parent.name not in GENERATED
]
SLOW = {"guide/fine_tuning.md", "guide/readable.md", "recipes/images.md", "recipes/verification.md"}
BLOCK = re.compile(r"```(python|sh)\n(.*?)```\n(?:\n```text\n(.*?)```)?", flags=re.DOTALL)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def examples(path: Path) -> list[tuple[int, str]]:
    """Line and text of each docstring with an example."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    texts = [(getattr(node, "lineno", 1), ast.get_docstring(node) or "") for node in nodes]
    return [(line, text) for line, text in texts if ">>>" in text]


@pytest.mark.parametrize("path", [path for path in MODULES if examples(path)], ids=str)
def test_docstrings(path: Path) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    report: list[str] = []
    for line, text in examples(path):
        test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), f"{path}:{line}", str(path), line)
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_readme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "README.md")


def marked(page: Path) -> Any:
    name = page.relative_to(ROOT / "docs").as_posix()
    return pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch's exporter
@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_pages(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page)


def run_page(page: Path) -> None:
    """Run all blocks of Python, and those of the shell that are followed by an output, one after the other."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    found = BLOCK.findall(text)
    assert sum(language == "python" for language, _, _ in found) == text.count("```python\n") > 0
    for language, source, expected in found:
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(source, page.name, "exec"), names)
            assert_same_up_to_the_last_digit(printed.getvalue(), expected)
        elif expected:
            assert_same_up_to_the_last_digit("".join(shell(line) for line in source.splitlines()), expected)


def shell(line: str) -> str:
    """What a command prints; the package's own command is run in this process."""
    if line.startswith("cc ") and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    if line.startswith("torch-shallow "):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(shlex.split(line)[1:]) == DONE
        return printed.getvalue()
    line = line.replace("python -m", f"{sys.executable} -m")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, env=environment).stdout


def assert_same_up_to_the_last_digit(found: str, expected: str) -> None:
    """The same words and whole numbers, and the same decimals up to one in the last digit, which rounding decides."""
    number = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
    assert number.sub("#", found) == number.sub("#", expected)
    for one, other in zip(number.findall(found), number.findall(expected), strict=True):
        mantissa, _, power = other.partition("e")
        last = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        assert abs(float(one) - float(other)) <= 1.5 * last, (one, other)
