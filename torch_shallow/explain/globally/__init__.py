"""Facts about a network on its whole domain, from all of its regions, and for some of them by a search instead.

`in_chart` is the function in chart coordinates, `cell_cones` computes the vertices and rays of every region,
`cell_programs` solves linear programs over many regions and `over_cell` over one; each of the other modules is about
one kind of facts. All are about the trunk.
"""

from torch_shallow.explain.globally.activity import NeuronActivity, neuron_activity
from torch_shallow.explain.globally.integrals import Moments, Volumes, moments, volumes
from torch_shallow.explain.globally.lipschitz import LipschitzConstant, lipschitz_constant
from torch_shallow.explain.globally.monotone import Counterexample, Monotonicity, monotonicity
from torch_shallow.explain.globally.output_range import output_range
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.explain.globally.usage import UnusedFeatures, unused_features

__all__ = [
    "Counterexample",
    "LipschitzConstant",
    "Moments",
    "Monotonicity",
    "NeuronActivity",
    "OutputRange",
    "UnusedFeatures",
    "Volumes",
    "lipschitz_constant",
    "moments",
    "monotonicity",
    "neuron_activity",
    "output_range",
    "unused_features",
    "volumes",
]
