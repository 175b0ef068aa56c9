"""Counterfactuals: the nearest input that reaches a class or an output value, and the proof that nothing is nearer.

`counterfactual` is the whole; `problem` and `targets` are what is asked; `search` goes through the regions with `walk`,
which is compiled, as are the programs `quadratic` and `linear`; `integers` branches; `polish` takes care of rounding.
"""

from torch_shallow.explain.counterfactuals.nearest import counterfactual
from torch_shallow.explain.counterfactuals.targets import AtLeast, AtMost, Between, Counterfactual

__all__ = ["AtLeast", "AtMost", "Between", "Counterfactual", "counterfactual"]
