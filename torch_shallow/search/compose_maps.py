"""Pass over a whole partition that composes the program on the path to every cut and region."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.search.problem import add_block, begin_rows


@compiled()
def first_regions(children, first):
    """Write the first region below each cut, or the number of regions if there is none.

    Children must have larger numbers than their parents; open cells are numbered after all regions.
    """
    for cut in range(children.shape[0] - 1, -1, -1):
        below = children[cut]
        first[cut] = min(~below[0] if below[0] < 0 else first[below[0]], ~below[1] if below[1] < 0 else first[below[1]])


@compiled()
def sort_cuts(first, order, ends):
    """Sort cuts by their first region: those of region k are `order[ends[k - 1] : ends[k]]`, from 0 for k = 0."""
    for region in range(ends.shape[0]):
        ends[region] = 0
    for cut in range(first.shape[0]):
        ends[first[cut]] += 1
    before = 0
    for region in range(ends.shape[0]):
        before += ends[region]
        ends[region] = before - ends[region]
    for cut in range(first.shape[0]):
        order[ends[first[cut]]] = cut
        ends[first[cut]] += 1


@compiled(vectorise=True)
def fill_maps(
    network, order, ends, cut_neurons, stage_of, patterns, cut_rows, weights, biases, rows, active, counts, start, stop
):
    """Process a range of regions, recomposing the stages after the first one whose pattern has changed.

    For each region, write its local model, if there is room for any, and the row of each cut that has it as first
    region: all stages on the path of the cut are composed there. `rows` has room for the rows of all neurons and
    outputs; `active` for the numbers of each stage's active neurons, and `counts` for how many there are.
    """
    num_stages, dimension = network.sizes.shape[0] - 1, cut_rows.shape[1]
    start_of_output, outputs = network.offsets[num_stages] * dimension, weights.shape[1]
    cut, last = 0 if start == 0 else ends[start - 1], -1
    for region in range(start, stop):
        if weights.shape[0] == 0 and cut == ends[region]:
            continue
        stage = 0
        if last < 0:
            compose(network, rows, active, counts, 0)
        else:
            neuron = first_difference(patterns, last, region)
            while stage < num_stages and network.offsets[stage + 1] <= neuron:
                stage += 1
        while stage < num_stages:
            list_active(network, patterns, region, stage, active, counts)
            stage += 1
            if stage < num_stages:
                compose(network, rows, active, counts, stage)
        last = region
        if weights.shape[0] > 0:
            compose(network, rows, active, counts, num_stages)
            for k in range(dimension - 1):
                for o in range(outputs):
                    weights[region, o, k] = rows[start_of_output + k * outputs + o]
            for o in range(outputs):
                biases[region, o] = rows[start_of_output + (dimension - 1) * outputs + o]
        while cut < ends[region]:
            neuron = cut_neurons[order[cut]]
            stage = stage_of[neuron]
            n, offset = network.sizes[stage], network.offsets[stage]
            for k in range(dimension):
                cut_rows[order[cut], k] = rows[offset * dimension + k * n + neuron - offset]
            cut += 1


@compiled()
def first_difference(patterns, region, other):
    """Return the first neuron in which two packed patterns differ, or a number after all neurons."""
    for byte in range(patterns.shape[1]):
        bits = patterns[region, byte] ^ patterns[other, byte]
        if bits != 0:
            neuron = byte << 3
            while bits < 128:
                bits = np.uint8(bits << 1)
                neuron += 1
            return neuron
    return patterns.shape[1] << 3


@compiled()
def list_active(network, patterns, region, stage, active, counts):
    """Write the numbers of a stage's active neurons, without a branch, which no processor could predict."""
    first, count = network.offsets[stage], 0
    for i in range(network.sizes[stage]):
        neuron = first + i
        active[first + count] = i
        count += (patterns[region, neuron >> 3] >> (7 - (neuron & 7))) & 1
    counts[stage] = count


@compiled()
def compose(network, all_rows, active, counts, stage):
    """Write the rows of a stage's pre-activations, given the active neurons of the stages before."""
    n, offset = network.sizes[stage], network.offsets[stage]
    dimension = all_rows.shape[0] // max(network.offsets[network.sizes.shape[0]], 1)
    rows = all_rows[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    begin_rows(network, rows, stage)
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        source = network.block_sources[block]
        first = network.offsets[source]
        add_block(network, rows, all_rows, block, active[first : first + counts[source]])
