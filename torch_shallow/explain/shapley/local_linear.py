"""The shortcut by local linear models, with a certificate of where it gives SHAP values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.explain.features import Features
from torch_shallow.explain.function import Function, read_function
from torch_shallow.explain.shapley.values import explanation, read_points
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.deep_function import DeepFunction, local_maps, neuron_maps
from torch_shallow.functions.points import check_floating
from torch_shallow.functions.shape import region_half_spaces
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require

if TYPE_CHECKING:
    import shap

ROUNDING = 1e-15  # of a maximum over a box, relative to the sizes of its terms; later layers may make much of it
INSIDE = 1e-12  # how far inside of a region, likewise, one is if points of its boundary may belong to another one


@dataclass(frozen=True, eq=False)
class LocalLinearShap:
    """SHAP values of the affine map of each input's region, in place of the network.

    Attributes:
        explanation: values, base values (the affine map at the mean of the background) and data.
        equals_shap: for each row, whether it is proven that these are the SHAP values of the network itself, as
            `shap_values` gives them. Where it is False nothing is proven, and in general they differ.
    """

    explanation: shap.Explanation
    equals_shap: Bool[np.ndarray, "rows"]


@outside_modes
@torch.no_grad()
def local_linear_shap(
    f: object,
    x: Tensor,
    background: Tensor,
    *,
    features: Features | Sequence[str] | None = None,
) -> LocalLinearShap:
    """Local slope times distance from the mean, `alpha_i (x_i - E x_i)`, and where this equals SHAP.

    This is the shortcut of Villani & Schoots, "Any ReLU Network Is Shallow" (arXiv 2306.11827): `alpha x + beta` is the
    affine map of the region of x. It explains that map, not the network, unless all inputs mixed of x and any row of
    the background lie in the region of x. Sufficient for that, and what is proven for `equals_shap`: for each row of
    the background, the whole box between it and x lies in the closed region. (A region is convex, so the box does if
    its corners do, and these are the mixed inputs. They could also lie in several regions of one affine map.)

    Args:
        f: as for `shap_values`. The region is that of the network's tree, if it has one; else that of all neurons.
        x: floating point, of shape `(rows, *in_shape)`.
        background: floating point, of shape `(others, *in_shape)`.
        features: as for `shap_values`.

    Raises:
        TransformError: `f` cannot be explained exactly, an argument is no batch of inputs, or a row of x lies where the
            network is not known.
        ImportError: shap is not installed.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x = torch.randn(4, 3)
        >>> found = local_linear_shap(model, x, x[:1] + 1e-6 * torch.randn(10, 3))
        >>> bool(found.equals_shap[0]), found.explanation.values.shape
        (True, (4, 3))
    """
    if torch.is_inference_mode_enabled():  # where the maps of neurons cannot be found by gradients
        with torch.inference_mode(False), torch.no_grad():
            return local_linear_shap(f, x, background, features=features)
    require("shap", "explain")
    check_floating("x", x)
    function = read_function(f, x)
    points, others = read_points(function, x, background)
    look = _in_tree if isinstance(function.network, TreeFunction) else _by_neurons
    weight, bias, certified = look(function, points, others)
    mean = others.mean(0)
    values = (weight * (points - mean)[:, None]).transpose(1, 2).cpu().numpy()
    base = (weight @ mean + bias).cpu().numpy()
    return LocalLinearShap(explanation(function, points, values, base, features), certified)


def _in_tree(function: Function, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    shallow = function.network
    assert isinstance(shallow, TreeFunction)
    regions = shallow.locate(x.reshape(-1, *function.in_shape)).reshape(-1)
    function.check_known(regions >= 0)
    weight, bias = shallow.affine_maps(regions)
    certified = np.zeros(len(x), dtype=bool)
    for region in regions.unique().tolist():
        half_spaces = region_half_spaces(shallow, region)
        # A trained network may jump where a region ends.
        open_ = [shallow.may_be_discontinuous and name != "domain" for name in half_spaces.names]
        for row in (regions == region).nonzero()[:, 0].tolist():
            certified[row] = _inside(half_spaces.A, half_spaces.b, x[row], background, torch.tensor(open_))
    return weight, bias, certified


def _by_neurons(function: Function, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    neurons = function.network
    assert isinstance(neurons, DeepFunction)
    weights, biases = (
        [x.new_zeros(0, function.num_outputs, function.num_inputs)],
        [x.new_zeros(0, function.num_outputs)],
    )
    certified = np.zeros(len(x), dtype=bool)
    for block in neurons.blocks(len(x)):
        patterns = neurons.signs(x[block])
        weight, bias = local_maps(neurons, patterns)
        weights.append(weight)
        biases.append(bias)
        for row, active in zip(range(block.start, block.stop), patterns, strict=True):
            (a, b), _ = neuron_maps(neurons, active.double())
            sign = torch.where(active, -1.0, 1.0).to(b)
            certified[row] = _inside(sign[:, None] * a, -sign * b, x[row], background, torch.zeros_like(active))
    return torch.cat(weights), torch.cat(biases), certified


def _inside(
    a: Float[Tensor, "half_spaces inputs"],
    b: Float[Tensor, "half_spaces"],
    x: Float[Tensor, "inputs"],
    background: Float[Tensor, "others inputs"],
    is_open: Bool[Tensor, "half_spaces"],
) -> bool:
    """Whether the boxes between a point and some others lie in the half-spaces `a x <= b`, up to rounding.

    The maximum over a box is a sum over the inputs, each on its better side.
    """
    change = background - x
    highest = (a @ x)[:, None] + a.relu() @ change.relu().T + (-a).relu() @ (-change).relu().T
    size = a.abs() @ x.abs().maximum(background.abs()).T + b.abs()[:, None]
    limit = b[:, None] + torch.where(is_open.to(b.device)[:, None], -INSIDE, ROUNDING) * size
    return bool((highest <= limit).all())
