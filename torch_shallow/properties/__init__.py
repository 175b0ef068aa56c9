"""Define properties of networks: linear constraints on inputs and outputs, combined by `&`, `|` and `~`.

`linear` defines the constraints and `joined` their combinations. `formula` is the form to which all of them are
reduced, and `cases` splits a formula into cases. `monotone_property` concerns slopes. No part refers to a network.
"""

from torch_shallow.properties.joined import Property
from torch_shallow.properties.linear import AtLeast, AtMost, Between, Linear, Wins
from torch_shallow.properties.monotone_property import Monotone

__all__ = ["AtLeast", "AtMost", "Between", "Linear", "Monotone", "Property", "Wins"]
