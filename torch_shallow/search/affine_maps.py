"""Parameters of the shallow network: the half-space of every cut and the affine map of every region."""

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
    """Half-spaces and affine maps in the coordinates `u = projection @ x` that the network reads from its input.

    Attributes:
        projection: Independent rows, orthonormal in the typical lengths of the inputs; None if `u` is the whole
            flattened input.
        rows: Half-space of each cut: `rows[j] @ [u, 1] > 0` says that the pre-activation of cut j's neuron is positive.
        weights: On region k the output is `weights[k] @ u + biases[k] + skip @ x`; empty if local models are not
            stored.
        biases: Constant part of the output on each region; empty if local models are not stored.
        skip: The output's direct dependence on the input, where `projection` does not show it; else None.
    """

    projection: Float[np.ndarray, "coordinates inputs"] | None
    rows: Float[np.ndarray, "cuts homogeneous"]
    weights: Float[np.ndarray, "regions outputs coordinates"]
    biases: Float[np.ndarray, "regions outputs"]
    skip: Float[np.ndarray, "outputs inputs"] | None

    @property
    def normals(self) -> Float[np.ndarray, "cuts coordinates"]:
        """Normals of the half-spaces: cut j is `normals[j] @ u + offsets[j] > 0`."""
        return self.rows[:, :-1]

    @property
    def offsets(self) -> Float[np.ndarray, "cuts"]:
        """Offsets of the half-spaces: cut j is `normals[j] @ u + offsets[j] > 0`."""
        return self.rows[:, -1]


def affine_maps(partition: Partition, threads: int = 1, *, local_models: bool = True) -> AffineMaps:
    """Compose the program on the path to every cut and region, recomposing each stage only where its inputs change.

    A map is composed from its pattern alone, in a fixed order, so its bits do not depend on the number of threads.

    Args:
        partition: A partition in which every cut has at least one region below it.
        threads: Number of threads.
        local_models: Whether to compose the maps of regions as well as the half-spaces.

    Raises:
        TransformError: A cut has only open cells below it.
    """
    maps, fill = _composer(partition, local_models)
    share(threads, partition.num_regions, fill)
    return maps


RUNS, LENGTH = 8, 256  # number of runs measured, and number of regions in each


def seconds_for_each_map(partition: Partition, *, local_models: bool = True) -> float:
    """Estimate the time of `affine_maps` per region on one thread, in seconds, from runs spread over the regions.

    The result is the mean of the slower half of the runs, because memory that was used before is written faster than
    other memory. Each run starts by composing a whole path, which `affine_maps` rarely does; this is not counted.
    """
    _, fill = _composer(partition, local_models)
    fill(0, 1)  # compile first, if need be
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
    """Return arrays for the maps, and the function that fills in those of a range of regions."""
    # Imported here because importing numba takes a while.
    from torch_shallow.search.compose_maps import fill_maps, first_regions, sort_cuts
    from torch_shallow.search.problem import pack_stages

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
    network = pack_stages(
        replace(program, stages=(*program.stages, output)), Chart(np.zeros(d), basis, np.zeros((0, q + 1)), np.zeros(q))
    )
    cuts, regions = partition.num_cuts, partition.num_regions
    first, order, ends = (np.empty(size, dtype=index_type(regions)) for size in (cuts, cuts, regions))
    first_regions(partition.children, first)
    if (first >= regions).any():
        raise TransformError(
            f"partition: expected a region below every cut, found none below {int((first >= regions).sum())} "
            "of the cuts; merge the open cells below each of these into one, as collapse_open does."
        )
    sort_cuts(first, order, ends)
    del first
    stored = regions if local_models else 0
    # Empty rather than zero: each thread gets its memory where it first writes.
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
            np.empty(q + 1),
            start,
            stop,
        )

    return AffineMaps(projection, rows, weights, biases, skip), fill
