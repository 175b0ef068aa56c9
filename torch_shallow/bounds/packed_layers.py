"""Packed network in the form that bounds read."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.bundle import Bundle


class PackedLayers(Bundle):
    """A network with the outputs as its last stage, without a ReLU, and what is known of it from some stage on.

    Rows over homogeneous coordinates are stored transposed, stage after stage, like the inputs of the packed program.
    """

    network: Any  # PackedProgram
    backward: np.ndarray  # float64: its blocks, transposed: (neurons, source neurons), flattened
    begins: np.ndarray  # int64 (rows of all blocks,): the first non-zero column of each row
    ends: np.ndarray  # int64 (rows of all blocks,): the column after the last non-zero one
    row_starts: np.ndarray  # int64 (blocks,): the first row of each block
    rest: np.ndarray  # float64 (stages, rows): for each level, rows without what passes through stages from it on
    pairs: Any  # NeuronPairs
    sizes: np.ndarray  # float64 (neurons and outputs,): sizes of the terms of values; 0 if there are no pairs


def transposed(network: Any) -> Float[np.ndarray, "entries"]:
    """Return each block of a packed program as (neurons, source neurons), in its place."""
    turned = np.zeros(max(1, len(network.hidden)))
    for stage, n in enumerate(network.sizes):
        for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
            n_source, at = network.sizes[network.block_sources[block]], network.block_offsets[block]
            size = n * n_source
            turned[at : at + size] = network.hidden[at : at + size].reshape(n_source, n).T.reshape(-1)
    return turned


def spans(
    network: Any,
) -> tuple[Int[np.ndarray, "rows"], Int[np.ndarray, "rows"], Int[np.ndarray, "blocks"]]:
    """Return where the non-zero entries of each transposed block's rows start and end, and each block's first row."""
    none = np.zeros(0, dtype=np.int64)
    turned, begins, ends, starts, count = transposed(network), [none], [none], [], 0
    for stage, n in enumerate(network.sizes):
        for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
            n_source, at = network.sizes[network.block_sources[block]], network.block_offsets[block]
            kept = turned[at : at + n * n_source].reshape(n, n_source) != 0.0
            begins.append(kept.argmax(axis=1))
            ends.append(np.where(kept.any(axis=1), n_source - kept[:, ::-1].argmax(axis=1), 0))
            starts.append(count)
            count += n
    return np.concatenate(begins), np.concatenate(ends), np.array(starts, dtype=np.int64)


def intervals(
    network: Any, vertices: Float[np.ndarray, "vertices homogeneous"]
) -> tuple[Float[np.ndarray, "values"], Float[np.ndarray, "values"]]:
    """Bound all neurons and outputs by interval arithmetic, moved outward by 1e-12 of their size."""
    offsets, dimension = network.offsets, vertices.shape[1]
    low, high = np.zeros(offsets[-1]), np.zeros(offsets[-1])
    for stage, n in enumerate(network.sizes):
        own = slice(offsets[stage], offsets[stage + 1])
        values = vertices @ network.inputs[own.start * dimension : own.stop * dimension].reshape(dimension, n)
        least, most = values.min(axis=0), values.max(axis=0)
        size = np.abs(values).max(axis=0)
        for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
            source, at = network.block_sources[block], network.block_offsets[block]
            n_source = network.sizes[source]
            weights = network.hidden[at : at + n_source * n].reshape(n_source, n)
            lower = np.maximum(low[offsets[source] : offsets[source + 1]], 0.0)
            upper = np.maximum(high[offsets[source] : offsets[source + 1]], 0.0)
            positive, negative = np.maximum(weights, 0.0), np.minimum(weights, 0.0)
            least += lower @ positive + upper @ negative
            most += upper @ positive + lower @ negative
            size += upper @ np.abs(weights)
        low[own], high[own] = least - 1e-12 * size, most + 1e-12 * size
    return low, high
