"""Targets for outputs, as inequalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class TargetRows:
    """A target as inequalities `rows @ output + offsets <= 0`.

    Attributes:
        rows: coefficients of the flattened output.
        offsets: constant terms.
    """

    rows: Float[np.ndarray, "goals outputs"]
    offsets: Float[np.ndarray, "goals"]

    def excess(self, output: Float[np.ndarray, "outputs"]) -> float:
        """By how much an output misses the target; 0 or less where it reaches it."""
        return float((self.rows @ output + self.offsets).max())


def class_change(label: int, other: int, outputs: int) -> TargetRows:
    """Target that another output is at least that of a class."""
    row = np.zeros((1, outputs))
    row[0, label], row[0, other] = 1.0, -1.0
    return TargetRows(row, np.zeros(1))
