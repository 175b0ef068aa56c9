"""Robustness radius of an input: the exact distance up to which its class stays the same, for networks of any size."""

from torch_shallow.explain.radius.robustness_radius import RobustnessRadius, robustness_radius

__all__ = ["RobustnessRadius", "robustness_radius"]
