"""What the regions say: explanations that are exact for the network itself.

`function` reads what is explained, `features` names and un-scales its inputs. Then, each by itself: `locally` looks at
one input, `shapley` at its coalitions, `counterfactuals` and `radius` at what is near it, `segments` and
`integrated_gradients` at a straight line, `globally` at the whole domain, `difference` at two networks.

What results are made of: tensors in, tensors out. Whatever has an axis of a network's inputs, outputs, regions or
neurons is a tensor of float64 (or of whole numbers or truth values) on the network's device; what is like an input, as
a counterfactual and integrated gradients are, has the dtype and the device of the input. Only what speaks in the units
of `Features` is in NumPy, over the flattened input: `explain`, `rules`, and SHAP values, which are a
`shap.Explanation`. Tables are pandas DataFrames, the graph of regions is one of networkx, and single numbers are those
of Python.
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
