"""Count distinct affine maps, and merge regions with the same map in a smaller tree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.functions import PiecewiseAffine, TreeFunction, require_all_regions
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.functions.layers import Selection
from torch_shallow.geometry.sharing import blocks
from torch_shallow.geometry.tree import Tree
from torch_shallow.search.affine_maps import AffineMaps, affine_maps
from torch_shallow.search.balance import build, collapse
from torch_shallow.search.partition import Partition

SAME_MAP = 1e-12  # affine maps that differ by less than this, relative to their size, are the same
VALUES_AT_ONCE = 1 << 22  # numbers of affine maps held in memory: 32 MB
TINY = 1e-300  # used in place of a size of 0
ROUNDING = 4e-15  # relative size of what remains of cancelling terms when maps are composed


def merged(function: TreeFunction, tolerance: float) -> tuple[Tree, AffineMaps]:
    """Compute the tree and the maps of `ShallowReLU.merge`; without local models if they are not stored.

    Raises:
        TransformError: not all regions are known.
    """
    reason = "only a complete tree of cuts can be rebuilt (num_linear_regions counts the maps of known regions)"
    require_all_regions(function, "merge", reason)
    numbers, layer, selection = map_numbers(function, tolerance), function.half_spaces, function.selection
    tree, built = function.tree, None
    if isinstance(selection, ComposedSelection):
        selection.require_program("merge", tree, layer.projection)
    stored = _array(layer.rows)[_array(function.half_space_of())]
    if isinstance(tree, Partition) and tree.mixed is None and _has_cuts_of(stored, tree):
        built = build(tree, numbers)
    if built is None:
        new, leaves, cuts = collapse(tree, numbers)
        rows = stored[cuts]
    else:
        new, leaves = built
        rows = affine_maps(new, local_models=False).rows
    first = leaves.first if isinstance(selection, Selection) else leaves.first[:0]
    weights, biases = selection.maps(torch.tensor(first, dtype=torch.int64, device=function.device))
    local = AffineMaps(
        None if layer.projection is None else _array(layer.projection),
        rows,
        _array(weights),
        _array(biases),
        None if selection.skip is None else _array(selection.skip),
    )
    return new, local


@torch.no_grad()
def map_numbers(function: PiecewiseAffine, tolerance: float) -> Int[np.ndarray, "regions"]:
    """Number the affine maps of the regions from 0 on: regions with the same affine map get the same number.

    A map is compared only with maps that a random projection cannot distinguish from it; `_same` defines equality.

    Raises:
        TransformError: the tolerance is not a number from 0 to below 1, or a map is not finite.
    """
    if not isinstance(tolerance, (int, float)) or not 0.0 <= tolerance < 1.0:
        raise argument_error(tolerance, int, float)(
            f"tolerance: expected a number of at least 0 and below 1, found {tolerance!r}."
        )
    projected, reach, largest = _project(function, tolerance)
    numbers, left, count = np.full(function.num_regions, -1), np.argsort(projected, kind="stable"), 0
    while len(left):
        values, heads, limit = projected[left], [], -np.inf
        for at, (value, far) in enumerate(zip(values.tolist(), reach[left].tolist(), strict=True)):
            if value > limit:
                heads.append(at)
                limit = value + 2.0 * far
        below = np.searchsorted(heads, np.arange(len(left)), side="right") - 1
        new = np.zeros(len(left), dtype=bool)
        new[heads] = True
        numbers[left[heads]] = count + np.arange(len(heads))
        for nearest in (below, np.minimum(below + 1, len(heads) - 1)):
            open_ones = np.flatnonzero(numbers[left] < 0)
            others = left[np.array(heads)[nearest[open_ones]]]
            found = open_ones[_same(function, left[open_ones], others, tolerance, largest)]
            numbers[left[found]] = count + nearest[found]
        count += len(heads)
        left = left[numbers[left] < 0]
    return numbers


def _project(
    function: PiecewiseAffine, tolerance: float
) -> tuple[Float[np.ndarray, "regions"], Float[np.ndarray, "regions"], Float[Tensor, "2 outputs"]]:
    """Return a random projection of each map, its distance from those of equal maps, and the largest sizes."""
    everything = np.arange(function.num_regions)
    largest = torch.stack([_sizes(*maps).amax(0) for maps in _maps(function, everything)]).amax(0)
    if not largest.isfinite().all():
        raise TransformError(
            "selection: expected finite local models, found infinity or NaN; check the training, or go back to earlier "
            "weights."
        )
    scale = largest.clamp(min=TINY)
    inputs, outputs = Size(function.in_shape).numel(), largest.shape[1]
    factors = torch.rand(outputs, inputs + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors = (factors / factors.sum()).to(largest.device)
    projected, reach = [np.zeros(0)], [np.zeros(0)]
    for weight, bias in _maps(function, everything):
        coefficients = torch.cat([weight / scale[0, :, None], (bias / scale[1])[..., None]], 2)
        share = torch.stack([factors[:, :-1].sum(1), factors[:, -1]]) / scale
        projected.append((coefficients * factors).sum((1, 2)).cpu().numpy())
        reach.append(((tolerance * _sizes(weight, bias) + ROUNDING * largest) * share).sum((1, 2)).cpu().numpy())
    return np.concatenate(projected), np.concatenate(reach), largest


def _same(
    function: PiecewiseAffine,
    regions: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    tolerance: float,
    largest: Float[Tensor, "2 outputs"],
) -> Bool[np.ndarray, "pairs"]:
    """Tell whether the maps of two regions are the same, for each pair.

    For each output, the weights of equal maps differ by no more than `tolerance` times the largest weight of the two,
    and their biases likewise, or by no more than the rounding of the largest weights and biases of all regions.
    """
    same = [np.zeros(0, dtype=bool)]
    for (a, b), (c, d) in zip(_maps(function, regions), _maps(function, others), strict=True):
        allowed = tolerance * torch.maximum(_sizes(a, b), _sizes(c, d)) + ROUNDING * largest
        same.append((_sizes(a - c, b - d) <= allowed).all((1, 2)).cpu().numpy())
    return np.concatenate(same)


def _sizes(
    weight: Float[Tensor, "regions outputs inputs"], bias: Float[Tensor, "regions outputs"]
) -> Float[Tensor, "regions 2 outputs"]:
    """Return the largest absolute weight of each output, and the absolute value of its bias."""
    return torch.stack([weight.abs().amax(2), bias.abs()], 1)


def _maps(
    function: PiecewiseAffine, regions: Int[np.ndarray, "some"]
) -> Iterator[tuple[Float[Tensor, "block outputs inputs"], Float[Tensor, "block outputs"]]]:
    """Yield the affine maps of regions, in blocks that fit into memory."""
    entries = Size(function.out_shape).numel() * (Size(function.in_shape).numel() + 1)
    for block in blocks(len(regions), entries, VALUES_AT_ONCE):
        yield function.affine_maps(torch.from_numpy(regions[block]).to(function.device))


def _has_cuts_of(rows: Float[np.ndarray, "cuts homogeneous"], tree: Partition) -> bool:
    """Tell whether the half-spaces of the cuts are still those of the deep network's neurons."""
    return np.array_equal(rows, affine_maps(tree, local_models=False).rows)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
