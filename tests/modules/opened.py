"""Networks with incomplete partitions: complete ones of which whole subtrees are forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tests.modules.torch_networks import BOUNDED, shared
from torch_shallow import ShallowReLU
from torch_shallow.search.affine_maps import affine_maps
from torch_shallow.search.partition import Partition


@dataclass(frozen=True)
class Opened:
    """A partition with open cells, and the numbers of its regions and cuts in the complete one."""

    partition: Partition
    regions: np.ndarray
    cuts: np.ndarray


def opened(whole: Partition, codes: set[int]) -> Opened:
    """Return the partition without what is below some codes, `2 * cut + side`, and without cuts between open cells."""
    children, (parents, _) = whole.children.copy(), whole.parents
    children.reshape(-1)[sorted(codes)] = ~whole.num_regions
    for cut in reversed(range(len(children))):
        if (children[cut] == ~whole.num_regions).all():
            children.reshape(-1)[parents[cut]] = ~whole.num_regions
    reached, level = [], [0][: len(children)]
    while level:
        reached += level
        level = [int(child) for cut in level for child in children[cut] if child >= 0]
    cuts = np.sort(np.array(reached, dtype=np.int64))
    left = children[cuts]
    regions = np.sort(~left[(left < 0) & (left != ~whole.num_regions)])
    numbers = np.full(whole.num_regions + 1, len(regions))
    numbers[regions] = np.arange(len(regions))
    inner = np.searchsorted(cuts, left)
    partition = replace(
        whole,
        children=np.where(left >= 0, inner, ~numbers[np.where(left < 0, ~left, 0)]),
        cut_neurons=whole.cut_neurons[cuts],
        packed_patterns=whole.packed_patterns[regions],
        points=whole.points[regions],
    )
    return Opened(partition, regions, cuts)


def some_codes(whole: Partition, rng: np.random.Generator, share: float) -> set[int]:
    """Return random cells, chosen so that at least the first region stays."""
    path = {2 * cut + side for cut, side in whole.path(0)}
    return {int(code) for code in np.flatnonzero(rng.random(2 * whole.num_cuts) < share)} - path


def network_of(part: Opened, whole: ShallowReLU) -> ShallowReLU:
    """Return the network of a part of the regions, with the parameters of the whole one."""
    maps = affine_maps(whole.partition)
    maps = replace(
        maps,
        rows=maps.rows[part.cuts],
        weights=maps.weights[part.regions],
        biases=maps.biases[part.regions],
    )
    shallow = ShallowReLU(part.partition, maps, head=whole.head)
    shallow.source_hash = whole.source_hash
    return shallow


@cache
def part_of(name: str) -> tuple[Opened, ShallowReLU]:
    """Return a part of a network of `tests.modules.torch_networks`, with some 30 % of its regions."""
    whole = shared(name)
    parts = (opened(whole.partition, some_codes(whole.partition, np.random.default_rng(s), 0.08)) for s in range(99))
    part = min(parts, key=lambda part: abs(len(part.regions) - 0.3 * whole.num_regions))
    return part, network_of(part, whole)


def everywhere(name: str, count: int = 200) -> Tensor:
    """Return interior points of all regions of the whole network, random points, and some outside a bounded domain."""
    whole = shared(name)
    inside = torch.from_numpy(whole.partition.interior_points()).reshape(-1, *whole.in_shape)
    inside = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))[:count]]
    scattered = torch.randn(count, *whole.in_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.cat([inside, scattered, 100.0 + inside[:5]] if name in BOUNDED else [inside, scattered])
