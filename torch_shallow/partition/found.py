"""What a compiled walk writes, and what it carries from call to call."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.functions import compiled
from torch_shallow.trace.program import ReLUProgram

DONE = 10  # nothing left to do
FULL = 11  # the output arrays are full
NEED_FRAMES = 13  # the stack is full
OFF_PATH = 14  # the first cuts are not those of the path
UNDECIDED = 2  # status of a neuron that may take both signs on a cell; else 0 or 1

# What a walk counts: top of its stack, cuts found in all calls, and rows of `Found` in use.
TOP, CUTS, CUT_ROWS, REGION_ROWS = range(4)
NUM_COUNTS = 4

BLOCK = 1 << 15


class Found(Bundle):
    """Cuts and regions found, in order. A parent is coded `2 * cut + side`; `-1 - k` is the cell after k given cuts."""

    cut_parents: np.ndarray  # int64
    cut_neurons: np.ndarray  # int64
    region_parents: np.ndarray  # int64
    patterns: np.ndarray  # uint8 (capacity, bytes)
    points: np.ndarray  # float64 (capacity, dimension - 1)

    def first(self, rows: int) -> Found:
        """The room for the first rows."""
        return Found(*(array[:rows] for array in self))


def new_counts(cuts: int) -> np.ndarray:
    """Counts of a walk whose first cut has a given number, with one cell on the stack."""
    counts = np.zeros(NUM_COUNTS, dtype=np.int64)
    counts[CUTS] = cuts
    return counts


def empty_block(program: ReLUProgram, dimension: int) -> Found:
    """Room for some cuts and regions."""
    size = max(1024, min(BLOCK, (1 << 24) // (8 * dimension + program.num_neurons // 8)))
    return Found(
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros((size, (program.num_neurons + 7) // 8), dtype=np.uint8),
        np.zeros((size, dimension - 1)),
    )


@compiled()
def guided_side(path, depth, neuron):
    """The side to take of a cut: -1 for both, behind the end of the path; or OFF_PATH.

    An entry of a path is `2 * neuron + side`.
    """
    if depth >= path.shape[0]:
        return -1
    return path[depth] & 1 if path[depth] >> 1 == neuron else OFF_PATH
