"""How far the class of an input stays the same, exactly, of networks too large to find all regions of."""

from torch_shallow.explain.radius.robustness_radius import RobustnessRadius, robustness_radius

__all__ = ["RobustnessRadius", "robustness_radius"]
