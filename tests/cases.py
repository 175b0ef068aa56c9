"""Numbers of cases tried for a law: all of them in the full run, a part in every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

THOROUGH = 100  # default number of examples


def thinned(cases: Iterable[Any], *kept: str) -> list[Any]:
    """Return all cases, marking those not named in `kept` to run only in the full test run; the law is the same.

    Raises:
        ValueError: No case has one of these names.
    """
    found = list(cases)
    if missing := set(kept) - {str(case) for case in found}:
        raise ValueError(f"kept: expected names of cases, found {sorted(missing)}.")
    return [case if str(case) in kept else pytest.param(case, marks=pytest.mark.slow) for case in found]


def examples(most: int) -> settings:
    """Run `most` examples in the thorough profile, and a proportionally smaller number in every run."""
    return settings(max_examples=max(3, most * settings().max_examples // THOROUGH))
