"""How many cases of a law are tried: all of them in the run of all tests, some in every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

THOROUGH = 100  # examples, if a test does not say how many


def thinned(cases: Iterable[Any], *kept: str) -> list[Any]:
    """All cases, of which those named are in every run and the others only in that of all tests: the law is the same.

    Raises:
        ValueError: there is no case of a name.
    """
    found = list(cases)
    if missing := set(kept) - {str(case) for case in found}:
        raise ValueError(f"kept: expected names of cases, found {sorted(missing)}.")
    return [case if str(case) in kept else pytest.param(case, marks=pytest.mark.slow) for case in found]


def examples(most: int) -> settings:
    """So many examples in the thorough profile, and in that of every run as small a part of them as of others."""
    return settings(max_examples=max(3, most * settings().max_examples // THOROUGH))
