"""Array shapes and types are checked on every call while testing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings

PACKAGE = Path(__file__).parents[1] / "torch_shallow"
COMPILED = re.compile(r"^@(compiled|njit|intrinsic)\b", flags=re.MULTILINE)


def annotated_modules() -> list[str]:
    """Modules whose annotations can be checked: all but those with compiled functions, which cannot be wrapped."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    annotated = [path for path in modules if not COMPILED.search(path.read_text(encoding="utf-8"))]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in annotated]


jaxtyping.install_import_hook(annotated_modules(), "beartype.beartype")

settings.register_profile("thorough", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@contextmanager
def unchecked() -> Iterator[None]:
    """Check no types and shapes meanwhile."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test that hands over wrong types meet the package's own errors."""
    with unchecked() if item.get_closest_marker("wrong_types") else nullcontext():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _proxies_are_no_tensors() -> Iterator[None]:
    """Check nothing while torch.fx traces: what it passes around stands for tensors, but has no shape."""
    trace = torch.fx.Tracer.trace

    def trace_unchecked(*args: Any, **kwargs: Any) -> torch.fx.Graph:
        with unchecked():
            return trace(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.fx.Tracer, "trace", trace_unchecked)
        yield
