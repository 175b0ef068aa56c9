"""Best point known so far."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.search.question import Posed


class Incumbent:
    """Best point of a question so far.

    Args:
        posed: The question.
        value: Value that a point must exceed.
    """

    def __init__(self, posed: Posed, value: float) -> None:
        self.posed, self.value = posed, value
        self.x: np.ndarray | None = None

    def offer(self, x: Float[Tensor, "points inputs"]) -> bool:
        """Take the best of the given points if it beats the incumbent; return whether it does."""
        points = x.cpu().numpy()
        values = self.posed.value(points)
        best = int(values.argmax())
        if not values[best] > self.value:
            return False
        self.value, self.x = float(values[best]), points[best].copy()
        return True
