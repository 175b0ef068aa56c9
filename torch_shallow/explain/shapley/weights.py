"""Shapley weights of coalitions, of a whole game and of a part of one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.functions import compiled


@compiled()
def write_weights(
    joined: int,
    absent: int,
    players: int,
    on: Float[np.ndarray, "sizes"],
    off: Float[np.ndarray, "sizes"],
) -> None:
    """Write what the value of a coalition counts for those inside of it, and (negatively) for those outside.

    The game is one of `joined + absent + players` players in which only coalitions have a value that contain the first,
    none of the second, and any `t` of the third. With n players and s members these are (s - 1)! (n - s)! / n! and
    s! (n - s - 1)! / n!, for all s = joined + t; where nobody is inside or outside, 0.
    """
    n = joined + absent + players
    for t in range(players + 1):
        on[t] = off[t] = 0.0
    if n == 0:
        return
    first = 1 if joined == 0 else 0  # the least t with somebody inside
    if first <= players:
        s = joined + first
        weight = 1.0 / n
        for i in range(s - 1):  # 1 / (n binomial(n - 1, s - 1))
            weight *= (i + 1) / (n - 1 - i)
        for t in range(first, players + 1):
            on[t] = weight
            s = joined + t
            if s < n:
                weight *= s / (n - s)
    for t in range(players + 1):
        s = joined + t
        if s < n:  # what a player counts for who is about to join
            off[t] = on[t + 1] if t < players else on[t] * s / (n - s) if s > 0 else 1.0 / n
