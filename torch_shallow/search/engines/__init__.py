"""The engines that walk cells: by rays (double description), and by half-spaces (linear programs)."""

from collections.abc import Callable

from torch_shallow.search.engines.ray_engine import RayWalk
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import Harvest


def engines(problem: Problem, harvest: Harvest) -> Callable[[], None]:
    """The engine to begin with: it walks what is below the path of the harvest."""
    by_half_spaces = SimplexWalk(problem, harvest).run
    return RayWalk(problem, harvest, by_half_spaces).run if problem.search.by_rays else by_half_spaces
