"""Define a shallow network with soft half-spaces, smooth in all of its weights, so that all of them can be trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from torch_shallow.display import counted
from torch_shallow.domain import inside
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction, require_all_regions
from torch_shallow.functions.points import flatten_points, rounding_of, unflatten
from torch_shallow.geometry.chart import cut_rows
from torch_shallow.geometry.tree import FreeTree, Tree
from torch_shallow.modules.network import Network
from torch_shallow.search.affine_maps import AffineMaps

CLEAR = 16 * float(np.finfo(np.float64).eps)  # a point is inside a half-space by more than rounding
THINNEST = 1e-10  # a region thinner than this, relative to its size and its distance from 0, has no interior


def harden(soft: SoftReLU) -> tuple[FreeTree, AffineMaps]:
    """Compute the tree and the maps of the shallow network with the half-spaces and local models of a soft one.

    A region has an interior if its old interior point is still inside, or else if the largest ball in it that a linear
    program finds has a radius above `THINNEST`, in the coordinates of the chart, measured from the half-spaces. If only
    one side of a cut has an interior, that side replaces the cut. Elsewhere the output is what descending the tree
    gives. The chart stays that of the tree: training moves half-spaces only within the coordinates that the network
    reads.

    Args:
        soft: the soft network; it is not changed.

    Raises:
        TransformError: a parameter is not finite, or HiGHS does not solve a linear program.
    """
    wrong = [name for name, parameter in soft.named_parameters() if not parameter.isfinite().all()]
    if wrong:
        raise TransformError(
            f"harden: expected finite parameters, found NaN or infinity in {', '.join(wrong)}; train with a smaller "
            "step, or go back to an earlier state."
        )
    tree = soft.partition
    half_space_of = _array(soft.half_space_of)
    rows = cut_rows(tree.chart, soft.projection, soft.normals, soft.offsets)
    points, occupied = _interior_points(tree, rows[half_space_of])
    children, cuts, regions = _without_empty(tree.children, occupied)
    maps = AffineMaps(
        None if soft.projection is None else _array(soft.projection),
        np.column_stack([_array(soft.normals), _array(soft.offsets)])[half_space_of[cuts]],
        _array(soft.weights)[regions],
        _array(soft.biases)[regions],
        None if soft.skip is None else _array(soft.skip),
    )
    free = FreeTree(
        in_shape=tree.in_shape,
        out_shape=tree.out_shape,
        domain=tree.domain,
        chart=tree.chart,
        children=children,
        points=points[regions],
    )
    return free, maps


def _interior_points(
    tree: Tree, cuts: Float[np.ndarray, "cuts homogeneous"]
) -> tuple[Float[np.ndarray, "regions coordinates"], Bool[np.ndarray, "regions"]]:
    """Return a point of each region, and whether it lies in the interior."""
    from torch_shallow.geometry.tree_kernels import margins  # compiled code is imported when it is used

    above_cuts, above_regions = tree.parents
    least, nearest = np.zeros(tree.num_regions), np.zeros(tree.num_regions, dtype=np.int64)
    margins(tree.points, above_regions, above_cuts, cuts, least, nearest)
    points, occupied = tree.points.copy(), least > CLEAR
    for region in np.flatnonzero(~occupied).tolist():
        steps = tree.path(region)
        signs = np.array([1.0 if active else -1.0 for _, active in steps])
        rows = signs[:, None] * cuts[[cut for cut, _ in steps]]
        centre, radius = _largest_ball(np.concatenate([tree.chart.inequalities, rows]))
        points[region], occupied[region] = centre, radius > THINNEST * (1.0 + np.abs(centre).max(initial=0.0))
    return points, occupied


def _largest_ball(rows: Float[np.ndarray, "rows homogeneous"]) -> tuple[Float[np.ndarray, "coordinates"], float]:
    """Return centre and radius of a largest ball of radius at most 1; the radius is measured from the rows."""
    from scipy.optimize import linprog

    normals, offsets = rows[:, :-1], rows[:, -1]
    lengths = np.linalg.norm(normals, axis=1)
    solution = linprog(
        np.append(np.zeros(normals.shape[1]), -1.0),
        A_ub=np.column_stack([-normals, lengths]),
        b_ub=offsets,
        bounds=[(None, None)] * normals.shape[1] + [(None, 1.0)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    if solution.status == 2:  # the region is on the empty side of a cut that is constant in the domain
        return np.zeros(normals.shape[1]), -np.inf
    if solution.status != 0:
        raise TransformError(
            "harden: expected a linear program that HiGHS can solve for the interior of a region, found that it failed "
            f"({solution.message}); go back to an earlier state of the training."
        )
    centre = solution.x[:-1]
    moving = lengths > 0.0
    return centre, float(((normals @ centre + offsets)[moving] / lengths[moving]).min(initial=1.0))


def _without_empty(
    children: Int[np.ndarray, "cuts 2"], occupied: Bool[np.ndarray, "regions"]
) -> tuple[Int[np.ndarray, "fewer_cuts 2"], Int[np.ndarray, "fewer_cuts"], Int[np.ndarray, "fewer_regions"]]:
    """Remove empty regions from the tree: return its children, and the former numbers of its cuts and regions."""
    if not occupied.any():
        raise TransformError(
            "harden: expected a region with an interior, found none; the domain is too thin for the trained "
            "half-spaces."
        )
    stands_for = np.arange(len(children))  # what remains of the subtree of each cut: a cut, or region k as ~k
    empty, keep = np.zeros(len(children), dtype=bool), np.zeros(len(children), dtype=bool)
    fresh = np.zeros((len(children), 2), dtype=np.int64)
    for cut in range(len(children) - 1, -1, -1):
        sides = [child for child in children[cut] if not (empty[child] if child >= 0 else ~occupied[~child])]
        left = [stands_for[child] if child >= 0 else child for child in sides]
        empty[cut], keep[cut] = not left, len(left) == 2
        if keep[cut]:
            fresh[cut] = left
        elif left:
            stands_for[cut] = left[0]
    cuts, regions = np.flatnonzero(keep), np.flatnonzero(occupied)
    fresh = fresh[cuts]
    inner = fresh >= 0
    fresh[inner] = np.searchsorted(cuts, fresh[inner])
    fresh[~inner] = ~np.searchsorted(regions, ~fresh[~inner])
    return fresh, cuts, regions


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


class Levels(nn.Module):
    """Sum steps along all paths of a tree, each level from the one above it.

    Args:
        children: the children of each cut, as in `Tree`.
        half_spaces: the number of the half-space of each cut.

    Attributes:
        above: for each node of a level, the place of its parent in the level above; all levels below the root, joined.
        steps: for each node in the same order, the step to it: `2 * half_space + side` (side 1: active).
        leaves: the place of each leaf among all nodes, the root being the first.
    """

    above: Tensor
    steps: Tensor
    leaves: Tensor

    def __init__(self, children: Int[np.ndarray, "cuts 2"], half_spaces: Int[np.ndarray, "cuts"]) -> None:
        super().__init__()
        nodes = np.array([0 if len(children) else ~0])
        above, steps, joined = [nodes[:0]], [nodes[:0]], [nodes]
        while (nodes >= 0).any():
            inner = np.flatnonzero(nodes >= 0)
            above.append(inner.repeat(2))
            steps.append((2 * half_spaces[nodes[inner], None] + np.arange(2)).reshape(-1))
            nodes = children[nodes[inner]].reshape(-1)
            joined.append(nodes)
        every = np.concatenate(joined)
        leaves = np.zeros(len(children) + 1, dtype=np.int64)
        leaves[~every[every < 0]] = np.flatnonzero(every < 0)
        self.sizes = [len(level) for level in steps[1:]]
        for name, array in (("above", np.concatenate(above)), ("steps", np.concatenate(steps)), ("leaves", leaves)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, steps: Float[Tensor, "points steps"]) -> Float[Tensor, "points leaves"]:
        """Sum the steps to each leaf.

        Args:
            steps: for each point, the step out of the first half-space and the step into it, then those of the second,
                ...
        """
        levels = [steps.new_zeros(steps.shape[0], 1)]
        for above, step in zip(self.above.split(self.sizes), self.steps.split(self.sizes), strict=True):
            levels.append(levels[-1].index_select(1, above) + steps.index_select(1, step))
        return torch.cat(levels, 1).index_select(1, self.leaves)


class SoftReLU(Network):
    """A shallow network whose tree is descended to both sides of every cut at once, with smooth shares.

    At a cut of signed distance z (the pre-activation, with its normal scaled to unit length), a share of
    sigmoid(sharpness z) of a point goes to the active side and the rest to the inactive one. Region k gets the product
    p_k of the shares on its path, and the output is the mean of all local models, sum_k p_k (alpha_k x + beta_k).
    Half-spaces and local models are parameters, in float64 whatever the dtype outside.

    The network tends to the shallow network as the sharpness grows. Let a point lie in region k at distances of at
    least m from the D cuts on the path of k. At each of these cuts, a share of at most exp(-sharpness m) goes to the
    wrong side, so all wrong regions together weigh at most D exp(-sharpness m). The output differs by at most that
    times the largest |(alpha_l x + beta_l) - (alpha_k x + beta_k)| over all regions l.

    Outside a bounded domain the output is NaN, as for the shallow network: what is learned there would be lost when the
    network is hardened, and a loss that becomes NaN shows this at once. Select points inside with `soft.contains(x)`.

    Time and memory of a batch are proportional to points times regions.

    Args:
        function: the trunk of a complete shallow network, from which to start.
        sharpness: steepness of the cuts, in units of 1/length; it may be changed at any time.
        hardened: constructor of the shallow network that `harden` returns.

    Attributes:
        partition: the tree of the network that it was made from.
        normals: normals of the half-spaces, in the coordinates u = `projection @ x`, or u = x without a projection.
        offsets: offsets of the half-spaces: half-space j is `normals[j] @ u + offsets[j] > 0`.
        half_space_of: for each cut, the number of its half-space. Cuts by the same half-space share its numbers, so
            training moves them together.
        weights: weights of the local models, in the coordinates u.
        biases: biases of the local models.
        skip: the part of the input's weights that all local models share, or None.
        head: what follows the trunk, or None.

    Raises:
        TransformError: the sharpness is not positive and finite, or not all regions are known.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> soft = torch_shallow.transform(model).soften(sharpness=10.0)
        >>> optimizer = torch.optim.Adam(soft.parameters())
        >>> soft(torch.randn(5, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> soft.sharpness = 20.0
        >>> type(soft.harden()).__name__
        'ShallowReLU'
    """

    projection: Tensor | None
    half_space_of: Tensor
    scale: Tensor
    skip: nn.Parameter | None

    def __init__(self, function: TreeFunction, sharpness: float, hardened: Callable[..., Any]) -> None:
        super().__init__()
        reason = "soft cuts lead to all regions of the domain (unfreeze() trains the local models of known regions)"
        require_all_regions(function, "soften", reason)
        self.partition, self.hardened = function.tree, hardened
        half, local = function.half_spaces, function.selection
        weights, biases = local.maps(torch.arange(function.num_regions, device=function.device))
        self.normals, self.offsets = _parameter(half.normals), _parameter(half.offsets)
        self.weights, self.biases = _parameter(weights), _parameter(biases)
        self.register_parameter("skip", None if local.skip is None else _parameter(local.skip))
        self.register_buffer("projection", None if half.projection is None else half.projection.clone())
        self.register_buffer("half_space_of", function.half_space_of().clone(), persistent=False)
        self.levels = Levels(function.tree.children, _array(self.half_space_of))
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self.sharpness = sharpness
        self._describe(
            function.in_shape, function.out_shape, function.domain, function.head, function.tree.chart.lengths
        )
        self.to(function.device)

    @property
    def sharpness(self) -> float:
        """Steepness of the cuts, in units of 1/length; named `scale` in the state dict."""
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
        """Return the share of each region in each input: not negative, with sum 1; NaN where `forward` gives NaN."""
        points, within = self._points(x)
        shares = torch.where(within[:, None], self._shares(self._coordinates(points)), torch.nan)
        return unflatten(shares, x, self.in_shape, shares.shape[1:])

    def contains(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Shaped[Tensor, "*batch"]:
        """Tell which inputs lie in the domain."""
        return self._points(x)[1].reshape(x.shape[: x.dim() - len(self.in_shape)])

    def harden(self) -> Any:
        """Build the `ShallowReLU` that this network tends to, with its present half-spaces and local models.

        Regions that training has left without interior are removed, each with one cut. The result no longer equals a
        deep network: its regions have no activation patterns, and it may be discontinuous; `continuity_gap` measures by
        how much.

        Raises:
            TransformError: a parameter is not finite.
        """
        tree, maps = harden(self)
        shallow = self.hardened(tree, maps, head=self.head).to(self.offsets.device)
        shallow.may_be_discontinuous = True
        return shallow

    def deep_network(self, name: str = "model") -> nn.Module:
        """Refuse to be part of a model that is read, as soft cuts are not piecewise linear.

        Raises:
            TransformError: always.
        """
        raise TransformError(
            f"model: expected piecewise-linear modules, found {name}, a SoftReLU with soft cuts; put the result of its "
            "harden() in its place."
        )

    def _points(self, x: Tensor) -> tuple[Tensor, Tensor]:
        points = flatten_points(x, self.in_shape)
        return points.double(), inside(points.detach(), self.limits, rounding=rounding_of(x))

    def _coordinates(self, points: Float[Tensor, "points inputs"]) -> Float[Tensor, "points coordinates"]:
        return points if self.projection is None else linear(points, self.projection)

    def _shares(self, u: Float[Tensor, "points coordinates"]) -> Float[Tensor, "points regions"]:
        normals = self.normals if self.projection is None else self.normals @ self.projection
        square = normals.square().sum(-1)
        length = torch.where(square > 0.0, square, 1.0).sqrt()  # a cut without direction has only one side
        z = self.scale * linear(u, self.normals / length[:, None], self.offsets / length)
        return self.levels(logsigmoid(torch.stack([-z, z], -1).flatten(1))).exp()

    def _mean(self, points: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        u = self._coordinates(points)
        shares = self._shares(u)
        weights = (shares @ self.weights.flatten(1)).unflatten(1, self.weights.shape[1:])
        y = torch.einsum("poc,pc->po", weights, u) + shares @ self.biases
        return y if self.skip is None else y + linear(points, self.skip)

    def extra_repr(self) -> str:
        """Describe inputs, outputs, regions, sharpness and domain."""
        return (
            f"{self.in_shape} -> {self.out_shape}, {counted(len(self.biases), 'region')}, "
            f"{counted(len(self.offsets), 'soft half-space')} of sharpness {self.sharpness:g}, domain {self.domain!r}"
        )


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone())
