"""A tree of cuts that were chosen freely, by no neuron of a deep network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.domain import Domain
from torch_shallow.partition.chart import Chart
from torch_shallow.partition.tree import Tree


@dataclass(frozen=True, kw_only=True)
class FreeTree(Tree):
    """A tree of cuts without a deep network behind them, such as those of a network whose half-spaces were trained.

    Attributes:
        in_shape: shape of one input.
        out_shape: shape of one output of the trunk.
        domain: see `Tree`, as for `chart`, `children` and `points`.
        chart: see `Tree`.
        children: see `Tree`.
        points: see `Tree`.
    """

    in_shape: tuple[int, ...] = ()  # without a default, the property of `Tree` would be one
    out_shape: tuple[int, ...] = ()
    domain: Domain
    chart: Chart
    children: Int[np.ndarray, "cuts 2"]
    points: Float[np.ndarray, "regions coordinates"]

    @property
    def kind(self) -> str:
        """What the regions are, in words."""
        return "regions"

    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """No neuron, -1, for each of some cuts."""
        return np.full(len(cuts), -1)

    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Sides of cuts in words, such as `"cut 3 positive"`."""
        return [f"cut {cut} {'positive' if side else 'negative'}" for cut, side in steps]
