"""A cell as one engine hands it to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8


@dataclass(frozen=True)
class Cell:
    """A cell of the growing tree, given by half-spaces.

    Attributes:
        parent: code of its place in the tree, as in `Growth.add`; -1 for the root.
        status: 1 for active neurons, 0 for inactive ones, -1 for those not decided yet.
        rows: the half-spaces on its path, `rows @ (v, t) >= 0` in chart coordinates, without those of the domain.
        point: an interior point, homogeneous.
    """

    parent: int
    status: Int8[np.ndarray, "neurons"]
    rows: Float[np.ndarray, "rows homogeneous"]
    point: Float[np.ndarray, "homogeneous"]
