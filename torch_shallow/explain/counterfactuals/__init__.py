"""Counterfactuals: the nearest input that reaches a class or an output value, with proof that nothing is nearer.

`nearest` is the entry point, and `polish` rounds its result safely; `constraints` and `targets` read the question.
`nearest_search` searches the regions of a shallow network, with the compiled modules `near_to_far` and
`geometry.nearest_point`, and `branch_and_bound` for integers; `deep_search` searches a deep network.
`one_feature` asks for each feature alone; `several` finds counterfactuals of several inputs, or several of each.
"""

from torch_shallow.explain.counterfactuals.nearest import counterfactual
from torch_shallow.explain.counterfactuals.one_feature import OneFeatureChanges, one_feature_changes
from torch_shallow.explain.counterfactuals.several import NearestCounterfactuals, nearest_counterfactuals
from torch_shallow.explain.counterfactuals.targets import Counterfactual
from torch_shallow.properties import AtLeast, AtMost, Between

__all__ = [
    "AtLeast",
    "AtMost",
    "Between",
    "Counterfactual",
    "NearestCounterfactuals",
    "OneFeatureChanges",
    "counterfactual",
    "nearest_counterfactuals",
    "one_feature_changes",
]
