"""The engines that find all regions, and those that answer questions.

All regions are found by rays (`ray_engine`) and by half-spaces (`simplex_engine`), and below cells that float64 cannot
cut in exact arithmetic (`exact_walk`). A question is answered by cells as
vertices (`bounded_ray_engine`), by linear programs of cells (`relaxation_engine`), or by backward bounds of many cells
at once (`backward_engine`).
"""

from collections.abc import Callable

from torch_shallow.search.engines.ray_engine import RayWalk
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import Harvest


def engines(problem: Problem, harvest: Harvest) -> Callable[[], None]:
    """The engine to begin with: it walks what is below the path of the harvest."""
    by_half_spaces = SimplexWalk(problem, harvest).run
    return RayWalk(problem, harvest, by_half_spaces).run if problem.search.by_rays else by_half_spaces
