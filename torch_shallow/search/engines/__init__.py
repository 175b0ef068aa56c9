"""Engines that enumerate all regions, and engines that answer questions.

Regions are enumerated by rays (`ray_engine`) or by half-spaces (`simplex_engine`), and in exact arithmetic
(`exact_walk`) below cells that float64 cannot cut. A question is answered over cells given by vertices
(`bounded_ray_engine`), by the linear programs of cells (`relaxation_engine`), or by backward bounds of many cells at
once (`backward_engine`).
"""

from collections.abc import Callable
from functools import cache

from torch_shallow.search.engines.ray_engine import RayWalk
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import Harvest


def engines(problem: Problem, harvest: Harvest) -> Callable[[], None]:
    """Return the engine to start with; it walks everything below the path of the harvest."""
    by_half_spaces = cache(lambda: SimplexWalk(problem, harvest))  # takes as long as a short walk by rays
    if not problem.search.by_rays:
        return by_half_spaces().run
    return RayWalk(problem, harvest, lambda cell: by_half_spaces().run(cell)).run
