"""A cell as one engine hands it to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.partition.chart import Chart


@dataclass(frozen=True)
class Cell:
    """A cell of the growing tree, given by half-spaces.

    Attributes:
        parent: code of its place in the tree, as in `Found`.
        depth: how many cuts there are above it.
        status: 1 for active neurons, 0 for inactive ones, -1 for those not decided yet.
        rows: the half-spaces on its path, `rows @ (v, t) >= 0` in chart coordinates, without those of the domain.
        point: an interior point, homogeneous.
    """

    parent: int
    depth: int
    status: Int8[np.ndarray, "neurons"]
    rows: Float[np.ndarray, "rows homogeneous"]
    point: Float[np.ndarray, "homogeneous"]


def whole_domain(chart: Chart, num_neurons: int) -> Cell:
    """The cell that every walk begins with."""
    status = np.full(num_neurons, -1, dtype=np.int8)
    return Cell(-1, 0, status, np.zeros((0, chart.num_coordinates + 1)), np.append(chart.inner, 1.0))
