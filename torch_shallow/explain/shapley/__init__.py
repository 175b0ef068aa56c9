"""SHAP values of a whole network, exactly, and the shortcut by local linear models.

`source` finds what a function's games can be played on; `reduction` leaves the neurons that change sign between two
points; `parts` splits what is additive; `coalitions` looks at the rest; `game` puts these together, `solve` shares them
among threads.
"""

from torch_shallow.explain.shapley.local_linear import LocalLinearShap, local_linear_shap
from torch_shallow.explain.shapley.values import shap_values

__all__ = ["LocalLinearShap", "local_linear_shap", "shap_values"]
