"""SHAP values of a whole network, exactly, and the shortcut by local linear models.

`solve` chooses the program on which a function's games are played, and distributes them over threads; `reduction`
keeps only the neurons that change sign between two points and splits games that are additive; `coalitions` evaluates
the rest; `game` combines these. `images` converts explanations of images to the layout that shap draws.
"""

from torch_shallow.explain.shapley.images import channels_last
from torch_shallow.explain.shapley.values import LocalLinearShap, local_linear_shap, shap_values

__all__ = ["LocalLinearShap", "channels_last", "local_linear_shap", "shap_values"]
