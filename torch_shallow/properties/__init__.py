"""What may be asked of a network: linear constraints on inputs and outputs joined by `&`, `|` and `~`.

`linear` has the constraints and `joined` what joins them; `formula` is what all of them are read as, and `cases` takes
a formula apart; `monotone_property` is about slopes. No part knows a network.
"""

from torch_shallow.properties.joined import Property
from torch_shallow.properties.linear import AtLeast, AtMost, Between, Linear, Wins
from torch_shallow.properties.monotone_property import Monotone

__all__ = ["AtLeast", "AtMost", "Between", "Linear", "Monotone", "Property", "Wins"]
