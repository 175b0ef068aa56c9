"""Better multipliers for a proof, in exact arithmetic, where those that float64 found prove too little.

In a cell between two half-spaces that are nearly parallel, multipliers are as large as the angle is small, and a vertex
in float64 does not tell which half-spaces hold a neuron's sign up. Integers do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from torch_shallow import check
from torch_shallow.certify.error_proof import Proof
from torch_shallow.certify.proof_data import Place, code_of
from torch_shallow.geometry.dyadic import shortened, smallest_residual
from torch_shallow.geometry.exact_cell import MOST_COORDINATES

FEW = 50  # bits: what a neuron may be off, relative to its row, without being looked at again
MOST_REGIONS = 1000  # that are looked at
PARTS = 4  # of a multiplier, each a float64


def with_exact_multipliers(proof: Proof, enough: float, *, together: bool) -> Proof:
    """A proof with smaller errors, where better multipliers lead to them; the regions that are off most come first.

    Args:
        proof: the proof, with its multipliers.
        enough: errors up to this are left as they are, and so are those up to what another region is left with.
        together: whether the errors are to be those of one proof of all regions, rather than one for each.
    """
    if proof.data.partition.program.num_inputs > MOST_COORDINATES:
        return proof
    errors, reader, worst = proof.errors.copy(), _Reader(proof), enough
    for some in _blocks(np.argsort(-errors, kind="stable")[:MOST_REGIONS]):
        some = some[errors[some] > worst]
        if not len(some):
            break
        for region, error in reader.read(np.sort(some)):
            errors[region] = min(errors[region], error)
        worst = max(worst, float(errors[some].max()))
    improved = replace(proof, errors=errors, better=reader.better)
    if together:
        below = _below(proof.data.children, [node for node, _ in reader.better], len(errors))
        unknown = replace(improved, errors=np.full(len(errors), np.inf))
        errors[below] = unknown.exact_errors(below)
    return improved


def _below(children: Int[np.ndarray, "cuts 2"], nodes: list[int], count: int) -> Int[np.ndarray, "some"]:
    """The regions below some nodes, of so many regions in all."""
    seen: set[int] = set()
    while nodes:
        node = nodes.pop()
        if node not in seen:
            seen.add(node)
            nodes += children[node].tolist() if node >= 0 else []
    return np.array(sorted(~node for node in seen if ~count < node < 0), dtype=np.int64)


def _blocks(regions: Int[np.ndarray, "some"]) -> Iterator[Int[np.ndarray, "part"]]:
    """One region, then two, four and so on: each time the whole tree is gone through."""
    start = 0
    while start < len(regions):
        yield regions[start : 2 * start + 1]
        start = 2 * start + 1


class _Reader:
    """Reads the lines above some regions, time and again.

    Attributes:
        better: what was found.
    """

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._known: set[Place] = set()
        self.better: dict[Place, list[Any]] = {}

    def read(self, regions: Int[np.ndarray, "some"]) -> Iterator[tuple[int, float]]:
        """The regions, each with the error that is proven with better multipliers."""
        proof = replace(self._proof, better=self.better)
        tree = _Improved(proof.header, self._reach(), self._known, self.better)
        for node in proof.nodes(regions):
            leaf = tree.enter(node)
            if leaf is not None and leaf[1] is not None:
                yield leaf[0], check.rounded_up(leaf[1])

    def _reach(self) -> list[int]:
        """The size of each input, as a power of two, and of the constant."""
        domain = self._proof.data.domain
        reach = np.maximum(np.abs(domain.lower), np.abs(domain.upper))
        exponents: Float[np.ndarray, "inputs"] = np.frexp(np.where(np.isfinite(reach), reach, 1.0))[1]
        return [*exponents.tolist(), 0]


class _Improved(check.ReadTree):
    """Reads a proof as the checker does, and where a neuron is off, looks for multipliers first.

    Args:
        header: the first line.
        reach: exponents of the sizes of the inputs, and of the constant.
        known: what was looked at, to be added to.
        better: what was found, to be added to.
    """

    def __init__(
        self, header: dict[str, Any], reach: list[int], known: set[Place], better: dict[Place, list[Any]]
    ) -> None:
        super().__init__(header)
        self._reach, self._seen, self._better, self._node = reach, known, better, 0
        least = min(reach)
        self._weights = [1 << (exponent - least) for exponent in reach]
        self._bounds = self._faces()

    def enter(self, node: Any) -> check.Leaf | None:
        if node[0] != "open":
            self._node = node[1] if node[0] == "cut" else ~node[1]
        return super().enter(node)

    def _settle(self, entries: Any) -> list[int]:
        settled = []
        for entry in entries:
            place = self._node, code_of(entry)
            (neuron,) = super()._settle([entry])
            settled.append(neuron)
            if place in self._seen or not self._is_off(neuron):
                continue
            self._seen.add(place)
            found, before = self._multipliers(neuron, place[1]), self._errors[neuron]
            self._forget([neuron])
            super()._settle([found])
            if max(self._errors[neuron]) < max(before):
                self._better[place] = found
            else:
                self._forget([neuron])
                super()._settle([entry])
        return settled

    def _is_off(self, neuron: int) -> bool:
        """Whether a neuron is off by more than what it reads makes it, and by more than rounding of its row."""
        own, row = self._errors[neuron], self.network.unpack(self._compose(neuron))
        size = sum(abs(value) << max(0, exponent) for value, exponent in zip(row, self._reach, strict=True))
        read = self._error_of(neuron)
        return max(own[0] - read[0], own[1] - read[1]) << FEW > size << check.FINER

    def _multipliers(self, neuron: int, code: int) -> list[Any]:
        """What to write of a neuron: with the multipliers that leave least of its row."""
        sign, scale = (1 if code >= 0 else -1), self.network.scales[neuron]
        target = [sign * value for value in self.network.unpack(self._compose(neuron))]
        half_spaces = [(self.domain.rows[j], ~j, 1) for j in range(len(self.domain.rows))]
        half_spaces += [(self._path[j][0], j, side) for j, side in enumerate(self._sides)]
        rows = [shortened([side * value for value in ints]) for (ints, _), _, side in half_spaces] + self._bounds
        numbers, divisor = smallest_residual(rows, target, self._weights)
        entry: list[Any] = [code]
        for ((ints, own), place, side), row, number in zip(half_spaces, rows, numbers, strict=False):
            if number:
                k = next(k for k, value in enumerate(row) if value)
                longer = Fraction(side * ints[k], row[k])  # by what the row was shortened
                for part in _parts(Fraction(number, divisor) / longer * Fraction(2) ** (own - scale)):
                    entry += [place, part]
        return entry

    def _faces(self) -> list[list[int]]:
        """Half-spaces that need no multipliers in a file: the bounds of the box, and that 1 is positive."""
        inputs = self.network.inputs
        rows = [[0] * inputs + [1]]
        for k, (low, high) in enumerate(zip(self.domain.lower, self.domain.upper, strict=True)):
            for end, side in ((low, 1), (high, -1)):
                if end is not None:
                    row = [0] * inputs + [-side * end.numerator]
                    row[k] = side * end.denominator
                    rows.append(row)
        return rows


def _parts(value: Fraction) -> list[float]:
    """A positive number as a sum of float64s that is not above it; none if it is too large for them."""
    parts: list[float] = []
    while value > 0 and len(parts) < PARTS:
        try:
            part = float(value)
        except OverflowError:
            return []
        part = part if Fraction(part) <= value else float(np.nextafter(part, 0.0))
        if not part:
            break
        parts.append(part)
        value -= Fraction(part)
    return parts
