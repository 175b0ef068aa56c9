"""Array shapes and types are checked on every call while testing.

A test that hands over wrong types on purpose, or traces a shallow network with torch.fx, whose proxies are no tensors,
sets `jaxtyping.config.jaxtyping_disable`.
"""

from __future__ import annotations

import re
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

PACKAGE = Path(__file__).parents[1] / "torch_shallow"
COMPILED = re.compile(r"^@(compiled|njit|intrinsic)\b", flags=re.MULTILINE)


def annotated_modules() -> list[str]:
    """Modules whose annotations can be checked: all but those with compiled functions, which cannot be wrapped."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    annotated = [path for path in modules if not COMPILED.search(path.read_text(encoding="utf-8"))]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in annotated]


jaxtyping.install_import_hook(annotated_modules(), "beartype.beartype")

from tests.clock import Clock, replace_clock  # noqa: E402  # imports the package, whose modules are to be checked

settings.register_profile("thorough", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes only when the package looks at its clock."""
    return replace_clock(monkeypatch)
