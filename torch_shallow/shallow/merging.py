"""Regions with one affine map: how many maps there are, and a smaller tree in which such regions are one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor

from torch_shallow.errors import TransformError
from torch_shallow.partition.affine_maps import AffineMaps, affine_maps
from torch_shallow.partition.partition import Partition
from torch_shallow.partition.rebuild import build, collapse
from torch_shallow.shallow.layers import HalfSpaces

if TYPE_CHECKING:
    from torch_shallow.shallow.module import ShallowReLU

VALUES_AT_ONCE = 1 << 22  # of affine maps in memory: 32 MB
TINY = 1e-300  # in place of a size of 0


def merged(shallow: ShallowReLU, tolerance: float) -> ShallowReLU:
    """See `ShallowReLU.merge`.

    Raises:
        TransformError: not all regions are known.
    """
    if not shallow.complete:
        raise TransformError(
            "merge: only a tree of cuts has leaves to merge, and this network knows only the regions that its data "
            "visit; transform the model without data, or in a Box. num_linear_regions counts their affine maps."
        )
    numbers, layer, selection = map_numbers(shallow, tolerance), shallow.half_spaces, shallow.selection
    tree, built = shallow.partition, None
    if isinstance(tree, Partition) and tree.mixed is None and _has_cuts_of(layer, affine_maps(tree)):
        built = build(tree, numbers)
    if built is None:
        new, leaves, cuts = collapse(tree, numbers)
        normals, offsets = _array(layer.normals)[cuts], _array(layer.offsets)[cuts]
    else:
        new, leaves = built
        maps = affine_maps(built[0])
        normals, offsets = maps.normals, maps.offsets
    local = AffineMaps(
        None if layer.projection is None else _array(layer.projection),
        normals,
        offsets,
        _array(selection.weights)[leaves.first],
        _array(selection.biases)[leaves.first],
        None if selection.skip is None else _array(selection.skip),
    )
    result = type(shallow)(new, local, dense=shallow.dense, head=shallow.head).to(shallow.device)
    result.source_hash, result.may_be_discontinuous = shallow.source_hash, shallow.may_be_discontinuous
    return result


@torch.no_grad()
def map_numbers(shallow: ShallowReLU, tolerance: float) -> Int[np.ndarray, "regions"]:
    """A number for each region, from 0 on: the same for regions with the same affine map.

    Maps are the same if no coefficient differs by more than `tolerance`, relative to the largest of its kind (weights,
    biases) in any region. Compared are maps that a random projection does not tell apart, with the first of them.
    """
    sizes = torch.zeros(2, dtype=torch.float64, device=shallow.device)
    for weight, bias in _maps(shallow, np.arange(shallow.num_regions)):
        sizes = torch.maximum(sizes, torch.stack([weight.abs().amax(), bias.abs().amax()]))
    allowed = tolerance * sizes
    seen, factors = [], None
    for weight, bias in _maps(shallow, np.arange(shallow.num_regions)):
        rows = torch.cat([weight.flatten(1) / sizes[0].clamp(min=TINY), bias / sizes[1].clamp(min=TINY)], 1)
        if factors is None:
            generator = torch.Generator().manual_seed(0)
            factors = torch.rand(rows.shape[1], dtype=torch.float64, generator=generator).to(rows.device)
            factors /= factors.sum()
        seen.append((rows @ factors).cpu().numpy())
    projected = np.concatenate(seen)
    numbers, left, count = np.full(shallow.num_regions, -1), np.argsort(projected, kind="stable"), 0
    while len(left):
        begins = np.diff(projected[left], prepend=-np.inf) > 2.0 * tolerance
        firsts = left[begins]
        of_group = np.cumsum(begins) - 1
        numbers[firsts] = count + np.arange(len(firsts))
        count += len(firsts)
        same = begins | _equal(shallow, left, firsts[of_group], allowed)
        numbers[left[same]] = numbers[firsts[of_group[same]]]
        left = left[~same]
    return numbers


def _equal(
    shallow: ShallowReLU,
    regions: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    allowed: Float[Tensor, "2"],
) -> Bool[np.ndarray, "pairs"]:
    """Whether the maps of two regions are the same, for each pair."""
    equal = [np.zeros(0, dtype=bool)]
    for (a, b), (c, d) in zip(_maps(shallow, regions), _maps(shallow, others), strict=True):
        same = ((a - c).abs().flatten(1) <= allowed[0]).all(1) & ((b - d).abs() <= allowed[1]).all(1)
        equal.append(same.cpu().numpy())
    return np.concatenate(equal)


def _maps(
    shallow: ShallowReLU, regions: Int[np.ndarray, "some"]
) -> Iterator[tuple[Float[Tensor, "block outputs inputs"], Float[Tensor, "block outputs"]]]:
    """The affine maps of regions, as many at a time as fit into memory."""
    entries = Size(shallow.trunk_shape).numel() * (Size(shallow.in_shape).numel() + 1)
    size = max(1, VALUES_AT_ONCE // entries)
    for start in range(0, len(regions), size):
        yield shallow.affine_maps(torch.from_numpy(regions[start : start + size]).to(shallow.device))


def _has_cuts_of(layer: HalfSpaces, maps: AffineMaps) -> bool:
    """Whether the half-spaces are still those of the deep network's neurons."""
    return np.array_equal(_array(layer.normals), maps.normals) and np.array_equal(_array(layer.offsets), maps.offsets)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
