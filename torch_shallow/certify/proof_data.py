"""Data of a proof, as arrays for the walk and as lines of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from torch_shallow import check
from torch_shallow.certify.examined import Paths, check_tree
from torch_shallow.certify.proof_domain import ProofDomain, proof_domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction
from torch_shallow.search.partition import Partition

if TYPE_CHECKING:
    from torch_shallow.certify.bounded_rows import Facts, Way
    from torch_shallow.certify.error_walk import Settled


Place = tuple[int, int]  # a node, as a cut or ~region, and a neuron that is settled there, as k if active, else ~k
OF_TERMS = 2.0**-48  # an error of this share of the terms that outputs are added up from is that of stored numbers
UNDERFLOW = 1e-280  # more than it can do to a bound, where all terms are 0


def code_of(entry: Any) -> int:
    """The neuron of what is written of one that is settled."""
    return int(entry[0] if type(entry) is list else entry)


@dataclass(frozen=True)
class ProofData:
    """The function, as the network itself stores it; the program; and the domain.

    Attributes:
        partition: The activation regions, whose patterns are to be proven.
        paths: Paths upward in the tree.
        children: Children of each cut, as in `Tree.children`.
        rows: Row of each cut, over u = projection @ x.
        weights: Weight of each region, over u.
        biases: Bias of each region.
        projection: Projection of the inputs, as in `AffineMaps`.
        skip: Direct dependence on the inputs, as in `AffineMaps`.
        domain: The domain.
    """

    partition: Partition
    paths: Paths
    children: Int[np.ndarray, "cuts 2"]
    rows: Float[np.ndarray, "cuts homogeneous"]
    weights: Float[np.ndarray, "regions outputs coordinates"]
    biases: Float[np.ndarray, "regions outputs"]
    projection: Float[np.ndarray, "coordinates inputs"] | None
    skip: Float[np.ndarray, "outputs inputs"] | None
    domain: ProofDomain

    @property
    def bounded(self) -> bool:
        """Whether the domain is bounded."""
        return self.domain.bounded

    @cached_property
    def rounding(self) -> float:
        """An upper bound of the relative error of any sum of bounds in the walk."""
        return self._terms * 2.0**-52

    @property
    def _terms(self) -> int:
        """An upper bound of the number of terms in a sum."""
        program = self.partition.program
        return 3 * program.num_inputs + program.num_neurons + len(self.domain.rows) + 32

    @cached_property
    def size_of_terms(self) -> float:
        """Return the largest sum of the sizes of all terms of an output, in units of the errors."""
        program, domain = self.partition.program, self.domain
        reach = np.ones(program.num_inputs)
        if self.bounded:
            reach = np.maximum(np.abs(domain.lower), np.abs(domain.upper))
        with np.errstate(over="ignore"):
            for stage in program.stages:
                reach = np.concatenate([reach, np.abs(stage.weight) @ reach + np.abs(stage.bias)])
            return float((np.abs(program.out_weight) @ reach + np.abs(program.out_bias)).max(initial=0.0))

    @cached_property
    def rounding_error(self) -> float:
        """Return the size of a bound that rounding of stored numbers explains."""
        return OF_TERMS * self.size_of_terms + UNDERFLOW

    def header(self) -> dict[str, Any]:
        """Return the first line of the file: everything except the tree."""
        program = self.partition.program
        stages = [{"weight": s.weight.tolist(), "bias": s.bias.tolist()} for s in program.stages]
        output = {"weight": program.out_weight.tolist(), "bias": program.out_bias.tolist()}
        return {
            "format": check.FORMAT,
            "network": {"inputs": program.num_inputs, "stages": stages, "output": output},
            "domain": self.domain.line(),
            "projection": None if self.projection is None else self.projection.tolist(),
            "skip": None if self.skip is None else self.skip.tolist(),
        }

    def nodes(
        self, found: Settled, regions: Int[np.ndarray, "some"] | None, better: Mapping[Place, list[Any]]
    ) -> Iterator[list[Any]]:
        """Yield the other lines; if regions are given, subtrees without any of them are open.

        Args:
            found: The results of the walk.
            regions: The regions, or None for all.
            better: Entries that replace those of some neurons at some nodes.
        """
        wanted, wanted_regions = self._above(regions)
        ends, starts, skipped = found.records[:, 1], 0, 0
        for node, end in found.nodes:
            start, starts = starts, end
            is_cut, is_open = node >= 0, node == np.iinfo(np.int64).min
            if skipped:
                skipped += 1 if is_cut else -1
                continue
            if is_open or not (wanted[node] if is_cut else wanted_regions[~node]):
                skipped = 2 if is_cut else 0
                yield ["open"]
                continue
            settled = self._settled(found, start, end, ends[start - 1] if start else 0)
            settled = [better.get((int(node), code_of(entry)), entry) for entry in settled]
            if is_cut:
                yield ["cut", int(node), self.rows[node].tolist(), settled]
            else:
                yield ["leaf", int(~node), self.weights[~node].tolist(), self.biases[~node].tolist(), settled]

    @staticmethod
    def _settled(found: Settled, start: int, end: int, at: int) -> list[Any]:
        entries: list[Any] = []
        for code, stop in found.records[start:end].tolist():
            pairs = zip(found.places[at:stop].tolist(), found.multipliers[at:stop].tolist(), strict=True)
            entries.append(code if at == stop else [code, *(v for pair in pairs for v in pair)])
            at = stop
        return entries

    def _above(self, regions: Int[np.ndarray, "some"] | None) -> tuple[Bool[np.ndarray, "cuts"], ...]:
        """Return which cuts are above the given regions, and a mask of these regions."""
        everything = regions is None
        cuts, leaves = np.full(len(self.children), everything), np.full(len(self.biases), everything)
        for region in [] if regions is None else regions.tolist():
            leaves[region], code = True, self.paths.regions[region]
            while code >= 0 and not cuts[code // 2]:
                cuts[code // 2], code = True, self.paths.cuts[code // 2]
        return cuts, leaves

    def facts(self) -> Facts:
        """Return the arrays of the walk."""
        from torch_shallow.certify import twofold
        from torch_shallow.certify.bounded_rows import Facts

        program, domain = self.partition.program, self.domain
        weights = np.zeros((program.num_neurons + program.num_outputs, program.num_inputs + program.num_neurons + 1))
        ranges = np.zeros((len(weights), 2), dtype=np.int64)
        stages = [*((s.weight, s.bias) for s in program.stages), (program.out_weight, program.out_bias)]
        offsets = [*program.offsets, len(weights)]
        reads = np.zeros((len(stages) - 1, len(stages) - 1), dtype=bool)
        for number, (weight, bias) in enumerate(stages):
            rows = slice(offsets[number], offsets[number + 1])
            weights[rows, : weight.shape[1]], weights[rows, -1] = weight, bias
            read = np.flatnonzero(weight[:, program.num_inputs :].any(axis=0))
            ranges[rows] = (read[0], read[-1] + 1) if len(read) else (0, 0)
            if number < len(reads):
                reads[number, np.searchsorted(program.offsets, read, side="right") - 1] = True
        cuts, cut_lows, cut_errors = self._over_inputs(self.rows[:, :-1], self.rows[:, -1])
        maps, map_lows, map_errors = self._over_inputs(self.weights, self.biases, self.skip)
        scaled = np.concatenate([domain.faces, domain.rows, cuts]) @ domain.stretch.T
        largest = np.abs(scaled).max(axis=1, keepdims=True, initial=0.0)
        scaled /= np.where(largest > 0.0, largest, 1.0)
        norms = np.linalg.norm(scaled[:, :-1], axis=1, keepdims=True)
        scaled /= np.where(norms > 0.0, norms, 1.0)
        lengths = np.where(largest > 0.0, largest, 1.0) * np.where(norms > 0.0, norms, 1.0)
        always, never = self._common()
        return Facts(
            np.ascontiguousarray(self.children, dtype=np.int64),
            always,
            never,
            np.ascontiguousarray(self.partition.packed_patterns),
            self.partition.cut_neurons.astype(np.int64),
            cuts,
            cut_lows,
            cut_errors,
            domain.rows,
            np.ascontiguousarray(scaled),
            lengths[:, 0],
            weights,
            ranges,
            np.array(program.offsets, dtype=np.int64),
            reads,
            domain.lower,
            domain.upper,
            domain.stretch,
            maps,
            map_lows,
            map_errors,
            self.rounding,
            twofold.fine(self._terms),
        )

    def _over_inputs(
        self,
        weights: Float[np.ndarray, "*some coordinates"],
        biases: Float[np.ndarray, "*some"],
        skip: Float[np.ndarray, "outputs inputs"] | None = None,
    ) -> tuple[
        Float[np.ndarray, "*some homogeneous"], Float[np.ndarray, "*any homogeneous"], Float[np.ndarray, "*some 2"]
    ]:
        """Convert functions over u to functions over x, as pairs, with their errors; the low part is empty if zero."""
        from torch_shallow.certify import twofold

        errors = np.zeros((*biases.shape, 2))
        if self.projection is None and skip is None:
            rows = np.ascontiguousarray(np.concatenate([weights, biases[..., None]], axis=-1))
            return rows, np.zeros((0, *rows.shape[1:])), errors
        projection = np.eye(weights.shape[-1]) if self.projection is None else self.projection
        high, low = twofold.products(weights, projection)
        sizes = np.abs(weights) @ np.abs(projection)
        if skip is not None:
            high, low = twofold.add(high, low, 1.0, skip, 0.0)
            sizes += np.abs(skip)
        reach = np.maximum(np.abs(self.domain.lower), np.abs(self.domain.upper))
        known, few = np.isfinite(reach), twofold.fine(self._terms) * (1.0 + self.rounding)
        errors[..., 0] = few * (sizes[..., known] @ reach[known]) + 1e-290
        errors[..., 1] = few * sizes[..., ~known].max(axis=-1, initial=0.0)
        errors[..., 1] += 1e-290 * (not known.all())
        rows = np.concatenate([high, biases[..., None]], axis=-1)
        return rows, np.concatenate([low, np.zeros((*biases.shape, 1))], axis=-1), errors

    def _common(self) -> tuple[UInt8[np.ndarray, "cuts bytes"], UInt8[np.ndarray, "cuts bytes"]]:
        """Return which neurons are active in all, and in no, regions below each cut, packed; none above open cells."""
        patterns, cuts, regions = self.partition.packed_patterns, len(self.children), len(self.biases)
        levels, level = [], np.arange(min(cuts, 1))
        while len(level):
            levels.append(level)
            level = self.children[level].reshape(-1)
            level = level[level >= 0]
        found = []
        for bits in (patterns, ~patterns):
            common = np.full((cuts, patterns.shape[1]), 255, dtype=np.uint8)
            for level in reversed(levels):
                for side in range(2):
                    below = self.children[level, side]
                    inner, known = below >= 0, (below < 0) & (below > ~regions)
                    common[level[inner]] &= common[below[inner]]
                    common[level[known]] &= bits[~below[known]]
                    common[level[below == ~regions]] = 0
            found.append(common)
        return found[0], found[1]

    def way(self) -> Way:
        """Return the starting position of the walk."""
        from torch_shallow.certify import sign_multipliers
        from torch_shallow.certify.bounded_rows import Way

        program, domain, depth = self.partition.program, self.domain, self.paths.longest + 1
        n, inputs, coordinates = program.num_neurons, program.num_inputs, domain.stretch.shape[0]
        rows = np.concatenate([domain.faces, domain.rows]) @ domain.stretch.T
        half_spaces = np.zeros((len(rows) + depth, coordinates))
        norms = np.linalg.norm(rows[:, :-1], axis=1, keepdims=True)
        half_spaces[: len(rows)] = rows / np.where(norms > 0.0, norms, 1.0)
        return Way(
            np.array([0 if len(self.children) else ~0, 0, 0, 0, 0], dtype=np.int64),
            np.zeros(depth, dtype=np.int64),
            np.zeros(depth, dtype=np.int64),
            np.zeros((n + program.num_outputs, inputs + 1)),
            np.zeros((n + program.num_outputs, inputs + 1)),
            np.zeros((n + program.num_outputs, 2)),
            np.zeros((n + program.num_outputs, 2)),
            np.zeros((n + program.num_outputs, 2)),
            np.zeros(n, dtype=np.uint8),
            np.full(n, -1, dtype=np.int64),
            half_spaces,
            np.zeros(coordinates),
            np.zeros((3, inputs + 1)),
            np.zeros((2, 2 * coordinates), dtype=np.int64),
            np.zeros((2, 2 * coordinates)),
            sign_multipliers.room(domain.least, np.ones(coordinates - 1)),
        )

    def room(self) -> Settled:
        """Allocate storage for the results."""
        from torch_shallow.certify.error_walk import Settled

        program = self.partition.program
        records = 4 * program.num_neurons + (1 << 12)
        multipliers = 2 * program.num_neurons * self.domain.stretch.shape[0] + (1 << 12)
        return Settled(
            np.zeros(len(self.biases)),
            np.zeros((1 << 12, 2), dtype=np.int64),
            np.zeros((records, 2), dtype=np.int64),
            np.zeros(multipliers, dtype=np.int64),
            np.zeros(multipliers),
        )

    @staticmethod
    def more_room(found: Settled) -> Settled:
        """Return storage twice as large."""
        fields = ("nodes", "records", "places", "multipliers")
        arrays = {field: getattr(found, field) for field in fields}
        return found.replaced(**{field: np.concatenate([a, np.zeros_like(a)]) for field, a in arrays.items()})

    @staticmethod
    def trimmed(found: Settled, counts: Int[np.ndarray, "5"]) -> Settled:
        """Return the results without unused storage."""
        _, _, records, multipliers, nodes = counts.tolist()
        return found.replaced(
            nodes=found.nodes[:nodes].copy(),
            records=found.records[:records].copy(),
            places=found.places[:multipliers].copy(),
            multipliers=found.multipliers[:multipliers].copy(),
        )


def proof_data(function: TreeFunction, partition: Partition) -> ProofData:
    """Read the arrays of a function.

    Raises:
        TransformError: Its tree is not a tree.
    """
    tree, paths = check_tree(function)
    if paths is None:
        reasons = "; ".join(map(str, tree.failures[:3]))
        raise TransformError(f"shallow: expected a network whose tree has one path to each region, found: {reasons}.")
    layer = function.half_spaces
    children = function.indicator.tree[:, :2].cpu().numpy()
    regions = torch.arange(function.num_regions, device=function.device)
    weights, biases = (array.detach().cpu().numpy() for array in function.selection.maps(regions))
    projection, skip = (
        None if t is None else t.detach().cpu().numpy() for t in (layer.projection, function.selection.skip)
    )
    rows = layer.rows[function.half_space_of()].detach().cpu().numpy()
    domain = proof_domain(function.domain, function.in_shape, partition.program.units)
    return ProofData(partition, paths, children, rows, weights, biases, projection, skip, domain)
