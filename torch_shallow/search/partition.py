"""Binary space partition of a domain into activation regions: the result of an enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.tree import Tree
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True)
class Search:
    """Choice of the engine, and its criterion for a cut.

    Attributes:
        by_rays: Whether cells start as rays; else as half-spaces.
        solver: Solver of the linear programs: a name in `cvxpy.installed_solvers()`; by default, compiled code, and
            HiGHS for programs that it cannot settle.
        tolerance: A pre-activation cuts a cell if it exceeds this share of the size of its row on both sides; values
            nearer to zero may be decided by exact arithmetic.
        max_rays: A cell with more rays changes to half-spaces, as does one with fewer where that takes less time; None
            if none shall change.
        max_error: How much of an output may be lost in a bounded box by not deciding values nearer to zero; None for a
            share of the size of the output (see `harmless_values`).
    """

    by_rays: bool = True
    solver: str | None = None
    tolerance: float = 1e-10
    max_rays: int | None = 4096
    max_error: float | None = None


@dataclass(frozen=True)
class Partition(Tree):
    """A tree whose cuts are half-spaces of neurons: each is a pre-activation, affine on the cell it cuts.

    Attributes, besides those of `Tree`:
        program: The network.
        cut_neurons: Neuron of the program that makes each cut.
        packed_patterns: Activation pattern of each region, packed as by `np.packbits`.
        method: Number of regions found by each engine, by engine name.
        mixed: If activation regions were merged, the neurons that take both signs on each region, packed likewise (its
            pattern is then that of one of them); None if every region is an activation region.
        search: How the regions were searched for.
    """

    program: ReLUProgram
    domain: Domain
    chart: Chart
    cut_neurons: Int[np.ndarray, "cuts"]
    children: Int[np.ndarray, "cuts 2"]
    packed_patterns: UInt8[np.ndarray, "regions bytes"]
    points: Float[np.ndarray, "regions coordinates"]
    method: dict[str, int] = field(default_factory=dict)
    mixed: UInt8[np.ndarray, "regions bytes"] | None = None
    search: Search = field(default_factory=Search)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.program.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk."""
        return self.program.out_shape

    @property
    def kind(self) -> str:
        """Name of a region of this tree."""
        return "activation region" if self.mixed is None else "merged region"

    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """Return the neurons that make the given cuts, numbered through all stages of the whole network."""
        return self.program.network.neurons[self.cut_neurons[list(cuts)]]

    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Return the sides of cuts in words, such as `"stage 1 neuron 3 active"`."""
        neurons = self.neurons([cut for cut, _ in steps])
        return [
            f"{self.program.neuron_name(int(neuron))} {'active' if side else 'inactive'}"
            for neuron, (_, side) in zip(neurons, steps, strict=True)
        ]

    def patterns(self, regions: slice | Int[np.ndarray, "some"] = slice(None)) -> Bool[np.ndarray, "some neurons"]:
        """Return the activation patterns of some regions, of all by default."""
        packed = self.packed_patterns[regions]
        return np.unpackbits(packed, axis=1, count=self.program.num_neurons).astype(bool)


def activation_partition(tree: Tree) -> Partition:
    """Return a tree as a partition into activation regions.

    Raises:
        TransformError: The regions are merged, or do not belong to a deep network.
    """
    if not isinstance(tree, Partition) or tree.mixed is not None:
        found = "merged ones" if isinstance(tree, Partition) else "regions that belong to no deep network"
        raise TransformError(
            f"partition: expected activation regions, found {found}; ask the network that transform() returned."
        )
    return tree
