"""One activation region, looked at."""

from torch_shallow.region.half_spaces import RegionHalfSpaces
from torch_shallow.region.region import Region
from torch_shallow.region.sequence import Regions
from torch_shallow.region.visited import VisitedRegion

__all__ = ["Region", "RegionHalfSpaces", "Regions", "VisitedRegion"]
