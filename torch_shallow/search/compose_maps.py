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
    network,
    order,
    ends,
    cut_neurons,
    patterns,
    cut_rows,
    weights,
    biases,
    rows,
    active,
    counts,
    stale,
    before,
    start,
    stop,
):
    """Process a range of regions, recomposing what has changed from one to the next.

    That is each stage after the first one whose pattern has changed; in a sparse stage, only the neurons that read a
    changed neuron.

    For each region, write its local model, if there is room for any, and the row of each cut that has it as first
    region: all stages on the path of the cut are composed there. `rows` has room for the rows of all neurons and
    outputs; `active` for the numbers of each stage's active neurons, `counts` for how many there are (-1 where they are
    not listed), `stale` for flags of the rows of sparse stages that have to be composed, and `before` for one row.
    """
    num_stages, dimension = network.sizes.shape[0] - 1, cut_rows.shape[1]
    start_of_output, outputs = network.offsets[num_stages] * dimension, weights.shape[1]
    cut, last = 0 if start == 0 else ends[start - 1], -1
    for region in range(start, stop):
        if weights.shape[0] == 0 and cut == ends[region]:
            continue
        stage = 0
        if last < 0:
            compose(network, patterns, region, rows, active, counts, 0)
            for neuron in range(stale.shape[0]):
                stale[neuron] = 1
        else:
            neuron = first_difference(patterns, last, region)
            while stage < num_stages and network.offsets[stage + 1] <= neuron:
                stage += 1
            if network.sources.shape[0] > 0:
                mark_changed(network, patterns, last, region, stage, stale)
        while stage < num_stages:
            counts[stage] = -1  # not listed yet
            stage += 1
            if network.sparse[stage] == 1:
                compose_stale(network, patterns, region, rows, stage, stale, before)
            elif stage < num_stages:
                compose(network, patterns, region, rows, active, counts, stage)
                if network.sources.shape[0] > 0:
                    for neuron in range(network.offsets[stage], network.offsets[stage + 1]):
                        mark_readers(network, neuron, stale)
        last = region
        if weights.shape[0] > 0:
            if network.sparse[num_stages] == 0:
                compose(network, patterns, region, rows, active, counts, num_stages)
            for k in range(dimension - 1):
                for o in range(outputs):
                    weights[region, o, k] = rows[start_of_output + k * outputs + o]
            for o in range(outputs):
                biases[region, o] = rows[start_of_output + (dimension - 1) * outputs + o]
        while cut < ends[region]:
            neuron = cut_neurons[order[cut]]
            stage = network.stage_of[neuron]
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
def is_active(patterns, region, neuron):
    """Return 1 if a neuron is active in a region, else 0."""
    return (patterns[region, neuron >> 3] >> (7 - (neuron & 7))) & 1


@compiled()
def mark_readers(network, neuron, stale):
    """Flag the rows of all neurons of sparse stages that read a neuron."""
    for at in range(network.reader_starts[neuron], network.reader_starts[neuron + 1]):
        stale[network.readers[at]] = 1


@compiled()
def mark_changed(network, patterns, last, region, stage, stale):
    """Flag the readers of all neurons, from a given stage on, that are active in only one of two regions."""
    for byte in range(network.offsets[stage] >> 3, patterns.shape[1]):
        bits, neuron = patterns[last, byte] ^ patterns[region, byte], byte << 3
        while bits != 0:
            if bits >= 128:
                mark_readers(network, neuron, stale)
            bits = np.uint8(bits << 1)
            neuron += 1


@compiled()
def compose_stale(network, patterns, region, rows, stage, stale, before):
    """Compose the flagged rows of a sparse stage, and flag the rows that read those that have changed."""
    dimension, n, offset = network.own_rows.shape[1], network.sizes[stage], network.offsets[stage]
    is_last = stage == network.sizes.shape[0] - 1
    neuron, end = offset - 1, offset + n
    while True:
        neuron += 1
        while neuron < end and stale[neuron] == 0:
            neuron += 1
        if neuron == end:
            break
        stale[neuron], place = 0, offset * (dimension - 1) + neuron
        for k in range(dimension):
            before[k] = rows[place + k * n]
            rows[place + k * n] = network.own_rows[neuron, k]
        for at in range(network.source_starts[neuron], network.source_starts[neuron + 1]):
            source, weight = network.sources[at], network.source_weights[at]
            if is_active(patterns, region, source) == 1:
                earlier = network.stage_of[source]
                there, step = network.offsets[earlier] * (dimension - 1) + source, network.sizes[earlier]
                for k in range(dimension):
                    rows[place + k * n] += weight * rows[there + k * step]
        if not is_last and is_active(patterns, region, neuron) == 1:
            for k in range(dimension):
                if rows[place + k * n] != before[k]:
                    mark_readers(network, neuron, stale)
                    break


@compiled()
def list_active(network, patterns, region, stage, active, counts):
    """Write the numbers of a stage's active neurons, without a branch, which no processor could predict."""
    first, count = network.offsets[stage], 0
    for i in range(network.sizes[stage]):
        neuron = first + i
        active[first + count] = i
        count += is_active(patterns, region, neuron)
    counts[stage] = count


@compiled()
def compose(network, patterns, region, all_rows, active, counts, stage):
    """Write the rows of a stage's pre-activations, and list the active neurons of the stages that it reads."""
    n, offset = network.sizes[stage], network.offsets[stage]
    dimension = all_rows.shape[0] // max(network.offsets[network.sizes.shape[0]], 1)
    rows = all_rows[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    begin_rows(network, rows, stage)
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        source = network.block_sources[block]
        first = network.offsets[source]
        if counts[source] < 0:
            list_active(network, patterns, region, source, active, counts)
        if n == 1:
            add_to_single(network, rows, all_rows, block, active[first : first + counts[source]])
        else:
            add_block(network, rows, all_rows, block, active[first : first + counts[source]])


@compiled("contract", "nsz")
def add_to_single(network, rows, all_rows, block, active):
    """Do the same as `add_block` for a stage of one neuron: the same sums in the same order, without loops over it."""
    source, at = network.block_sources[block], network.block_offsets[block]
    n_source, first, dimension = network.sizes[source], network.offsets[source], rows.shape[0]
    source_rows = all_rows[first * dimension : (first + n_source) * dimension].reshape(dimension, n_source)
    for k in range(dimension):
        value = rows[k, 0]
        for j in range(active.shape[0]):
            value += source_rows[k, active[j]] * network.hidden[at + active[j]]
        rows[k, 0] = value
