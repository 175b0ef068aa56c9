"""SHAP values of a whole network, exactly; and the shortcut by local linear models, with proof where they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import Function, check_known, input_rows, outputs_at, read_function
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.deep_function import DeepFunction, local_maps, neuron_maps
from torch_shallow.functions.points import check_floating
from torch_shallow.functions.shape import region_half_spaces
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require

if TYPE_CHECKING:
    import shap

MOST_PLAYERS = 40
ROUNDING = 1e-15  # rounding error of a maximum over a box, relative to its terms; later layers may amplify it
INSIDE = 1e-12  # relative distance from the boundary, where boundary points may belong to another region


def read_points(function: Function, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Read points and background as rows.

    Raises:
        TransformError: they are not batches of inputs, or there is no background.
    """
    rows = []
    for name, points in (("x", x), ("background", background)):
        flat = input_rows(function, name, points)
        if points.dim() != 1 + len(function.in_shape):
            raise TransformError(
                f"{name}: expected a batch of shape (rows, {', '.join(map(str, function.in_shape))}), found "
                f"{tuple(points.shape)}; add a dimension for the batch ({name}[None]), or flatten the batch."
            )
        rows.append(flat)
    if not len(background):
        raise TransformError("background: expected one or more rows, found none; pass a baseline, such as zeros.")
    return rows[0], rows[1]


def explanation(
    function: Function,
    x: Float[Tensor, "rows inputs"],
    values: Float[np.ndarray, "rows inputs outputs"],
    base: Float[np.ndarray, "rows outputs"],
    features: Features | Sequence[str] | None,
) -> shap.Explanation:
    """Make a `shap.Explanation` of values, with names and data.

    Raises:
        ImportError: shap is not installed.
        TransformError: the number of features is wrong.
    """
    of = read_features(features, function.num_inputs)
    in_shape = function.in_shape or (1,)
    out_shape = () if function.num_outputs == 1 else function.out_shape
    data = x.cpu().numpy()
    scaled = of.mean.any() or (of.scale != 1.0).any()
    names: object = list(of.names)
    if len(in_shape) > 1:  # an image
        names = None if features is None else np.array(of.names).reshape(in_shape)
    return require("shap", "explain").Explanation(
        values=values.reshape(len(x), *in_shape, *out_shape),
        base_values=base.reshape(len(x), *out_shape),
        data=data.reshape(len(x), *in_shape),
        display_data=of.unscale(data).reshape(len(x), *in_shape) if scaled else None,
        feature_names=names,
    )


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
    """Compute exact Shapley values of the features of some inputs, for the whole network.

    The value of a coalition S of features is the mean, over the rows b of the background, of the network's output at
    the input that takes the features in S from x and the others from b. These are baseline Shapley values if the
    background is a single row, interventional ones otherwise (Lundberg & Lee, "A unified approach to interpreting model
    predictions", 2017; Sundararajan & Najmi, "The many Shapley values for model explanation", 2020). Nothing is
    sampled.

    Not all coalitions have to be evaluated. For each pair of x and b, features that do not differ are ignored; neurons
    that keep their sign on the box between x and b are linear, and features that reach only those have a closed form;
    features that reach no common neuron are evaluated separately; where many features do, the game is split into
    halves, in each of which more neurons keep their sign.

    Args:
        f: an `nn.Module` or an exported program of any size, a `ShallowReLU`, or `shallow.trunk` of one with a head.
        x: inputs, floating point, of shape `(rows, *in_shape)`.
        background: background inputs, floating point, of shape `(others, *in_shape)`; all of them are used.
        features: names of the entries of the flattened input, or `Features` with the scaling of the inputs; then
            `display_data`, which shap's plots show, has values in the units before scaling.
        max_players: limit on the work for each pair of a row of x and one of the background: twice the evaluations of
            all coalitions of this number of features. For 20 and a small network, that takes some hundredths of a
            second.
        tolerance: largest difference between the sum of values and the difference of outputs that it explains, relative
            to the sizes of outputs and values. Each value is exact up to the rounding of float64, relative to the
            largest terms in the network between x and the background: a placeholder of 1e9 for a missing value costs
            1e-7.
        progress: show a progress bar.

    Returns:
        A `shap.Explanation`, with the values of `shap.ExactExplainer` for the same background: `values` of shape
        `(rows, *in_shape, *out_shape)`, `base_values` of shape `(rows, *out_shape)`, and `data`, all of them float64. A
        single output has no axis in them, and an input of shape () has one axis of length 1.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: `f` cannot be explained exactly, an argument is not a batch of inputs, a coalition lies where
            the network is not known, a game takes too many evaluations, or values do not sum to what they explain.
        ImportError: shap is not installed.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import shap_values
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x, background = torch.randn(2, 3), torch.randn(100, 3)
        >>> found = shap_values(model, x, background, features=["age", "income", "debt"])
        >>> found.values.shape, found.base_values.shape
        ((2, 3), (2,))
        >>> difference = model(x) - model(background).mean()
        >>> torch.allclose(torch.tensor(found.values).sum(1).float(), difference[:, 0], atol=1e-5)
        True
    """
    # Imported here because numba takes a while to import.
    from torch_shallow.explain.shapley.solve import solve

    require("shap", "explain")
    if not (isinstance(max_players, int) and 1 <= max_players <= MOST_PLAYERS):
        raise argument_error(max_players, int)(
            f"max_players: expected an integer from 1 to {MOST_PLAYERS}, found {max_players!r}; pass one of these."
        )
    check_floating("x", x)
    function = read_function(f, x)
    points, others = read_points(function, x, background)
    at_x, base = outputs_at(function, points).cpu().numpy(), outputs_at(function, others).cpu().numpy()
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
            f"tolerance: expected values that sum to the difference of outputs up to {tolerance:.0e} of their sizes, "
            f"found a deviation of {residual[row, output]:.1e} at sizes of {size[row, output]:.1e} in row {row} for "
            f"output {output}, because much larger terms cancel in the network; scale its inputs, or pass a larger "
            "tolerance."
        )


