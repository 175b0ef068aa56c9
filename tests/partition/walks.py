"""One engine on its own, to its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torch_shallow.domain import Domain
from torch_shallow.partition.chart import make_chart
from torch_shallow.partition.growth import ROOT, Growth
from torch_shallow.partition.harvest import Harvest, Quota
from torch_shallow.partition.partition import Partition
from torch_shallow.partition.problem import Problem
from torch_shallow.partition.search import Search
from torch_shallow.trace.program import ReLUProgram


def problem_of(program: ReLUProgram, domain: Domain, **search: object) -> Problem:
    return Problem.of(program, make_chart(program, domain), Search(**search))


def walked(problem: Problem, domain: Domain, walk: Callable[[Harvest], None]) -> Partition:
    """What a walk of the whole domain gives to a harvest."""
    harvest, growth = Harvest(Quota()), Growth()
    walk(harvest)
    growth.add(harvest.piece(np.array([ROOT])))
    return growth.finish(problem, domain)
