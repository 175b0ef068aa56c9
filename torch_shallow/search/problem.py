"""Enumeration problem: all that a worker needs to know, laid out for compiled code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.exact_cell import MOST_COORDINATES
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.partition import Search

CANCELLATION = 1e-3  # a row shorter than this share of the sum of its terms is measured against that sum
ROUNDING = 2.0**-46  # share of the terms of a value that rounding may have made of 0
HARMLESS = 1e-10  # a change of the outputs by this share of their size is ignored
SPARSE, FEW = 1 / 4, 8  # a sparse stage has at most this share of weights, and this many per neuron, that are not zero


class PackedStages(Bundle):
    """The weights of a program in chart coordinates; rows over homogeneous coordinates are stored transposed."""

    sizes: np.ndarray  # int64 (stages,): number of neurons of each stage
    offsets: np.ndarray  # int64 (stages + 1,): first neuron of each stage
    inputs: np.ndarray  # float64: for each stage (dimension, neurons) of the input part, flattened
    block_starts: np.ndarray  # int64 (stages + 1,): first block of each stage
    block_sources: np.ndarray  # int64 (blocks,): stage that a block reads
    block_offsets: np.ndarray  # int64 (blocks,): where the block starts in `hidden`
    hidden: np.ndarray  # float64: blocks (source neurons, neurons), flattened
    stage_of: np.ndarray  # int64 (neurons,)
    own_rows: np.ndarray  # float64 (neurons, dimension): rows of the input part, for neurons of sparse stages
    sparse: np.ndarray  # uint8 (stages,): whether nearly all weights of the hidden part are zero; never the first
    source_starts: np.ndarray  # int64 (neurons + 1,): first source of each neuron; only those of sparse stages have any
    sources: np.ndarray  # int64 (sources,): neurons with a weight that is not zero
    source_weights: np.ndarray  # float64 (sources,): their weights
    reader_starts: np.ndarray  # int64 (neurons + 1,): first reader of each neuron
    readers: np.ndarray  # int64 (sources,): neurons that read it


class PackedProgram(PackedStages):
    """The weights of a program, and how their values are judged."""

    closed: np.ndarray  # uint8 (stages,): whether later stages read only this stage and later ones
    input_sizes: np.ndarray  # float64 (neurons,): size of the terms of the input part
    hidden_norms: np.ndarray  # float64 (neurons,): norm of the hidden part of the weight
    harmless: np.ndarray  # float64 (neurons,): size of a value that may be lost without changing the outputs noticeably


def pack(program: ReLUProgram, chart: Chart, harmless: Float[np.ndarray, "neurons"] | None = None) -> PackedProgram:
    """Lay a program out for the compiled walk, in chart coordinates; every value counts unless `harmless` is given."""
    d, blocks, input_sizes, hidden_norms = program.num_inputs, _blocks(program), [], []
    for stage in program.stages:
        weight, hidden = stage.weight[:, :d], stage.weight[:, d:]
        moved = np.linalg.norm(weight @ chart.directions.T, axis=1)
        input_sizes.append(np.abs(weight) @ np.abs(chart.origin) + np.abs(stage.bias) + moved)
        hidden_norms.append(np.linalg.norm(hidden, axis=1))
    return PackedProgram(
        **_stages(program, chart, blocks),
        closed=_closed(program, blocks),
        input_sizes=_join(input_sizes),
        hidden_norms=_join(hidden_norms),
        harmless=np.full(program.num_neurons, np.inf) if harmless is None else harmless,
    )


def pack_stages(program: ReLUProgram, chart: Chart) -> PackedStages:
    """Lay a program out for compiled code that only composes its stages, in chart coordinates."""
    return PackedStages(**_stages(program, chart, _blocks(program)))


_Blocks = list[list[tuple[int, np.ndarray]]]


def _blocks(program: ReLUProgram) -> _Blocks:
    """Return the blocks of each stage's weight that are not zero, each with the number of the stage that it reads."""
    d, offsets = program.num_inputs, program.offsets
    return [
        [
            (source, stage.weight[:, d + offsets[source] : d + offsets[source + 1]])
            for source in range(number)
            if stage.weight[:, d + offsets[source] : d + offsets[source + 1]].any()
        ]
        for number, stage in enumerate(program.stages)
    ]


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _stages(program: ReLUProgram, chart: Chart, blocks: _Blocks) -> dict[str, np.ndarray]:
    """Return the fields of `PackedStages`."""
    d, in_order = program.num_inputs, [block for of_stage in blocks for block in of_stage]
    sizes = np.array([stage.num_neurons for stage in program.stages], dtype=np.int64)

    def starts(lengths: list[int]) -> np.ndarray:
        return np.array([0, *accumulate(lengths)], dtype=np.int64)

    return {
        "sizes": sizes,
        "offsets": np.array(program.offsets),
        "inputs": _join([chart.pull_back(stage.weight[:, :d], stage.bias).T.reshape(-1) for stage in program.stages]),
        "block_starts": starts([len(of_stage) for of_stage in blocks]),
        "block_sources": np.array([source for source, _ in in_order], dtype=np.int64),
        "block_offsets": starts([block.size for _, block in in_order])[:-1],
        "hidden": _join([block.T.reshape(-1) for _, block in in_order]),
        "stage_of": np.repeat(np.arange(len(blocks)), sizes),
        **_sources(program, chart, blocks),
    }


