"""Colours that colour-blind people can tell apart."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# Paul Tol's "light" scheme for areas, and his "bright" and "muted" ones for classes (sronpersonalpages.nl/~pault).
AREAS = ("#77AADD", "#EEDD88", "#99DDFF", "#FFAABB", "#BBCC33", "#EE8866", "#44BB99", "#DDDDDD")
BRIGHT = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
MUTED = ("#332288", "#CC6677", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777")
BLANK, LINE = "#FFFFFF", "#222222"


def class_colours(count: int) -> Sequence[tuple[float, float, float, float]]:
    """So many colours for classes."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    if count <= len(MUTED):
        return [to_rgba(colour) for colour in (BRIGHT if count <= len(BRIGHT) else MUTED)[:count]]
    return [colormaps["viridis"](share) for share in np.linspace(0.0, 1.0, count)]


def pale(colours: Iterable[Any], share: float = 0.5) -> Float[np.ndarray, "colours 4"]:
    """Colours mixed with white, so that there is no need for transparency, which shows where polygons touch."""
    from matplotlib.colors import to_rgba_array

    rgba = to_rgba_array(list(colours))
    rgba[:, :3] = share * rgba[:, :3] + (1.0 - share)
    return rgba


def distinct(count: int, pairs: Int[np.ndarray, "pairs 2"]) -> Int[np.ndarray, "items"]:
    """A small number for each item, so that items that make a pair have different ones: six are enough in a plane.

    The item with the fewest neighbours is taken away first and numbered last (Matula & Beck 1983).

    Args:
        count: number of items.
        pairs: which items are neighbours.
    """
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs.tolist():
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    degree = [len(some) for some in neighbours]
    queue, order, taken = [(d, item) for item, d in enumerate(degree)], [], [False] * count
    heapq.heapify(queue)
    while queue:
        d, item = heapq.heappop(queue)
        if taken[item] or d != degree[item]:
            continue
        taken[item] = True
        order.append(item)
        for other in neighbours[item]:
            if not taken[other]:
                degree[other] -= 1
                heapq.heappush(queue, (degree[other], other))
    numbers = np.full(count, -1)
    for item in reversed(order):
        used = {int(numbers[other]) for other in neighbours[item]}
        numbers[item] = next(k for k in range(count) if k not in used)
    return numbers
