"""How far the class of an input stays the same, exactly, of networks too large to find all regions of.

`first_change` finds a change by steps, `around_row` searches boxes for a nearer one, with `balls` as its questions and
`region_point` for the nearest point of a region.
"""

from torch_shallow.explain.radius.robustness_radius import RobustnessRadius, robustness_radius

__all__ = ["RobustnessRadius", "robustness_radius"]
