"""Counterfactuals: the nearest input that reaches a class or an output value, and the proof that nothing is nearer.

`nearest` is the whole, and `polish` takes care of rounding; `constraints` and `targets` are what is asked;
`nearest_search` goes through the regions of a shallow network, with `near_to_far`, which is compiled, as is
`geometry.nearest_point`, and `branch_and_bound` for integers; `deep_search` searches a deep network;
`one_feature` asks for each feature alone, and `several` for counterfactuals of several inputs, or of one that differ.
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
