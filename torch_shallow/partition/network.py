"""A program laid out for compiled code, and the composition of its stages under a pattern."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from torch_shallow.partition.chart import Chart
from torch_shallow.partition.compiled import compiled
from torch_shallow.trace.program import ReLUProgram

CANCELLATION = 1e-3  # a row shorter than this, relative to what it was added up from, is measured against that


class Network(NamedTuple):
    """A program in chart coordinates, packed: rows over homogeneous coordinates are stored transposed."""

    sizes: np.ndarray  # int64 (stages,): neurons of each stage
    offsets: np.ndarray  # int64 (stages + 1,): first neuron of each stage
    inputs: np.ndarray  # float64: for each stage (dimension, neurons) of the input part, flattened
    closed: np.ndarray  # uint8 (stages,): whether later stages read nothing but this stage and later ones
    block_starts: np.ndarray  # int64 (stages + 1,): first block of each stage
    block_sources: np.ndarray  # int64 (blocks,): stage that a block reads
    block_offsets: np.ndarray  # int64 (blocks,): where the block starts in `hidden`
    hidden: np.ndarray  # float64: blocks (source neurons, neurons), flattened
    input_sizes: np.ndarray  # float64 (neurons,): size of the terms of the input part
    hidden_norms: np.ndarray  # float64 (neurons,): norm of the hidden part of the weight


def pack(program: ReLUProgram, chart: Chart) -> Network:
    """Lay a program out for the compiled walk, in chart coordinates."""
    d = program.num_inputs
    inputs, hidden, starts, sources, offsets = [], [], [0], [], []
    input_sizes, hidden_norms = [], []
    size = 0
    for stage in program.stages:
        weight, bias = stage.weight[:, :d], stage.bias
        inputs.append(chart.pull_back(weight, bias).T.reshape(-1))
        input_sizes.append(
            np.abs(weight) @ np.abs(chart.origin) + np.abs(bias) + np.linalg.norm(weight @ chart.directions.T, axis=1)
        )
        hidden_norms.append(np.linalg.norm(stage.weight[:, d:], axis=1))
        for source in range(len(inputs) - 1):
            block = stage.weight[:, d + program.offsets[source] : d + program.offsets[source + 1]]
            if block.any():
                sources.append(source)
                offsets.append(size)
                hidden.append(block.T.reshape(-1))
                size += block.size
        starts.append(len(sources))

    def join(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros(0), *parts])

    def integers(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    return Network(
        integers([stage.num_neurons for stage in program.stages]),
        integers(list(program.offsets)),
        join(inputs),
        _closed(program),
        integers(starts),
        integers(sources),
        integers(offsets),
        join(hidden),
        join(input_sizes),
        join(hidden_norms),
    )


def _closed(program: ReLUProgram) -> np.ndarray:
    """Whether all stages after each stage read nothing before that stage, nor the input."""
    d, offsets = program.num_inputs, program.offsets
    first_read = [
        np.flatnonzero(stage.weight.any(axis=0)).min(initial=stage.weight.shape[1]) for stage in program.stages
    ]
    return np.array(
        [
            all(first_read[later] >= d + offsets[s] for later in range(s + 1, len(offsets) - 1))
            for s in range(len(first_read))
        ],
        dtype=np.uint8,
    )


@compiled("contract", "nsz")
def compose(network, maps, norms_of_all, pattern, stage):
    """Write the rows of a stage's pre-activations under `pattern`, and the sizes to measure their values against."""
    n, offset = network.sizes[stage], network.offsets[stage]
    dimension = maps.shape[0] // max(network.offsets[-1], 1)
    rows = maps[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    inputs = network.inputs[offset * dimension : (offset + n) * dimension].reshape(dimension, n)
    for k in range(dimension):
        for i in range(n):
            rows[k, i] = inputs[k, i]
    norms = norms_of_all[offset : offset + n]
    square = 0.0
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        source = network.block_sources[block]
        n_source, first = network.sizes[source], network.offsets[source]
        source_rows = maps[first * dimension : (first + n_source) * dimension].reshape(dimension, n_source)
        at = network.block_offsets[block]
        weights = network.hidden[at : at + n_source * n].reshape(n_source, n)
        for j in range(n_source):
            if pattern[first + j] == 1:
                square += norms_of_all[first + j] ** 2
                for k in range(dimension):
                    factor = source_rows[k, j]
                    for i in range(n):
                        rows[k, i] += factor * weights[j, i]
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
def pack_pattern(network, pattern, packed, row):
    """Write a pattern as `np.packbits` does."""
    for byte in range(packed.shape[1]):
        packed[row, byte] = 0
    for i in range(network.offsets[-1]):
        if pattern[i] == 1:
            packed[row, i >> 3] |= np.uint8(128 >> (i & 7))
