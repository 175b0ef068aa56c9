"""The examples in docstrings and in the README run, and print what they say."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "torch_shallow").rglob("*.py"))
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
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", readme, flags=re.DOTALL)
    assert len(blocks) == readme.count("```python") > 0
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    for source, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "README.md", "exec"), names)
        assert_same_up_to_the_last_digit(printed.getvalue(), expected)


def assert_same_up_to_the_last_digit(found: str, expected: str) -> None:
    """The same words and whole numbers, and the same decimals up to one in the last digit, which rounding decides."""
    number = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
    assert number.sub("#", found) == number.sub("#", expected)
    for one, other in zip(number.findall(found), number.findall(expected), strict=True):
        mantissa, _, power = other.partition("e")
        last = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        assert abs(float(one) - float(other)) <= 1.5 * last, (one, other)
