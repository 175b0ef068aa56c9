"""SHAP values of a whole network, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features
from torch_shallow.explain.function import read_function
from torch_shallow.explain.optional import require
from torch_shallow.explain.shapley.explanation import explanation, read_points
from torch_shallow.modes import outside_modes
from torch_shallow.shallow.points import check_floating

if TYPE_CHECKING:
    import shap

MOST_PLAYERS = 40


@outside_modes
@torch.no_grad()
def shap_values(
    f: object,
    x: Tensor,
    background: Tensor,
    *,
    features: Features | Sequence[str] | None = None,
    max_players: int = 20,
    tolerance: float = 1e-9,
    progress: bool = False,
) -> shap.Explanation:
    """Shapley values of the features of some inputs, exactly, for the whole network.

    The value of a coalition S of features is the mean, over the rows b of the background, of the network's output at
    the input that has the features of S from x and the others from b: baseline Shapley values if the background is one
    row, interventional ones if it is several (Lundberg & Lee, "A unified approach to interpreting model predictions",
    2017; Sundararajan & Najmi, "The many Shapley values for model explanation", 2020). Nothing is sampled.

    Not all coalitions of all features are looked at: for each pair of x and b, features that do not differ play no
    part; neurons that keep their sign on the box between x and b are linear, and features that reach no other ones have
    a closed form; features that reach no neuron in common are looked at apart; and where many do, the game is split
    into halves, in each of which more neurons keep their sign.

    Args:
        f: an `nn.Module` or an exported program, of any size; a `ShallowReLU`; or `shallow.trunk` of one with a head.
        x: floating point, of shape `(rows, *in_shape)`.
        background: floating point, of shape `(others, *in_shape)`; all of it is used.
        features: names, or `Features` with the scaling of the inputs; then `display_data`, which shap's plots show,
            has values in the units before scaling.
        max_players: games between a row of x and one of the background are given up that take more evaluations than
            twice those of all coalitions of so many features: some hundredths of a second for 20, in a small network.
        tolerance: how much values may miss the difference of outputs that they explain, relative to the sizes of the
            outputs and values. Each value is exact up to the rounding of float64, relative to the largest terms in the
            network between x and the background: an entry of 1e9 in either that stands for a missing value costs 1e-7.
        progress: show a bar.

    Returns:
        What `shap.ExactExplainer` gives for the same background: `values` of shape `(rows, *in_shape, *out_shape)`
        (of one output without `out_shape`; of in_shape () with one feature), `base_values` of shape
        `(rows, *out_shape)` likewise, and `data`; all of them float64.

    Raises:
        TransformError: `f` cannot be explained exactly, an argument is no batch of inputs, a coalition lies where the
            network is not known, a game takes too many evaluations, or values miss what they explain.
        ImportError: shap is not installed.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x, background = torch.randn(2, 3), torch.randn(100, 3)
        >>> found = shap_values(model, x, background, features=["age", "income", "debt"])
        >>> found.values.shape, found.base_values.shape
        ((2, 3), (2,))
        >>> difference = model(x) - model(background).mean()
        >>> torch.allclose(torch.tensor(found.values).sum(1).float(), difference[:, 0], atol=1e-5)
        True
    """
    # Imported here because numba takes a while.
    from torch_shallow.explain.shapley.solve import solve

    require("shap", "explain")
    if not (isinstance(max_players, int) and 1 <= max_players <= MOST_PLAYERS):
        raise TransformError(f"max_players: expected a whole number from 1 to {MOST_PLAYERS}, found {max_players!r}.")
    check_floating("x", x)
    function = read_function(f, x)
    points, others = read_points(function, x, background)
    at_x, base = function(points).cpu().numpy(), function(others).cpu().numpy()
    values = solve(function, points, others, max_players, progress=progress)
    _check_additivity(values, at_x, base, tolerance)
    return explanation(function, points, values, np.tile(base.mean(axis=0), (len(points), 1)), features)


def _check_additivity(
    values: Float[np.ndarray, "rows inputs outputs"],
    at_x: Float[np.ndarray, "rows outputs"],
    base: Float[np.ndarray, "others outputs"],
    tolerance: float,
) -> None:
    residual = np.abs(values.sum(axis=1) - (at_x - base.mean(axis=0)))
    size = np.abs(values).sum(axis=1) + np.abs(at_x) + np.abs(base).mean(axis=0)
    wrong = ~(residual <= tolerance * size)
    if wrong.any():
        row, output = (int(i) for i in np.argwhere(wrong)[0])
        raise TransformError(
            f"shap_values: the values of row {row} for output {output} miss the difference that they explain by "
            f"{residual[row, output]:.1e} (sizes of {size[row, output]:.1e}); terms much larger than the output cancel "
            f"in the network. Scale its inputs, or pass a larger tolerance than {tolerance:.0e}."
        )
