"""Explanations that are exact for the network itself, computed from its regions.

`function` reads the network to be explained, and `features` names and un-scales its inputs. The other modules answer
one kind of question each: `locally` about one input, `shapley` about coalitions of features, `counterfactuals` and
`radius` about the neighbourhood of an input, `segments` and `integrated_gradients` about a straight line, `globally`
about the whole domain, `difference` about two networks.

Results are tensors if the arguments are tensors. Anything with an axis of inputs, outputs, regions or neurons is a
tensor of float64, integers or booleans on the network's device; anything that resembles an input, such as a
counterfactual or integrated gradients, has the dtype and the device of the input. Only results in the units of
`Features` are NumPy arrays over the flattened input: those of `explain` and `rules`, and SHAP values, which are a
`shap.Explanation`. Tables are pandas DataFrames, the graph of regions is a networkx graph, and single numbers are
Python numbers.
"""

from torch_shallow.explain.adjacency import adjacency
from torch_shallow.explain.counterfactuals import (
    AtLeast,
    AtMost,
    Between,
    Counterfactual,
    NearestCounterfactuals,
    OneFeatureChanges,
    counterfactual,
    nearest_counterfactuals,
    one_feature_changes,
)
from torch_shallow.explain.difference import Difference, difference
from torch_shallow.explain.features import Features
from torch_shallow.explain.globally import (
    Counterexample,
    LipschitzConstant,
    Moments,
    Monotonicity,
    NeuronActivity,
    OutputRange,
    UnusedFeatures,
    Volumes,
    lipschitz_constant,
    moments,
    monotonicity,
    neuron_activity,
    output_range,
    unused_features,
    volumes,
)
from torch_shallow.explain.integrated_gradients import integrated_gradients
from torch_shallow.explain.locally.explanation import Explanation, explain
from torch_shallow.explain.locally.rule_set import RuleSet, rules
from torch_shallow.explain.locally.rules import Rules
from torch_shallow.explain.radius import RobustnessRadius, robustness_radius
from torch_shallow.explain.same_class import SameClass
from torch_shallow.explain.segments.segment import Segment, segment
from torch_shallow.explain.shapley import LocalLinearShap, channels_last, local_linear_shap, shap_values
from torch_shallow.explain.table import region_table

__all__ = [
    "AtLeast",
    "AtMost",
    "Between",
    "Counterexample",
    "Counterfactual",
    "Difference",
    "Explanation",
    "Features",
    "LipschitzConstant",
    "LocalLinearShap",
    "Moments",
    "Monotonicity",
    "NearestCounterfactuals",
    "NeuronActivity",
    "OneFeatureChanges",
    "OutputRange",
    "RobustnessRadius",
    "RuleSet",
    "Rules",
    "SameClass",
    "Segment",
    "UnusedFeatures",
    "Volumes",
    "adjacency",
    "channels_last",
    "counterfactual",
    "difference",
    "explain",
    "integrated_gradients",
    "lipschitz_constant",
    "local_linear_shap",
    "moments",
    "monotonicity",
    "nearest_counterfactuals",
    "neuron_activity",
    "one_feature_changes",
    "output_range",
    "region_table",
    "robustness_radius",
    "rules",
    "segment",
    "shap_values",
    "unused_features",
    "volumes",
]
