"""Represent piecewise-affine functions whose regions are known, and views of single regions."""

from torch_shallow.functions.piecewise_affine import PiecewiseAffine, behind_head, require_all_regions
from torch_shallow.functions.region import Region, Regions
from torch_shallow.functions.shape import RegionHalfSpaces
from torch_shallow.functions.tree_function import TreeFunction
from torch_shallow.functions.visited_function import VisitedFunction
from torch_shallow.functions.visited_region import VisitedRegion

__all__ = [
    "PiecewiseAffine",
    "Region",
    "RegionHalfSpaces",
    "Regions",
    "TreeFunction",
    "VisitedFunction",
    "VisitedRegion",
    "behind_head",
    "require_all_regions",
]
