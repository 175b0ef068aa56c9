"""Pictures of regions and functions, as exact as the regions.

They are drawn from `polygons`: a plane divided into the polygons of its regions and classes, without gaps.
"""

from torch_shallow.plot.adjacency import adjacency
from torch_shallow.plot.animate import animate
from torch_shallow.plot.coefficients import coefficients
from torch_shallow.plot.regions import polygons, regions, slice  # noqa: A004 (a word of this field)
from torch_shallow.plot.rule_tree import tree
from torch_shallow.plot.segment import segment
from torch_shallow.plot.surface import surface

__all__ = ["adjacency", "animate", "coefficients", "polygons", "regions", "segment", "slice", "surface", "tree"]
