"""The three hidden layers as ordinary `nn.Linear` and `nn.ReLU`, with a large number in place of infinity.

With half-spaces z_j = h_j x + c_j > 0, each of them once, a large number M, and for region k and output i a bound
B_{k,i} of twice the largest absolute value of v = (alpha_k x + beta_k)_i in the domain:

1. u = relu(z), x+ = relu(x), x- = relu(-x);
2. u again, a = relu(1 - M u), x+ and x- again;
3. q+-_{k,i} = relu(+-v - B_{k,i} sum_{A_k} a_j - M B_{k,i} sum_{I_k} u_j);
4. y_i = sum_k q+_{k,i} - q-_{k,i}.

*Equal outside of the margin 1/M.* Let x be in the domain, in region k, and let no half-space of a cut on the way to k
have 0 < z_j < 1/M. Then a_j = 0 for j in A_k, since M u_j >= 1, and u_j = 0 for j in I_k, so nothing is taken from v.
The way to another region l leaves that to k at some cut, by half-space j. If l needs z_j > 0, then a_j = 1 takes
B_{l,i} >= |v| away. If l needs z_j <= 0, then z_j >= 1/M and at least M B_{l,i} / M >= |v| is taken away. Either way
q+-_{l,i} = 0.

*No smaller margin will do.* Let just one cut on the way to k have 0 < z_j < 1/M, with M z_j = t >= 1/2. All other
regions still give nothing, since t B_{l,i} >= |v|: that is what twice is for. But region k loses (1 - t) B_{k,i}, or
all it has: the output is wrong wherever it is not zero. Neither part needs continuity, so both hold for trained local
models, too.

*Rounding.* What is kept loses nothing: its penalties are zeros, not differences of large numbers. What is suppressed
stays at zero, since |v| is at most half of the penalty. But a point *on* a hyperplane may by rounding have z_j = d > 0,
which is inside of the margin and costs M d B. With d of about the unit of rounding e, M = 1 / sqrt(e) makes margin and
loss alike: 2^26 in float64, which is the default; a copy in float32 wants 2^12.
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

NAMES = ("half_spaces", "indicator", "selection", "total")  # of the four affine layers


class ExtendedLayer(NamedTuple):
    """One affine layer; entries of `weight` may be -inf, with 0 * inf = 0.

    Attributes:
        weight: float64.
        bias: float64, finite.
    """

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, "outputs"]


def extended_weights(function: TreeFunction) -> list[ExtendedLayer]:
    """The four affine layers of the theorem, with a ReLU between each two.

    Memory grows with the product of regions and distinct half-spaces: meant for small networks.

    Args:
        function: the function.

    Returns:
        Layers from the flattened input to the flattened output of the trunk, exact on the network's domain.

    Raises:
        TransformError: not all regions are known.
    """
    require_all_regions(function, "extended_weights", "the theorem's layers need all regions of the domain")
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
        layers: affine layers with a ReLU between each two, infinite weights only -inf.
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
    """Three hidden layers of `nn.Linear` and `nn.ReLU`, between what changes shapes, and the head if there is one.

    Args:
        layers: its children, by name.
        infinity: the number in place of infinity.

    Attributes:
        half_spaces: the first hidden layer, u in the above.
        indicator: the second, a.
        selection: the third, q.
        total: what adds them up.
        infinity: the number in place of infinity.
        margin: the network is exact at points of the domain at which no cut on the way has a pre-activation z with
            0 < z < margin.
    """

    def __init__(self, layers: Mapping[str, nn.Module], infinity: float) -> None:
        super().__init__(OrderedDict(layers))
        self.infinity, self.margin = infinity, 1.0 / infinity


@torch.no_grad()
def to_sequential(
    function: TreeFunction, infinity: float = 2.0**26, domain: Domain | None = None, *, max_bytes: int = 1 << 30
) -> LiteralNetwork:
    """See `ShallowReLU.to_sequential`; what is computed, and how exactly, is said above."""
    require_all_regions(function, "to_sequential", "the theorem's layers need all regions of the domain")
    if not (isinstance(infinity, int | float) and 0.0 < infinity < math.inf):
        raise argument_error(infinity, int, float)(
            f"infinity: expected a positive finite number, found {infinity!r}; leave it out."
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
            f"infinity: {infinity:g} times the largest output, {float(largest.max()):g}, overflows; give less, or a "
            "smaller domain."
        )
    return finite


def _linear(weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs"]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # which draws no random numbers
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
    """A box around a bounded domain: around a polytope the smallest, but for what a solver may leave out."""
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
            f"domain: expected a bounded one, since penalties in place of infinity must exceed all outputs; found "
            f"{domain!r}. Give domain=Box(lower, upper) with finite bounds, where the result has to be exact."
        )
    return torch.from_numpy(lower.copy()), torch.from_numpy(upper.copy())


def _largest(
    direction: Float[np.ndarray, "inputs"], a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> float:
    """The largest value of `direction x` where `a x <= b`, or infinity."""
    from scipy.optimize import linprog

    if len(a) == 0:
        return math.inf
    solution = linprog(-direction, A_ub=a, b_ub=b, bounds=(None, None), method="highs")
    if solution.status not in {0, 3}:
        raise TransformError(f"domain: looking for the extent of the polytope failed: {solution.message}")
    return math.inf if solution.status == 3 else -float(solution.fun)
