"""Write the three hidden layers as ordinary `nn.Linear` and `nn.ReLU`, with a large number in place of infinity.

Let z_j = h_j x + c_j > 0 be the distinct half-spaces and M a large number. For region k and output i, let B_{k,i} be
twice the largest absolute value of v = (alpha_k x + beta_k)_i in the domain. The layers are:

1. u = relu(z), x+ = relu(x), x- = relu(-x);
2. u again, a = relu(1 - M u), x+ and x- again;
3. q+-_{k,i} = relu(+-v - B_{k,i} sum_{A_k} a_j - M B_{k,i} sum_{I_k} u_j);
4. y_i = sum_k q+_{k,i} - q-_{k,i}.

*Exact outside the margin 1/M.* Let x be in the domain, in region k, and let no half-space of a cut on the path to k
have 0 < z_j < 1/M. Then a_j = 0 for j in A_k, since M u_j >= 1, and u_j = 0 for j in I_k, so nothing is subtracted from
v. The path to another region l leaves the path to k at some cut, by half-space j. If l needs z_j > 0, then a_j = 1
subtracts B_{l,i} >= |v|. If l needs z_j <= 0, then z_j >= 1/M, and at least M B_{l,i} / M >= |v| is subtracted. Either
way q+-_{l,i} = 0.

*No smaller margin suffices.* Let exactly one cut on the path to k have 0 < z_j < 1/M, with M z_j = t >= 1/2. All other
regions still contribute nothing, since t B_{l,i} >= |v|; this is why B is twice the largest value. But region k loses
(1 - t) B_{k,i}, or its whole value: the output is wrong wherever it is not zero. Neither argument needs continuity, so
both hold for trained local models, too.

*Rounding.* The selected region loses nothing: its penalties are zeros, not differences of large numbers. Suppressed
regions stay at zero, since |v| is at most half of the penalty. But a point *on* a hyperplane may, by rounding, have z_j
= d > 0, which is inside the margin and costs M d B. With d about the unit of rounding e, M = 1 / sqrt(e) makes the
margin equal to the loss: 2^26 in float64, which is the default; a copy in float32 needs 2^12.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor, nn

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import OutOfMemoryError, TransformError, WrongTypeError, argument_error
from torch_shallow.functions import TreeFunction, require_all_regions

NAMES = ("half_spaces", "indicator", "selection", "total")  # names of the four affine layers


class ExtendedLayer(NamedTuple):
    """Hold one affine layer; entries of `weight` may be -inf, with 0 * inf = 0.

    Attributes:
        weight: coefficients, float64.
        bias: constants, float64 and finite.
    """

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, "outputs"]


def extended_weights(function: TreeFunction) -> list[ExtendedLayer]:
    """Return the four affine layers of the theorem, with a ReLU between each two.

    Memory grows with the product of regions and distinct half-spaces, so this is meant for small networks.

    Args:
        function: the trunk of a complete shallow network.

    Returns:
        Layers from the flattened input to the flattened output of the trunk, exact on the network's domain.

    Raises:
        TransformError: not all regions are known.
    """
    require_all_regions(function, "extended_weights", "the layers of the theorem require all regions of the domain")
    half, projection = function.half_spaces, function.half_spaces.projection
    normals = half.normals if projection is None else half.normals @ projection
    alpha, beta = function.affine_maps(torch.arange(function.num_regions, device=normals.device))
    count, inputs = normals.shape
    regions, outputs = beta.shape
    eye_h, eye_x = (torch.eye(n, dtype=torch.float64, device=normals.device) for n in (count, inputs))
    first = ExtendedLayer(torch.cat([normals, eye_x, -eye_x]), torch.cat([half.offsets, normals.new_zeros(2 * inputs)]))
    minus_inf = torch.where(eye_h > 0, -torch.inf, 0.0)
    second = ExtendedLayer(
        torch.block_diag(torch.cat([eye_h, minus_inf]), eye_x, eye_x),
        torch.cat([normals.new_zeros(count), normals.new_ones(count), normals.new_zeros(2 * inputs)]),
    )
    masks, half_space_of = normals.new_zeros(regions, 2 * count), function.half_space_of().tolist()
    for region in range(regions):
        for cut, side in function.tree.path(region):
            masks[region, half_space_of[cut] + count * side] = -torch.inf
    masks = masks.repeat_interleave(outputs, dim=0)
    alpha, beta = alpha.reshape(regions * outputs, inputs), beta.reshape(-1)
    third = ExtendedLayer(
        torch.cat([torch.cat([masks, alpha, -alpha], 1), torch.cat([masks, -alpha, alpha], 1)]),
        torch.cat([beta, -beta]),
    )
    total = torch.eye(outputs, dtype=torch.float64, device=normals.device).repeat(1, regions)
    return [first, second, third, ExtendedLayer(torch.cat([total, -total], 1), normals.new_zeros(outputs))]


def evaluate_extended(
    layers: list[ExtendedLayer], x: Float[Tensor, "points inputs"]
) -> Float[Tensor, "points outputs"]:
    """Evaluate extended layers in float64 with 0 * inf = 0; the infinities never enter a product.

    Args:
        layers: affine layers with a ReLU between each two; infinite weights are -inf.
        x: flattened inputs.

    Returns:
        The outputs, float64.
    """
    h = x.to(torch.float64)
    for number, (weight, bias) in enumerate(layers):
        if number > 0:
            h = torch.relu(h)
        infinite = torch.isneginf(weight)
        finite = h @ torch.where(infinite, 0.0, weight).T + bias
        hit = (h > 0.0).to(torch.float64) @ infinite.to(torch.float64).T
        h = torch.where(hit > 0.0, -torch.inf, finite)
    return h


class LiteralNetwork(nn.Sequential):
    """A sequence of three hidden layers of `nn.Linear` and `nn.ReLU`, with reshaping around them, and any head.

    Args:
        layers: the child modules, by name.
        infinity: the number in place of infinity.

    Attributes:
        half_spaces: the first hidden layer, u in the formulas of this module.
        indicator: the second hidden layer, a.
        selection: the third hidden layer, q.
        total: the output layer, which adds up the third.
        infinity: the number in place of infinity.
        margin: `1 / infinity`; the network is exact at points of the domain where no cut on the path to their region
            has a pre-activation z with 0 < z < margin.
    """

    def __init__(self, layers: Mapping[str, nn.Module], infinity: float) -> None:
        super().__init__(OrderedDict(layers))
        self.infinity, self.margin = infinity, 1.0 / infinity


@torch.no_grad()
def to_sequential(
    function: TreeFunction, infinity: float = 2.0**26, domain: Domain | None = None, *, max_bytes: int = 1 << 30
) -> LiteralNetwork:
    """Implement `ShallowReLU.to_sequential`; the module's docstring states the formulas and their accuracy."""
    require_all_regions(function, "to_sequential", "the layers of the theorem require all regions of the domain")
    if not (isinstance(infinity, int | float) and 0.0 < infinity < math.inf):
        raise argument_error(infinity, int, float)(
            f"infinity: expected a positive finite number, found {infinity!r}; leave it out for the default."
        )
    lower, upper = _enclosing_box(function.domain if domain is None else domain, function.in_shape)
    needed = _bytes_of_weights(function)
    if needed > max_bytes:
        raise OutOfMemoryError(
            f"to_sequential: the weights of {function.num_regions} regions would take {needed:,} bytes, more than "
            f"max_bytes = {max_bytes:,}; raise it, or transform the model in a smaller domain."
        )
    layers = _finite_layers(extended_weights(function), float(infinity), lower, upper)
    modules: dict[str, nn.Module] = {}
    if len(function.in_shape) > 1:
        modules["flatten"] = nn.Flatten(-len(function.in_shape))
    for number, (name, layer) in enumerate(zip(NAMES, layers, strict=True), 1):
        modules |= {name: _linear(*layer), f"relu_{number}": nn.ReLU()}
    del modules[f"relu_{len(NAMES)}"]
    if len(function.out_shape) != 1:
        modules["unflatten"] = nn.Unflatten(-1, function.out_shape) if function.out_shape else nn.Flatten(-2)
    if function.head is not None:
        modules["head"] = copy.deepcopy(function.head)
    return LiteralNetwork(modules, float(infinity)).eval()


