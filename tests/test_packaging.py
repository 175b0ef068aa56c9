"""What is said of the package in several places is the same: its version, its extras and what they install."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from torch_shallow.version import VERSION

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    extra: set(re.findall(r"^[\w-]+", "\n".join(names), re.M))
    for extra, names in PROJECT["optional-dependencies"].items()
}
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *(ROOT / "docs").rglob("*.md")]


def required() -> list[tuple[str, str, str]]:
    """File, package and extra of each call of `require`, and of each message that says how to install an extra."""
    found = []
    for path in (ROOT / "torch_shallow").rglob("*.py"):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                package, extra = (ast.literal_eval(argument) for argument in node.args)
                found.append((name, package.split(".")[0], extra))
        found += [(name, package, extra) for package, extra in re.findall(r"(\w+) is needed .*\[(\w+)\]", text)]
    return found


def test_the_version_is_the_same_everywhere() -> None:
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert citation is not None
    assert [PROJECT["version"], citation[1], released[0]] == [VERSION] * 3


def test_a_message_names_an_extra_that_installs_the_package() -> None:
    calls = required()
    assert {extra for _, _, extra in calls} == {"explain", "onnx", "plot"}
    assert [call for call in calls if call[1] not in EXTRAS[call[2]]] == []


def test_pictures_name_their_own_extra() -> None:
    assert {extra for path, _, extra in required() if path.startswith("torch_shallow/plot/")} == {"plot"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_install_extras_that_exist_from_a_clone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    installed = re.findall(r"pip install (?:-\S+ )*([^\s`]*)\[([\w,]+)\]", text)
    assert {extra for _, extras in installed for extra in extras.split(",")} <= set(EXTRAS)
    assert {source for source, _ in installed} <= {"'."}, "the package is on no index: install it from a clone"


def test_what_an_index_shows_has_no_link_that_needs_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}
    monkeypatch.setattr(pytest.importorskip("setuptools"), "setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    readme, shown = (ROOT / "README.md").read_text(encoding="utf-8"), given["long_description"]
    assert re.findall(r"\]\((?!https?://)[^)]*\)|<img|:\n\n\*", shown) == []
    assert re.findall(r"\]\(https?://[^)]*\)", shown) == re.findall(r"\]\(https?://[^)]*\)", readme) != []
    assert re.findall(r"```\w+\n.*?```", shown, re.S) == re.findall(r"```\w+\n.*?```", readme, re.S)
