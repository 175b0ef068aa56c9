"""What the regions say: explanations that are exact for the network itself.

`function` reads what is explained, `features` names and un-scales its inputs.
"""

from torch_shallow.explain.adjacency import adjacency
from torch_shallow.explain.features import Features
from torch_shallow.explain.integrated_gradients import integrated_gradients
from torch_shallow.explain.local.explanation import Explanation, explain
from torch_shallow.explain.local.rules import Rules, rules
from torch_shallow.explain.segments.segment import Segment, segment
from torch_shallow.explain.table import region_table

__all__ = [
    "Explanation",
    "Features",
    "Rules",
    "Segment",
    "adjacency",
    "explain",
    "integrated_gradients",
    "region_table",
    "rules",
    "segment",
]
