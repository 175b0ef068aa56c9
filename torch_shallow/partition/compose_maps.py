"""Going through a whole partition and composing the program on the path to every cut and region."""

from __future__ import annotations

import numpy as np

from torch_shallow.partition.compiled import compiled
from torch_shallow.partition.network import compose


@compiled()
def first_regions(children, first):
    """Write the first region below each cut; children have larger numbers than their parents."""
    for cut in range(children.shape[0] - 1, -1, -1):
        below = children[cut]
        first[cut] = min(~below[0] if below[0] < 0 else first[below[0]], ~below[1] if below[1] < 0 else first[below[1]])
    return first


@compiled()
def fill_maps(network, first, order, cut_neurons, cut_stages, patterns, cut_rows, maps, rows, norms, pattern):
    """Go through the regions in order, recomposing the stages behind the first one whose pattern has changed.

    `order` sorts the cuts by the `first` region below them, where all stages on a cut's path are composed.
    """
    num_stages, dimension = network.sizes.shape[0] - 1, maps.shape[1]
    neurons, outputs = network.offsets[num_stages], maps.shape[2]
    next_cut = 0
    for i in range(neurons):
        pattern[i] = 2
    if num_stages > 0:
        compose(network, rows, norms, pattern, 0)
    for region in range(maps.shape[0]):
        for stage in range(num_stages):
            changed = False
            for i in range(network.offsets[stage], network.offsets[stage + 1]):
                active = np.uint8((patterns[region, i >> 3] >> (7 - (i & 7))) & 1)
                changed |= active != pattern[i]
                pattern[i] = active
            if changed:
                for i in range(network.offsets[stage + 1], neurons):
                    pattern[i] = 2
                if stage + 1 < num_stages:
                    compose(network, rows, norms, pattern, stage + 1)
        compose(network, rows, norms, pattern, num_stages)
        start = neurons * dimension
        for k in range(dimension):
            for o in range(outputs):
                maps[region, k, o] = rows[start + k * outputs + o]
        while next_cut < order.shape[0] and first[order[next_cut]] == region:
            cut = order[next_cut]
            stage = cut_stages[cut]
            n, offset = network.sizes[stage], network.offsets[stage]
            for k in range(dimension):
                cut_rows[cut, k] = rows[offset * dimension + k * n + cut_neurons[cut] - offset]
            next_cut += 1
