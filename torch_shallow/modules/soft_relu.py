"""A shallow network with soft half-spaces: smooth in all of its weights, so that all of them can be trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from torch_shallow.domain import inside
from torch_shallow.errors import TransformError
from torch_shallow.functions.points import flatten_points, rounding_of, unflatten
from torch_shallow.modules.completeness import require_all_regions
from torch_shallow.modules.harden import harden
from torch_shallow.modules.network import Network

if TYPE_CHECKING:
    from torch_shallow.modules.shallow_relu import ShallowReLU


class Levels(nn.Module):
    """Sums along all paths of a tree, each level from the one above it.

    Args:
        children: of each cut, as in `Tree`.

    Attributes:
        above: for each node of a level, the place of its parent in the level above; all levels below the root, joined.
        steps: for each node likewise, the step to it: `2 * cut + side` (side 1: active).
        leaves: the place of each leaf among all nodes, the root being the first.
    """

    above: Tensor
    steps: Tensor
    leaves: Tensor

    def __init__(self, children: Int[np.ndarray, "cuts 2"]) -> None:
        super().__init__()
        nodes = np.array([0 if len(children) else ~0])
        above, steps, joined = [nodes[:0]], [nodes[:0]], [nodes]
        while (nodes >= 0).any():
            inner = np.flatnonzero(nodes >= 0)
            above.append(inner.repeat(2))
            steps.append((2 * nodes[inner, None] + np.arange(2)).reshape(-1))
            nodes = children[nodes[inner]].reshape(-1)
            joined.append(nodes)
        every = np.concatenate(joined)
        leaves = np.zeros(len(children) + 1, dtype=np.int64)
        leaves[~every[every < 0]] = np.flatnonzero(every < 0)
        self.sizes = [len(level) for level in steps[1:]]
        for name, array in (("above", np.concatenate(above)), ("steps", np.concatenate(steps)), ("leaves", leaves)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, steps: Float[Tensor, "points steps"]) -> Float[Tensor, "points leaves"]:
        """The sum of the steps to each leaf.

        Args:
            steps: for each point, the steps to the inactive and the active child of the first cut, of the second, ...
        """
        levels = [steps.new_zeros(steps.shape[0], 1)]
        for above, step in zip(self.above.split(self.sizes), self.steps.split(self.sizes), strict=True):
            levels.append(levels[-1].index_select(1, above) + steps.index_select(1, step))
        return torch.cat(levels, 1).index_select(1, self.leaves)


class SoftReLU(Network):
    """The tree of a shallow network, descended to both sides of every cut at once, more or less.

    At a cut of signed distance z (the pre-activation, its normal scaled to unit length) a share of
    sigmoid(sharpness z) of a point goes to the active side and the rest to the inactive one. Region k gets the product
    p_k of the shares on its path, and the output is the mean of all local models, sum_k p_k (alpha_k x + beta_k).
    Half-spaces and local models are parameters, float64 inside whatever the dtype outside.

    It tends to the shallow network as the sharpness grows. Let a point lie in region k at distances of at least m from
    the D cuts on the path of k. At each of these, a share of at most exp(-sharpness m) goes astray, so all wrong
    regions together weigh at most D exp(-sharpness m), and the output differs by at most that times the largest
    |(alpha_l x + beta_l) - (alpha_k x + beta_k)| of all regions l.

    Outside of a bounded domain the output is NaN, as that of the shallow network: what is learned there would be lost
    when it is hardened, and a loss that becomes NaN says so at once. Leave such points out with `soft.contains(x)`.

    Time and memory of a batch are proportional to points times regions.

    Args:
        shallow: the network to start from, all of whose regions are known.
        sharpness: see above, in units of one over length; it may be set anew at any time.

    Attributes:
        partition: the tree of the network that it was made from.
        normals: of the half-spaces, in the coordinates `projection @ x`, or in those of the input.
        offsets: of the half-spaces: cut j is `normals[j] @ u + offsets[j] > 0`.
        weights: of the local models, in the same coordinates.
        biases: of the local models.
        skip: what all local models have in common and read of the input itself, or None.
        head: what follows the trunk, or None.

    Raises:
        TransformError: the sharpness is not positive and finite, or not all regions are known.

    Example:
        >>> import torch_shallow
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> soft = torch_shallow.transform(model).soften(sharpness=10.0)
        >>> optimizer = torch.optim.Adam(soft.parameters())
        >>> soft(torch.randn(5, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> soft.sharpness = 20.0
        >>> type(soft.harden()).__name__
        'ShallowReLU'
    """

    projection: Tensor | None
    scale: Tensor
    skip: nn.Parameter | None

    def __init__(self, shallow: ShallowReLU, sharpness: float) -> None:
        super().__init__()
        reason = "soft cuts lead to all regions of the domain (unfreeze() trains the local models of known ones)"
        require_all_regions(shallow, "soften", reason)
        self.partition, self.network = shallow.partition, type(shallow)
        half, local = shallow.half_spaces, shallow.selection
        weights, biases = local.maps(torch.arange(shallow.num_regions, device=shallow.device))
        self.normals, self.offsets = _parameter(half.normals), _parameter(half.offsets)
        self.weights, self.biases = _parameter(weights), _parameter(biases)
        self.register_parameter("skip", None if local.skip is None else _parameter(local.skip))
        self.register_buffer("projection", None if half.projection is None else half.projection.clone())
        self.levels = Levels(shallow.partition.children)
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self.sharpness = sharpness
        self._describe(
            shallow.in_shape, shallow.trunk_shape, shallow.domain, shallow.head, shallow.partition.chart.lengths
        )
        self.to(shallow.device)

    @property
    def sharpness(self) -> float:
        """How fast the cuts change sides, in units of one over length; in the state dict it is `scale`."""
        return float(self.scale)

    @sharpness.setter
    def sharpness(self, value: float) -> None:
        if not (value > 0.0 and math.isfinite(value)):
            raise TransformError(f"sharpness: expected a positive finite number, found {value}.")
        self.scale.fill_(value)

    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        points, within = self._points(x)
        return torch.where(within[:, None], self._mean(points), torch.nan), within

    def membership(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_regions"]:
        """The share of each region in each input: not negative, 1 in all; NaN as in `forward`."""
        points, within = self._points(x)
        shares = torch.where(within[:, None], self._shares(self._coordinates(points)), torch.nan)
        return unflatten(shares, x, self.in_shape, shares.shape[1:])

    def contains(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Shaped[Tensor, "*batch"]:
        """Which inputs lie in the domain."""
        return self._points(x)[1].reshape(x.shape[: x.dim() - len(self.in_shape)])

    def harden(self) -> ShallowReLU:
        """The shallow network that this one tends to, with the half-spaces and local models as they are now.

        Regions that training has left without interior are removed, each with a cut: see
        `torch_shallow.modules.harden`. The result is no longer one of a deep network: its regions have no
        activation patterns, and it may be discontinuous, by as much as `continuity_gap` says.

        Raises:
            TransformError: a parameter is not finite.
        """
        return harden(self)

    def _points(self, x: Tensor) -> tuple[Tensor, Tensor]:
        points = flatten_points(x, self.in_shape)
        return points.double(), inside(points.detach(), self._limits, rounding=rounding_of(x))

    def _coordinates(self, points: Float[Tensor, "points inputs"]) -> Float[Tensor, "points coordinates"]:
        return points if self.projection is None else linear(points, self.projection)

    def _shares(self, u: Float[Tensor, "points coordinates"]) -> Float[Tensor, "points regions"]:
        normals = self.normals if self.projection is None else self.normals @ self.projection
        square = normals.square().sum(-1)
        length = torch.where(square > 0.0, square, 1.0).sqrt()  # a cut without direction has no distance: one side
        z = self.scale * linear(u, self.normals / length[:, None], self.offsets / length)
        return self.levels(logsigmoid(torch.stack([-z, z], -1).flatten(1))).exp()

    def _mean(self, points: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        u = self._coordinates(points)
        shares = self._shares(u)
        weights = (shares @ self.weights.flatten(1)).unflatten(1, self.weights.shape[1:])
        y = torch.einsum("poc,pc->po", weights, u) + shares @ self.biases
        return y if self.skip is None else y + linear(points, self.skip)

    def extra_repr(self) -> str:
        """Inputs, outputs, regions, sharpness and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {len(self.biases)} regions, {len(self.offsets)} soft half-spaces of "
            f"sharpness {self.sharpness:g}, domain {self.domain!r}"
        )


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone())
