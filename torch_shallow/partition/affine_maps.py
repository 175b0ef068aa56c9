"""The numbers of the shallow network: every cut's half-space and every region's affine map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.partition.chart import Chart, row_space
from torch_shallow.partition.partition import Partition
from torch_shallow.trace.program import Stage


@dataclass(frozen=True)
class AffineMaps:
    """Half-spaces and affine maps in the coordinates `u = projection @ x` that the network reads of its input.

    Attributes:
        projection: orthonormal rows, or None where `u` is the whole flattened input.
        normals: cut j is the half-space `normals[j] @ u + offsets[j] > 0`: the pre-activation of its neuron.
        offsets: see `normals`.
        weights: on region k the output is `weights[k] @ u + biases[k] + skip @ x`.
        biases: see `weights`.
        skip: what the output reads of the input itself, where `projection` does not show it; else None.
    """

    projection: Float[np.ndarray, "coordinates inputs"] | None
    normals: Float[np.ndarray, "cuts coordinates"]
    offsets: Float[np.ndarray, "cuts"]
    weights: Float[np.ndarray, "regions outputs coordinates"]
    biases: Float[np.ndarray, "regions outputs"]
    skip: Float[np.ndarray, "outputs inputs"] | None


def affine_maps(partition: Partition) -> AffineMaps:
    """Compose the program on the path to every cut and every region, each stage once where its inputs change."""
    # Imported here because numba takes a while.
    from torch_shallow.partition.compose_maps import fill_maps, first_regions
    from torch_shallow.partition.network import pack

    program = partition.program
    d, neurons, outputs = program.num_inputs, program.num_neurons, program.num_outputs
    basis = row_space(np.concatenate([np.zeros((0, d)), *(stage.weight[:, :d] for stage in program.stages)]))
    projection, skip, out_weight = None, None, program.out_weight
    if len(basis) < d:
        projection, out_weight = basis, out_weight.copy()
        skip = out_weight[:, :d].copy() if out_weight[:, :d].any() else None
        out_weight[:, :d] = 0.0
    else:
        basis = np.eye(d)
    q = len(basis)
    output = Stage("output", out_weight, program.out_bias)
    network = pack(
        replace(program, stages=(*program.stages, output)), Chart(np.zeros(d), basis, np.zeros((0, q + 1)), np.zeros(q))
    )
    stage_of = np.repeat(np.arange(len(program.stages)), [stage.num_neurons for stage in program.stages])
    cut_rows = np.zeros((partition.num_cuts, q + 1))
    maps = np.zeros((partition.num_regions, q + 1, outputs))
    first = np.zeros(partition.num_cuts, dtype=np.int64)
    first_regions(partition.children, first)
    fill_maps(
        network,
        first,
        np.argsort(first, kind="stable"),
        partition.cut_neurons,
        stage_of[partition.cut_neurons],
        partition.packed_patterns,
        cut_rows,
        maps,
        np.zeros((neurons + outputs) * (q + 1)),
        np.zeros(neurons + outputs),
        np.zeros(neurons, dtype=np.uint8),
    )
    return AffineMaps(projection, cut_rows[:, :q], cut_rows[:, q], maps[:, :q].transpose(0, 2, 1), maps[:, q], skip)
