"""The result of an enumeration: a binary space partition of the domain into activation regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.partition.chart import Chart
from torch_shallow.partition.found import CUT_ROWS, REGION_ROWS, Found
from torch_shallow.partition.tree import Tree
from torch_shallow.trace.program import ReLUProgram


@dataclass(frozen=True)
class Partition(Tree):
    """A tree whose cuts are half-spaces of neurons: each a pre-activation, affine on the cell it cuts.

    Attributes:
        program: the network.
        domain: see `Tree`, as for `chart`, `children` and `points`.
        chart: see `Tree`.
        cut_neurons: the neuron of the program that makes each cut.
        children: see `Tree`.
        packed_patterns: activation pattern of each region, as `np.packbits` packs it.
        points: see `Tree`.
        method: how each region was found: regions by engine name.
        mixed: where activation regions were merged, the neurons that take both signs on each region, packed likewise
            (its pattern is then that of one of them); None if every region is an activation region.
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
        """What the regions are, in words."""
        return "activation regions" if self.mixed is None else "regions (merged activation regions)"

    def neurons(self, cuts: Sequence[int]) -> Int[np.ndarray, "some"]:
        """The neuron that makes each of some cuts, numbered through all stages of the whole network."""
        return self.program.network.neurons[self.cut_neurons[list(cuts)]]

    def names(self, steps: Sequence[tuple[int, bool]]) -> list[str]:
        """Sides of cuts in words, such as `"stage 1 neuron 3 active"`."""
        neurons = self.neurons([cut for cut, _ in steps])
        return [
            f"{self.program.neuron_name(int(neuron))} {'active' if side else 'inactive'}"
            for neuron, (_, side) in zip(neurons, steps, strict=True)
        ]

    def patterns(self, regions: slice | Int[np.ndarray, "some"] = slice(None)) -> Bool[np.ndarray, "some neurons"]:
        """Activation patterns of some regions (all by default)."""
        packed = self.packed_patterns[regions]
        return np.unpackbits(packed, axis=1, count=self.program.num_neurons).astype(bool)


def activation_partition(tree: Tree) -> Partition:
    """The partition into activation regions that a tree is.

    Raises:
        TransformError: its regions are others: merged, or not of a deep network.
    """
    if not isinstance(tree, Partition) or tree.mixed is not None:
        found = "merged ones" if isinstance(tree, Partition) else "regions that belong to no deep network"
        raise TransformError(
            f"partition: expected activation regions, found {found}; ask the network that transform() returned."
        )
    return tree


@dataclass
class Growth:
    """A partition while it grows: cuts and regions in the order found, in blocks, each with its parent's code."""

    cut_parents: list[np.ndarray] = field(default_factory=list)
    cut_neurons: list[np.ndarray] = field(default_factory=list)
    region_parents: list[np.ndarray] = field(default_factory=list)
    packed_patterns: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    method: dict[str, int] = field(default_factory=dict)
    num_cuts: int = 0
    report: Callable[[int], object] | None = None  # told how many regions each block has

    def add(
        self,
        engine: str,
        cut_parents: Int[np.ndarray, "cuts"],
        cut_neurons: Int[np.ndarray, "cuts"],
        region_parents: Int[np.ndarray, "regions"],
        packed_patterns: UInt8[np.ndarray, "regions bytes"],
        points: Float[np.ndarray, "regions coordinates"],
    ) -> None:
        """Append a block of cuts, numbered on from `num_cuts`, and of regions.

        A parent's code is `2 * cut + side` (side 1: active) or -1 for the root.
        """
        self.cut_parents.append(cut_parents)
        self.cut_neurons.append(cut_neurons)
        self.region_parents.append(region_parents)
        self.packed_patterns.append(packed_patterns)
        self.points.append(points)
        self.num_cuts += len(cut_neurons)
        self.method[engine] = self.method.get(engine, 0) + len(region_parents)
        if self.report is not None:
            self.report(len(region_parents))

    def add_block(self, engine: str, found: Found, counts: Int[np.ndarray, "counts"]) -> None:
        """Append what a compiled walk has written since the last call."""
        cuts, regions = int(counts[CUT_ROWS]), int(counts[REGION_ROWS])
        # Copies, since a view would keep a whole block for a few rows.
        self.add(
            engine,
            found.cut_parents[:cuts].copy(),
            found.cut_neurons[:cuts].copy(),
            *(array[:regions].copy() for array in found[2:]),
        )
        counts[CUT_ROWS] = counts[REGION_ROWS] = 0

    def path(self, code: int) -> list[tuple[int, int]]:
        """The cuts above a parent's code, from the root down, each as its neuron and the side taken (1: active)."""
        starts = np.cumsum([0, *(len(block) for block in self.cut_neurons)])
        steps = []
        while code >= 0:
            cut = code // 2
            block = int(np.searchsorted(starts, cut, side="right")) - 1
            row = cut - starts[block]
            steps.append((int(self.cut_neurons[block][row]), code % 2))
            code = int(self.cut_parents[block][row])
        return steps[::-1]

    def finish(self, program: ReLUProgram, domain: Domain, chart: Chart) -> Partition:
        """The grown partition. The blocks are given up one by one, to keep the peak of memory low."""
        cut_parents, region_parents = _join(self.cut_parents), _join(self.region_parents)
        children = np.zeros((self.num_cuts, 2), dtype=np.int64)
        below = cut_parents >= 0
        children.reshape(-1)[cut_parents[below]] = np.flatnonzero(below)
        below = region_parents >= 0
        children.reshape(-1)[region_parents[below]] = ~np.flatnonzero(below)
        return Partition(
            program,
            domain,
            chart,
            _join(self.cut_neurons),
            children,
            _join(self.packed_patterns),
            _join(self.points),
            self.method,
        )


def _join(blocks: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined
