"""The numbers of the shallow network: every cut's half-space and every region's affine map."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import Chart, row_space
from torch_shallow.geometry.sharing import share
from torch_shallow.program.relu_program import Stage
from torch_shallow.search.balance import index_type
from torch_shallow.search.partition import Partition


@dataclass(frozen=True)
class AffineMaps:
    """Half-spaces and affine maps in the coordinates `u = projection @ x` that the network reads of its input.

    Attributes:
        projection: independent rows, orthonormal in the typical lengths of the inputs, or None where `u` is the whole
            flattened input.
        rows: cut j is the half-space `rows[j] @ [u, 1] > 0`: the pre-activation of its neuron.
        weights: on region k the output is `weights[k] @ u + biases[k] + skip @ x`; of no region if local models are not
            stored.
        biases: see `weights`.
        skip: what the output reads of the input itself, where `projection` does not show it; else None.
    """

    projection: Float[np.ndarray, "coordinates inputs"] | None
    rows: Float[np.ndarray, "cuts homogeneous"]
    weights: Float[np.ndarray, "regions outputs coordinates"]
    biases: Float[np.ndarray, "regions outputs"]
    skip: Float[np.ndarray, "outputs inputs"] | None

    @property
    def normals(self) -> Float[np.ndarray, "cuts coordinates"]:
        """Cut j is the half-space `normals[j] @ u + offsets[j] > 0`."""
        return self.rows[:, :-1]

    @property
    def offsets(self) -> Float[np.ndarray, "cuts"]:
        """See `normals`."""
        return self.rows[:, -1]


def affine_maps(partition: Partition, threads: int = 1, *, local_models: bool = True) -> AffineMaps:
    """Compose the program on the path to every cut and every region, each stage once where its inputs change.

    A map is composed of its pattern alone, in one order, so that it has the same bits for any number of threads.

    Args:
        partition: regions of which every cut has one or more below it.
        threads: how many to use.
        local_models: compose the maps of regions too, not only the half-spaces.

    Raises:
        TransformError: there is a cut with open cells below it alone.
    """
    maps, fill = _composer(partition, local_models)
    share(threads, partition.num_regions, fill)
    return maps


RUNS, LENGTH = 8, 256  # how many runs are measured, and of how many regions each


def seconds_for_each_map(partition: Partition, *, local_models: bool = True) -> float:
    """How long `affine_maps` takes for a region on one thread, measured with runs of some here and there.

    It is the mean of the slower half of the runs: memory that was used before is written faster than other memory. Each
    run begins with the maps of a whole path, of which `affine_maps` makes few; they are not counted.
    """
    _, fill = _composer(partition, local_models)
    fill(0, 1)  # something may have to be compiled
    regions, seconds = partition.num_regions, []
    for start in range(0, regions, max(LENGTH, regions // RUNS)):
        stop, begun = min(start + LENGTH, regions), time.perf_counter()
        fill(start, start + 1)
        path = time.perf_counter() - begun
        fill(start, stop)
        rest = time.perf_counter() - begun - 2.0 * path
        seconds.append(max(rest, 0.0) / (stop - start - 1) if stop - start > 1 else path)
    return float(np.mean(sorted(seconds)[len(seconds) // 2 :]))


def _composer(partition: Partition, local_models: bool) -> tuple[AffineMaps, Callable[[int, int], None]]:
    """Room for the maps, and what fills in those of some regions."""
    # Imported here because numba takes a while.
    from torch_shallow.search.compose_maps import fill_maps, first_regions, sort_cuts
    from torch_shallow.search.problem import pack

    program = partition.program
    d, neurons, outputs = program.num_inputs, program.num_neurons, program.num_outputs
    units = program.units
    basis = row_space(program.reads, units)
    projection, skip, out_weight = None, None, program.out_weight
    if len(basis) < d:
        projection, basis, out_weight = basis / units, basis * units, out_weight.copy()
        skip = out_weight[:, :d].copy() if out_weight[:, :d].any() else None
        out_weight[:, :d] = 0.0
    else:
        basis = np.eye(d)
    q = len(basis)
    output = Stage("output", out_weight, program.out_bias)
    network = pack(
        replace(program, stages=(*program.stages, output)), Chart(np.zeros(d), basis, np.zeros((0, q + 1)), np.zeros(q))
    )
    cuts, regions = partition.num_cuts, partition.num_regions
    first, order, ends = (np.empty(size, dtype=index_type(regions)) for size in (cuts, cuts, regions))
    first_regions(partition.children, first)
    if (first >= regions).any():
        raise TransformError(
            f"partition: expected a region below every cut, found none below {int((first >= regions).sum())} cuts; "
            "make one open cell of all that are below them, as collapse_open does."
        )
    sort_cuts(first, order, ends)
    del first
    stored = regions if local_models else 0
    # Not zeros: each thread is given its memory where it first writes.
    rows, weights, biases = np.empty((cuts, q + 1)), np.empty((stored, outputs, q)), np.empty((stored, outputs))

    def fill(start: int, stop: int) -> None:
        fill_maps(
            network,
            order,
            ends,
            partition.cut_neurons,
            partition.packed_patterns,
            rows,
            weights,
            biases,
            np.empty((neurons + outputs) * (q + 1)),
            np.empty(neurons, dtype=np.int64),
            np.empty(len(program.stages), dtype=np.int64),
            np.empty(neurons + outputs, dtype=np.uint8),
            start,
            stop,
        )

    return AffineMaps(projection, rows, weights, biases, skip), fill