def _finite_layers(
    layers: list[ExtendedLayer], infinity: float, lower: Float[Tensor, "inputs"], upper: Float[Tensor, "inputs"]
) -> list[ExtendedLayer]:
    first, second, third, last = layers
    inputs = len(lower)
    count = len(first.bias) - 2 * inputs
    affine = third.weight[:, 2 * count : 2 * count + inputs]
    lower, upper = lower.to(affine), upper.to(affine)
    largest = (affine @ (lower / 2 + upper / 2) + third.bias).abs() + affine.abs() @ (upper / 2 - lower / 2)
    of_sources = torch.cat([affine.new_full((count,), infinity), affine.new_ones(count + 2 * inputs)])
    finite = [
        first,
        ExtendedLayer(torch.where(torch.isneginf(second.weight), -infinity, second.weight), second.bias),
        ExtendedLayer(
            torch.where(torch.isneginf(third.weight), torch.outer(-2.0 * largest, of_sources), third.weight), third.bias
        ),
        last,
    ]
    if not all(layer.weight.isfinite().all() for layer in finite):
        raise TransformError(
            f"infinity: expected a product with the largest output, {float(largest.max()):g}, that does not overflow, "
            f"found {infinity:g}; give a smaller number, or a smaller domain."
        )
    return finite