def _sources(program: ReLUProgram, chart: Chart, blocks: _Blocks) -> dict[str, np.ndarray]:
    """Return the fields of `PackedStages` that say which stages are sparse, and what their neurons read."""
    d, neurons = program.num_inputs, program.num_neurons
    sparse, targets, sources, weights = [], [], [], []
    for number, (stage, offset) in enumerate(zip(program.stages, program.offsets, strict=False)):
        hidden, size = stage.weight[:, d:], sum(block.size for _, block in blocks[number])
        sparse.append(number > 0 and np.count_nonzero(hidden) <= min(SPARSE * size, FEW * len(hidden)))
        if sparse[-1]:
            rows, columns = np.nonzero(hidden)
            targets.append(offset + rows)
            sources.append(columns)
            weights.append(hidden[rows, columns])
    none = np.zeros(0, dtype=np.int64)
    target, source = (np.concatenate([none, *parts]) for parts in (targets, sources))
    own_rows = np.zeros((0, chart.num_coordinates + 1))
    if any(sparse):
        own_rows = chart.pull_back(program.reads, program.biases)
    starts = np.zeros((2, neurons + 1), dtype=np.int64)
    for of, start in zip((target, source), starts, strict=True):
        np.cumsum(np.bincount(of, minlength=neurons), out=start[1:])
    return {
        "own_rows": own_rows,
        "sparse": np.array(sparse, dtype=np.uint8),
        "source_starts": starts[0],
        "sources": source,
        "source_weights": _join(weights),
        "reader_starts": starts[1],
        "readers": target[np.argsort(source, kind="stable")],
    }


def harmless_values(program: ReLUProgram, chart: Chart, max_error: float | None = None) -> Float[np.ndarray, "neurons"]:
    """Return the size up to which a value of each neuron may be lost, at unit vectors of homogeneous chart coordinates.

    A ReLU that is off by some value changes an output by at most that value times the sum, over all paths from the
    neuron to the output, of the products of the absolute weights. In a box, all neurons together may lose half of
    `max_error`. If that is None, each may lose a share of the largest output found at the centre, part of the way along
    each coordinate, and between these; where outputs are nearly zero at all of these points, every value matters. It
    also does in other domains, which may be unbounded.
    """
    d, n, p = program.num_inputs, program.num_neurons, chart.num_coordinates
    if p > MOST_COORDINATES or n == 0:
        return np.full(n, np.inf)
    if not chart.is_box:
        return np.zeros(n)
    steps = np.concatenate([np.eye(p), -np.eye(p), np.linspace(-0.9, 0.7, p)[None]])
    v = np.concatenate([np.zeros((1, p)), 0.61 * steps, 0.23 * steps])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        size = np.abs(program(chart.lift(v))).max(axis=0)
        if max_error is not None:  # the longest vector of the box has length sqrt(p + 1)
            size = np.full(len(size), max_error / (2 * n * math.sqrt(p + 1) * HARMLESS))
        gain = np.abs(program.out_weight[:, d:]) / size[:, None]
        for stage, start, stop in reversed(
            list(zip(program.stages, program.offsets, program.offsets[1:], strict=False))
        ):
            gain[:, :start] += np.nan_to_num(gain[:, start:stop], nan=np.inf) @ np.abs(stage.weight[:, d:])
        most = np.nan_to_num(gain, nan=np.inf).max(axis=0, initial=0.0)
        return HARMLESS / most


