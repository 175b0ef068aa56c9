"""The best point that is known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.search.question import Posed


class Incumbent:
    """The best point of a question so far.

    Args:
        posed: the question.
        value: what a point must exceed.
    """

    def __init__(self, posed: Posed, value: float) -> None:
        self.posed, self.value = posed, value
        self.x: np.ndarray | None = None

    def offer(self, x: Float[Tensor, "points inputs"]) -> bool:
        """Take the best of some points, if it is better than what was known."""
        points = x.cpu().numpy()
        values = self.posed.value(points)
        best = int(values.argmax())
        if not values[best] > self.value:
            return False
        self.value, self.x = float(values[best]), points[best].copy()
        return True
