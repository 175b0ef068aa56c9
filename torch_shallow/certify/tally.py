"""Collecting the failures of a check."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from torch_shallow.certify.report import KEPT_FAILURES, Failure


class Tally:
    """Failures, counted; only the first ones are described."""

    def __init__(self) -> None:
        self.kept: list[Failure] = []
        self.count = 0

    def add(self, failure: Failure) -> None:
        """Note one failure."""
        self.add_all(np.ones(1, dtype=bool), lambda _: failure)

    def add_all(self, failed: Bool[np.ndarray, "places"], describe: Callable[[int], Failure]) -> None:
        """Note those of many places that failed; `describe` is called with the number of a place."""
        places = np.flatnonzero(failed)
        self.count += len(places)
        self.kept += [describe(int(place)) for place in places[: KEPT_FAILURES - len(self.kept)]]