@dataclass(frozen=True, eq=False)
class LocalLinearShap:
    """SHAP values of the affine map of each input's region, instead of the network.

    Attributes:
        explanation: values, base values (the affine map at the mean of the background) and data.
        equals_shap: for each row, whether these are proven to be the SHAP values of the network itself, as computed by
            `shap_values`. Where it is False nothing is proven, and in general they differ.
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
    """Explain inputs by the local slope times the distance from the mean, `alpha_i (x_i - E x_i)`.

    This is the shortcut of Villani & Schoots, "Any ReLU Network Is Shallow" (arXiv 2306.11827), where `alpha x + beta`
    is the affine map of the region of x. It explains that map, not the network, unless all inputs that mix features of
    x and of a row of the background lie in the region of x. The result states where it is proven to equal SHAP: where
    the whole box between x and each row of the background lies in the closed region. (A region is convex, so it
    contains the box if it contains its corners, which are the mixed inputs. These could also lie in several regions
    with the same affine map.)

    Args:
        f: an `nn.Module` or an exported program of any size, a `ShallowReLU`, or `shallow.trunk` of one with a head.
            The region is that of the network's tree, if it has one; else that of all neurons.
        x: inputs, floating point, of shape `(rows, *in_shape)`.
        background: background inputs, floating point, of shape `(others, *in_shape)`.
        features: names of the entries of the flattened input, or `Features` with the scaling of the inputs.

    Returns:
        A `LocalLinearShap`, with the explanation and where it equals SHAP.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: `f` cannot be explained exactly, an argument is not a batch of inputs, or a row of x lies where
            the network is not known.
        ImportError: shap is not installed.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import local_linear_shap
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> x = torch.randn(4, 3)
        >>> found = local_linear_shap(model, x, x[:1] + 1e-6 * torch.randn(10, 3))
        >>> bool(found.equals_shap[0]), found.explanation.values.shape
        (True, (4, 3))
    """
    require("shap", "explain")
    check_floating("x", x)
    function = read_function(f, x)
    points, others = read_points(function, x, background)
    if isinstance(function, TreeFunction):
        weight, bias, certified = _in_tree(function, points, others)
    else:
        weight, bias, certified = _by_neurons(function, points, others)
    mean = others.mean(0)
    values = (weight * (points - mean)[:, None]).transpose(1, 2).cpu().numpy()
    base = (weight @ mean + bias).cpu().numpy()
    return LocalLinearShap(explanation(function, points, values, base, features), certified)


def _in_tree(shallow: TreeFunction, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    regions = shallow.locate(x.reshape(-1, *shallow.in_shape)).reshape(-1)
    check_known(regions >= 0)
    weight, bias = shallow.affine_maps(regions)
    certified = np.zeros(len(x), dtype=bool)
    for region in regions.unique().tolist():
        half_spaces = region_half_spaces(shallow, region)
        # A trained network may jump at the boundary of a region.
        open_ = [shallow.may_be_discontinuous and name != "domain" for name in half_spaces.names]
        for row in (regions == region).nonzero()[:, 0].tolist():
            certified[row] = _inside(half_spaces.A, half_spaces.b, x[row], background, torch.tensor(open_))
    return weight, bias, certified


def _by_neurons(neurons: DeepFunction, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    weights, biases = [x.new_zeros(0, neurons.num_outputs, x.shape[1])], [x.new_zeros(0, neurons.num_outputs)]
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

    The maximum over a box is a sum over the inputs, each at its better end.
    """
    change = background - x
    highest = (a @ x)[:, None] + a.relu() @ change.relu().T + (-a).relu() @ (-change).relu().T
    size = a.abs() @ x.abs().maximum(background.abs()).T + b.abs()[:, None]
    limit = b[:, None] + torch.where(is_open.to(b.device)[:, None], -INSIDE, ROUNDING) * size
    return bool((highest <= limit).all())