def _linear(weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # no random numbers are drawn
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _bytes_of_weights(function: TreeFunction) -> int:
    inputs, outputs = Size(function.in_shape).numel(), Size(function.out_shape).numel()
    count, rows = function.num_half_spaces, 2 * function.num_regions * outputs
    widths = [inputs, count + 2 * inputs, 2 * count + 2 * inputs, rows, outputs]
    return 8 * sum((a + 1) * b for a, b in pairwise(widths))


def _enclosing_box(
    domain: Domain, in_shape: tuple[int, ...]
) -> tuple[Float[Tensor, "inputs"], Float[Tensor, "inputs"]]:
    """Enclose a bounded domain in a box; for a polytope, the smallest box, widened by the tolerance of the solver."""
    if not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a bounded Box or Polytope, found {domain!r}.")
    if isinstance(domain, Box):
        lower, upper = domain.bounds(in_shape)
    else:
        a, b = domain.inequalities(in_shape)
        axes = np.eye(a.shape[1])
        lower, upper = np.array([-_largest(-axis, a, b) for axis in axes]), np.array([_largest(e, a, b) for e in axes])
        spare = 1e-6 * (upper - lower + np.maximum(np.abs(lower), np.abs(upper)))
        lower, upper = lower - spare, upper + spare
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise TransformError(
            "domain: expected a bounded domain, since penalties in place of infinity must exceed all outputs, found "
            f"{domain!r}; give domain=Box(lower, upper) with finite bounds where the result has to be exact."
        )
    return torch.from_numpy(lower.copy()), torch.from_numpy(upper.copy())


def _largest(
    direction: Float[np.ndarray, "inputs"], a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> float:
    """Return the largest value of `direction x` where `a x <= b`, or infinity."""
    from scipy.optimize import linprog

    if len(a) == 0:
        return math.inf
    solution = linprog(-direction, A_ub=a, b_ub=b, bounds=(None, None), method="highs")
    if solution.status not in {0, 3}:
        raise TransformError(
            f"domain: expected a polytope whose extent HiGHS can compute, found that it failed ({solution.message}); "
            "give a Box."
        )
    return math.inf if solution.status == 3 else -float(solution.fun)
