"""One activation region, looked at."""

from torch_shallow.functions.half_spaces import RegionHalfSpaces
from torch_shallow.functions.region import Region, Regions
from torch_shallow.functions.visited_region import VisitedRegion

__all__ = ["Region", "RegionHalfSpaces", "Regions", "VisitedRegion"]
