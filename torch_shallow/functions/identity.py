"""Whether tensors that are to be loaded are those of this very network, or only have their shapes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-6  # relative: a state may have been float32 on its way


class Sketch:
    """A number for each row of a matrix, by which it is told from others; it stays when the matrix is overwritten.

    Args:
        rows: the matrix.
    """

    def __init__(self, rows: Float[np.ndarray, "rows columns"]) -> None:
        self._values = rows @ self._weights(rows.shape[1])
        self._shape = rows.shape

    def is_of(self, rows: object) -> bool:
        """Whether these may be the same rows, up to rounding; of other shapes, torch says that they do not fit."""
        if not isinstance(rows, Tensor) or rows.shape != self._shape or rows.is_meta:
            return True
        found = rows.detach().cpu().to(torch.float64).numpy()
        weights = self._weights(self._shape[1])
        return bool((np.abs(found @ weights - self._values) <= ROUNDING * (np.abs(found) @ np.abs(weights))).all())

    @staticmethod
    def _weights(columns: int) -> Float[np.ndarray, "columns"]:
        """No row of another network has the same number, but by an accident of probability zero."""
        return np.random.default_rng(0).uniform(1.0, 2.0, size=columns)


def differ(loaded: object, known: Tensor) -> bool:
    """Whether a tensor that is going to be loaded has other values than the one that is there, beyond rounding."""
    if not isinstance(loaded, Tensor) or loaded.shape != known.shape:
        return False  # not loaded at all
    if loaded.is_meta or known.is_meta:
        return not loaded.is_meta
    if not known.is_floating_point():
        return not torch.equal(loaded.to(known.device), known)
    return not torch.allclose(loaded.detach().to(known), known.detach(), rtol=ROUNDING, atol=0.0, equal_nan=True)
