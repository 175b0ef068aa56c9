"""What is enumerated, and how: all that a worker needs to know, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.packed_program import PackedProgram, pack
from torch_shallow.search.partition import Search


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


@dataclass(frozen=True)
class Problem:
    """A program on a domain, and how it is searched.

    Attributes:
        program: the network.
        chart: coordinates and domain.
        network: the balanced program packed in the coordinates of the chart; not packed again by a worker, whose linear
            algebra may round in another way.
        search: how cells are searched.
    """

    program: ReLUProgram
    chart: Chart
    network: PackedProgram
    search: Search

    @classmethod
    def of(cls, program: ReLUProgram, chart: Chart, search: Search) -> Problem:
        """Pack a program."""
        return cls(program, chart, pack(program.balanced, chart), search)
