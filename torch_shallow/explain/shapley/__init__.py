"""SHAP values of a whole network, exactly, and the shortcut by local linear models.

`solve` finds what a function's games can be played on, and shares them among threads; `reduction` leaves the neurons
that change sign between two points and splits what is additive; `coalitions` looks at the rest; `game` puts these
together. `images` turns explanations of images to how shap draws them.
"""

from torch_shallow.explain.shapley.images import channels_last
from torch_shallow.explain.shapley.values import LocalLinearShap, local_linear_shap, shap_values

__all__ = ["LocalLinearShap", "channels_last", "local_linear_shap", "shap_values"]
