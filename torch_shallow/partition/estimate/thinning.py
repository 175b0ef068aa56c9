"""Some of many weighted things, at random, with new weights that stand for all."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def thin(
    weights: Float[np.ndarray, "all"], most: int, start: float
) -> tuple[Int[np.ndarray, "some"], Float[np.ndarray, "some"]]:
    """Choose `most` of some things, those of large weight with more probability.

    Each is kept with some probability `p` and then has weight `weight / p`, so on average none has changed. Large
    weights are kept as they are; all others become equal, for which `p` is proportional to the weight. The choice is
    systematic, as of every k-th thing: neighbours seldom come together, and the number kept is not random (Madow, "On
    the theory of systematic sampling, II", 1949).

    Args:
        weights: positive.
        most: how many to keep, at least 1.
        start: a random number, uniform between 0 and 1, which decides.

    Returns:
        Which are kept, in order, and their new weights.
    """
    if len(weights) <= most:
        return np.arange(len(weights)), weights
    falling = np.sort(weights)[::-1]
    rest = np.cumsum(falling[::-1])[::-1]  # what each and all smaller ones weigh together
    equal = rest[:most] / np.arange(most, 0, -1)  # the weight of all others if so many large ones are kept
    large = int(np.argmax(falling[:most] < equal)) if (falling[:most] < equal).any() else most - 1
    threshold = equal[large]
    ends = np.cumsum(np.minimum(1.0, weights / threshold))
    steps = np.floor(ends - start)
    kept = np.flatnonzero(np.diff(steps, prepend=np.floor(-start)) > 0.0)
    return kept, np.maximum(weights[kept], threshold)
