"""What is enumerated, and how: all that a worker needs to know, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass

from torch_shallow.partition.chart import Chart
from torch_shallow.partition.network import Network, pack
from torch_shallow.partition.search import Search
from torch_shallow.trace.program import ReLUProgram


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
    network: Network
    search: Search

    @classmethod
    def of(cls, program: ReLUProgram, chart: Chart, search: Search) -> Problem:
        """Pack a program."""
        return cls(program, chart, pack(program.balanced, chart), search)
