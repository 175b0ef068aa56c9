"""The theorem's own network: three hidden layers of ordinary ReLUs with weights in the extended reals.

With cuts z_j = h_j x + c_j and regions k that need z_j > 0 for j in A_k and z_j <= 0 for j in I_k:

1. u = relu(z), x+ = relu(x), x- = relu(-x);
2. u again, a = relu(1 - inf u), x+ and x- again;
3. q+-_{k,i} = relu(+-(alpha_k (x+ - x-) + beta_k)_i - inf sum_{A_k} a_j - inf sum_{I_k} u_j);
4. y_i = sum_k q+_{k,i} - q-_{k,i}.

Source: Villani & Schoots, "Any ReLU Network Is Shallow" (arXiv 2306.11827), with the masks split so that every infinite
weight is -inf and meets a finite value >= 0: with the convention 0 * inf = 0, inf - inf never arises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.modules.completeness import require_all_regions

if TYPE_CHECKING:
    from torch_shallow.modules.shallow_relu import ShallowReLU


class ExtendedLayer(NamedTuple):
    """One affine layer; entries of `weight` may be -inf, with 0 * inf = 0.

    Attributes:
        weight: float64.
        bias: float64, finite.
    """

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, "outputs"]


def extended_weights(shallow: ShallowReLU) -> list[ExtendedLayer]:
    """The four affine layers of the theorem, with a ReLU between each two.

    Memory grows with the product of regions and half-spaces: meant for small networks.

    Args:
        shallow: the network.

    Returns:
        Layers from the flattened input to the flattened output of the trunk, exact on the network's domain.

    Raises:
        TransformError: not all regions are known.
    """
    require_all_regions(shallow, "extended_weights", "the theorem's layers need all regions of the domain")
    half, projection = shallow.half_spaces, shallow.half_spaces.projection
    normals = half.normals if projection is None else half.normals @ projection
    alpha, beta = shallow.affine_maps(torch.arange(shallow.num_regions, device=normals.device))
    cuts, inputs = normals.shape
    regions, outputs = beta.shape
    eye_c, eye_x = (torch.eye(n, dtype=torch.float64, device=normals.device) for n in (cuts, inputs))
    first = ExtendedLayer(torch.cat([normals, eye_x, -eye_x]), torch.cat([half.offsets, normals.new_zeros(2 * inputs)]))
    minus_inf = torch.where(eye_c > 0, -torch.inf, 0.0)
    second = ExtendedLayer(
        torch.block_diag(torch.cat([eye_c, minus_inf]), eye_x, eye_x),
        torch.cat([normals.new_zeros(cuts), normals.new_ones(cuts), normals.new_zeros(2 * inputs)]),
    )
    masks = normals.new_zeros(regions, 2 * cuts)
    for region in range(regions):
        for cut, side in shallow.partition.path(region):
            masks[region, cuts + cut if side else cut] = -torch.inf
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