def _closed(program: ReLUProgram, blocks: _Blocks) -> np.ndarray:
    """Return whether all stages after each stage read neither the input nor any stage before that stage."""
    d, closed, first_read = program.num_inputs, [], len(blocks)  # by the stages after the present one
    for number in reversed(range(len(blocks))):
        closed.append(first_read >= number)
        sources = [source for source, _ in blocks[number]]
        first_read = min(first_read, -1 if program.stages[number].weight[:, :d].any() else min(sources, default=number))
    return np.array(closed[::-1], dtype=np.uint8)


@compiled("contract", "nsz")
def compose(network, maps, norms_of_all, pattern, active, stage):
    """Write the rows of a stage's pre-activations under `pattern`, and the sizes to measure their values against.

    `active` is work space with room for all neurons.
    """
    n, offset = network.sizes[stage], network.offsets[stage]
    dimension = maps.shape[0] // max(network.offsets[network.sizes.shape[0]], 1)
    rows = maps[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    begin_rows(network, rows, stage)
    norms = norms_of_all[offset : offset + n]
    square = 0.0
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        first, count = network.offsets[network.block_sources[block]], 0
        for j in range(network.sizes[network.block_sources[block]]):
            if pattern[first + j] == 1:
                square += norms_of_all[first + j] ** 2
                active[count] = j
                count += 1
        add_block(network, rows, maps, block, active[:count])
    size = np.sqrt(square)
    for i in range(n):
        norms[i] = 0.0
    for k in range(dimension):
        for i in range(n):
            norms[i] += rows[k, i] ** 2
    for i in range(n):
        terms = CANCELLATION * (network.hidden_norms[offset + i] * size + network.input_sizes[offset + i])
        norms[i] = max(np.sqrt(norms[i]), terms)


@compiled()
def write_doubts(network, norms_of_all, pattern, stage, tolerance, doubts):
    """Write the size up to which values of the neurons of a composed stage are taken for 0.

    Beyond the tolerance, signs are certain; between this size and the tolerance they may be real and may matter.
    """
    offset, square = network.offsets[stage], 0.0
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        first = network.offsets[network.block_sources[block]]
        for j in range(network.sizes[network.block_sources[block]]):
            if pattern[first + j] == 1:
                square += norms_of_all[first + j] ** 2
    size = np.sqrt(square)
    for i in range(offset, offset + network.sizes[stage]):
        terms = network.hidden_norms[i] * size + network.input_sizes[i]
        doubts[i] = min(max(ROUNDING * terms, network.harmless[i]), tolerance * norms_of_all[i])


@compiled("contract", "nsz")
def compose_neuron(network, maps, rows, norms_of_all, pattern, neuron, tolerance, doubts):
    """Write the row of one neuron of a sparse stage, as `compose` and `write_doubts` do for a whole stage.

    `rows` has one row for each neuron; it is also written to `maps`, for stages that are not sparse.
    """
    dimension, row, stage = rows.shape[1], rows[neuron], network.stage_of[neuron]
    place, step = network.offsets[stage] * (dimension - 1) + neuron, network.sizes[stage]
    for k in range(dimension):
        row[k] = network.own_rows[neuron, k]
    terms, square = network.input_sizes[neuron], 0.0
    for at in range(network.source_starts[neuron], network.source_starts[neuron + 1]):
        source, weight = network.sources[at], network.source_weights[at]
        if pattern[source] == 1:
            terms += abs(weight) * norms_of_all[source]
            for k in range(dimension):
                row[k] += weight * rows[source, k]
    for k in range(dimension):
        maps[place + k * step] = row[k]
        square += row[k] ** 2
    norm = max(np.sqrt(square), CANCELLATION * terms)
    norms_of_all[neuron] = norm
    doubts[neuron] = min(max(ROUNDING * terms, network.harmless[neuron]), tolerance * norm)


@compiled()
def begin_rows(network, rows, stage):
    """Write the rows of a stage for the case that no earlier neuron is active."""
    start = network.offsets[stage] * rows.shape[0]
    for k in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            rows[k, i] = network.inputs[start + k * rows.shape[1] + i]


@compiled("contract", "nsz")
def add_block(network, rows, maps, block, active):
    """Add the rows of some neurons of the stage that a block reads, four at a time, times the block's weights."""
    source, at = network.block_sources[block], network.block_offsets[block]
    n_source, first = network.sizes[source], network.offsets[source]
    dimension, n = rows.shape
    source_rows = maps[first * dimension : (first + n_source) * dimension].reshape(dimension, n_source)
    weights = network.hidden[at : at + n_source * n].reshape(n_source, n)
    fours = active.shape[0] // 4 * 4
    for j in range(0, fours, 4):
        a, b, c, d = active[j], active[j + 1], active[j + 2], active[j + 3]
        of_a, of_b, of_c, of_d = weights[a], weights[b], weights[c], weights[d]
        for k in range(dimension):
            row, by_a, by_b = rows[k], source_rows[k, a], source_rows[k, b]
            by_c, by_d = source_rows[k, c], source_rows[k, d]
            for i in range(n):
                row[i] = row[i] + by_a * of_a[i] + by_b * of_b[i] + by_c * of_c[i] + by_d * of_d[i]
    for j in range(fours, active.shape[0]):
        of_j = weights[active[j]]
        for k in range(dimension):
            row, by_j = rows[k], source_rows[k, active[j]]
            for i in range(n):
                row[i] += by_j * of_j[i]


@compiled()
def pack_status(status, packed, row):
    """Write a pattern as `np.packbits` does, reading words of eight neurons with one byte, 0 or 1, for each."""
    for byte in range(packed.shape[1]):
        packed[row, byte] = (status[byte] * np.uint64(0x8040201008040201)) >> np.uint64(56)


@compiled()
def pack_pattern(network, pattern, packed, row):
    """Write a pattern as `np.packbits` does."""
    for byte in range(packed.shape[1]):
        packed[row, byte] = 0
    for i in range(network.offsets[network.sizes.shape[0]]):
        if pattern[i] == 1:
            packed[row, i >> 3] |= np.uint8(128 >> (i & 7))


@dataclass(frozen=True)
class Cell:
    """A cell of the growing tree, given by half-spaces.

    Attributes:
        parent: Code of its place in the tree, as in `Found`.
        depth: Number of cuts above it.
        status: 1 for active neurons, 0 for inactive ones, -1 for those not decided yet.
        rows: The half-spaces on its path, `rows @ (v, t) >= 0` in chart coordinates, without those of the domain.
        point: An interior point, in homogeneous coordinates.
    """

    parent: int
    depth: int
    status: Int8[np.ndarray, "neurons"]
    rows: Float[np.ndarray, "rows homogeneous"]
    point: Float[np.ndarray, "homogeneous"]


def whole_domain(chart: Chart, num_neurons: int) -> Cell:
    """Return the cell from which every walk starts."""
    status = np.full(num_neurons, -1, dtype=np.int8)
    return Cell(-1, 0, status, np.zeros((0, chart.num_coordinates + 1)), np.append(chart.inner, 1.0))


@dataclass(frozen=True)
class Problem:
    """A program on a domain, and how to search it.

    Attributes:
        program: The network.
        chart: Coordinates and domain.
        network: The balanced program, packed in the coordinates of the chart; workers do not pack it again, since their
            linear algebra may round differently.
        search: How cells are searched.
    """

    program: ReLUProgram
    chart: Chart
    network: PackedProgram
    search: Search

    @classmethod
    def of(cls, program: ReLUProgram, chart: Chart, search: Search) -> Problem:
        """Pack a program."""
        balanced = program.balanced
        harmless = harmless_values(balanced, chart, search.max_error)
        return cls(program, chart, pack(balanced, chart, harmless), search)
