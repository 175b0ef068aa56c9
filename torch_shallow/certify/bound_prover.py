"""Proof that the answer of a question is at most a bound, found after the search and independently of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from torch_shallow import check, check_bounds
from torch_shallow.certify.proof_domain import ProofDomain, proof_domain
from torch_shallow.certify.relaxed_rows import Matrix, RelaxedRows, UnitLines, Units
from torch_shallow.errors import TransformError
from torch_shallow.search.question import Posed

WORTH = 0.05  # a neuron's bound is proven again if its interval shrinks by this share
DIGITS = 6  # of multipliers, where these suffice
EMPTY = 1e-6  # a non-negative quantity must be less than minus this, relative to 1, to prove that a cell is empty
THIN = 1e-9  # half-spaces that seem to leave no point are moved out by this, in unit length
CLOSED, UNDECIDED_NONE = -1, -2  # codes in place of a neuron to cut
NEGLIGIBLE = 1e-13  # relative: a neuron that adds no more than this to a bound is not worth a cut


Signs = tuple[tuple[int, float], ...]


class BoundedCell(NamedTuple):
    """A cell to open: its cuts, as neurons and signs, and the bounds of all units."""

    path: Signs
    lower: Units
    upper: Units


class KnownSides(NamedTuple):
    """Functions that are non-negative on a cell, affine over the box in unit length.

    The first ones express bounds of neurons; then come the constraints and the half-spaces of the domain.
    """

    rows: Matrix
    lengths: Float[np.ndarray, "rows"]
    neurons: Int[np.ndarray, "some"]
    signs: Float[np.ndarray, "some"]  # 1 for a lower bound, -1 for an upper one
    bounds: Float[np.ndarray, "some"]


@dataclass(frozen=True)
class BoundProof:
    """A statement and the nodes of its tree, in the format of `torch_shallow/check_bounds.py`.

    Attributes:
        network: The network, as a line of the file.
        statement: The statement's own line, without the network.
        nodes: The other lines.
        bound: The bound proven by the checker's own arithmetic; None if no point satisfies the constraints.
    """

    network: dict[str, Any]
    statement: dict[str, Any]
    nodes: list[list[Any]]
    bound: float | None


class BoundProver:
    """Cuts the domain of a question by signs of neurons, stage after stage, until multipliers prove a bound everywhere.

    Args:
        posed: The question.
        target: The bound to prove.
        deadline: When to give up, by `time.monotonic()`.
        bits: Number of binary places of the weights in the file; at least `bits_of` the question.

    Raises:
        TransformError: The domain is not bounded.
    """

    def __init__(self, posed: Posed, target: float, deadline: float, bits: int) -> None:
        self.bits = bits
        self.posed, self.target, self.deadline, self.program = posed, target, deadline, posed.program
        self.domain: ProofDomain = proof_domain(posed.domain, posed.program.in_shape, posed.program.units)
        if not self.domain.bounded:
            raise TransformError(
                f"certificate: expected a bounded domain, found {posed.domain!r}; give every entry bounds, or leave "
                "out certificate=."
            )
        self.network = RelaxedRows(posed.program, self.domain.lower, self.domain.upper)
        self.nodes: list[list[Any]] = []
        rows = self.domain.rows
        limits = np.column_stack([rows[:, :-1], np.zeros((len(rows), self.network.neurons))])
        self.limits = np.concatenate([self.program.out_weight[posed.num_goals :], limits])
        self.limit_biases = np.concatenate([self.program.out_bias[posed.num_goals :], rows[:, -1]])

    def prove(self) -> BoundProof:
        """Open cell after cell.

        Raises:
            TransformError: The time is over, or the target is out of reach.
        """
        stack = [BoundedCell((), *self.network.intervals())]
        while stack:
            self._keep_time()
            stack += self._open(stack.pop())
        return self._checked()

    def _keep_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TransformError(
                f"certificate: the bound {self.target!r} was not proven in time, after {len(self.nodes):,} cells; "
                "allow more time, or leave out certificate=."
            )

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        for number, node in enumerate(self.nodes, start=1):
            self._keep_time()
            yield number, node

    def _checked(self) -> BoundProof:
        """Return the proof with the checker's verdict on its nodes."""
        program = self.program
        network = {
            "inputs": program.num_inputs,
            "stages": [{"weight": s.weight.tolist(), "bias": s.bias.tolist()} for s in program.stages],
            "pairs": self.network.pairs.tolist(),
            "bits": self.bits,
        }
        outputs = {"weight": program.out_weight.tolist(), "bias": program.out_bias.tolist()}
        statement = {"domain": self.domain.line(), "outputs": outputs, "goals": self.posed.num_goals}
        read = check_bounds.ReadStatement(check_bounds.ReadReLUs(network))
        read.read(statement)
        try:
            found = check_bounds.proven_bound(read, self._numbered())
        except check.NotProven as error:
            raise TransformError(
                f"certificate: the bound {self.target!r} is proven only up to rounding ({error}); ask for a bound with "
                "more margin, or leave out certificate=."
            ) from error
        bound = None if found is None else check.rounded_up(found)
        return BoundProof(network, statement, self.nodes, bound)

    def _open(self, cell: BoundedCell) -> list[BoundedCell]:
        """Write the node of a cell; return its two parts if it has to be cut, the one that comes first last."""
        network, steps = self.network, list[list[Any]]()
        cell = BoundedCell(cell.path, cell.lower.copy(), cell.upper.copy())
        lines = network.lines(cell.lower, cell.upper)
        half_spaces = self._half_spaces(cell.path, cell, lines)
        if self._is_empty(half_spaces, lines, steps):
            return []
        for number in range(len(self.program.stages)):
            units = self._worth_bounding(number, cell)
            if len(units) and not self._bound_units(units, half_spaces, cell, steps):
                break
        if (cell.lower > cell.upper + EMPTY * (np.abs(cell.lower) + np.abs(cell.upper))).any():
            self.nodes.append(["empty", steps])
            return []
        lines = network.lines(cell.lower, cell.upper)
        neuron, value = self._close(cell, cell.path, lines, steps)
        if neuron == UNDECIDED_NONE:  # the known signs may have to be used
            signs = np.where(cell.lower >= 0.0, 1.0, -1.0)[: network.neurons]
            neuron, value = self._close(cell, tuple(enumerate(signs.tolist())), lines, steps)
        if neuron == CLOSED:
            return []
        if neuron == UNDECIDED_NONE:
            raise TransformError(
                f"certificate: the bound {self.target!r} is out of reach: in a cell without undecided neurons, no less "
                f"than {value!r} can be proven; leave out certificate=."
            )
        self.nodes.append(["cut", steps, neuron])
        parts = []
        for sign in (1.0, -1.0):
            low, high = cell.lower.copy(), cell.upper.copy()
            (low if sign > 0.0 else high)[neuron] = 0.0
            parts.append(BoundedCell((*cell.path, (neuron, sign)), low, high))
        return parts

    def _close(self, cell: BoundedCell, known: Signs, lines: UnitLines, steps: list[list[Any]]) -> tuple[int, float]:
        """Write a leaf if the known signs prove the bound; otherwise return the neuron to cut, and the proven bound."""
        half_spaces = self._half_spaces(known, cell, lines)
        if self._is_empty(half_spaces, lines, steps):
            return CLOSED, -np.inf
        leaving = np.zeros((self.posed.num_goals, self.network.neurons))
        weights, multipliers, value = self._mixture(lines, half_spaces, leaving)
        if value <= self.target:
            self.nodes.append(["leaf", steps, weights.tolist(), self._entries(multipliers, half_spaces)])
            return CLOSED, value
        return self._to_cut(weights @ leaving, cell, lines, value), value

    def _half_spaces(self, known: Signs, cell: BoundedCell, lines: UnitLines) -> KnownSides:
        """Return the bounds of some neurons, and the constraints, as affine functions over the box."""
        network, rows = self.network, []
        neurons, signs = np.array(sorted(known)).reshape(-1, 2).T
        neurons = neurons.astype(np.int64)
        bounds = np.where(signs > 0.0, cell.lower[neurons], cell.upper[neurons])
        stages = network.stage_of(neurons)
        for stage in np.unique(stages):
            at = stages == stage
            weight, bias = network.entering(neurons[at])
            rows.append(network.pulled(signs[at, None] * weight, signs[at] * (bias - bounds[at]), lines))
        found = np.concatenate([*rows, network.pulled(self.limits, self.limit_biases, lines)])
        lengths = np.linalg.norm(found[:, :-1], axis=1)
        lengths[lengths == 0.0] = 1.0
        return KnownSides(found / lengths[:, None], lengths, neurons, signs, bounds)

    def _bounds(
        self,
        weight: Matrix,
        bias: Float[np.ndarray, "rows"],
        multipliers: Matrix,
        half_spaces: KnownSides,
        lines: UnitLines,
    ) -> Float[np.ndarray, "rows"]:
        """Return what the checker computes for rows, with multipliers of a cell's half-spaces."""
        network, cuts = self.network, len(half_spaces.neurons)
        wide = multipliers[:, cuts:] @ self.limits
        wide[:, : weight.shape[1]] += weight
        if not multipliers[:, cuts:].any():  # the last stages are not read
            used = half_spaces.neurons[multipliers[:, :cuts].any(axis=0)]
            last = int(network.stage_of(used).max(initial=-1)) + 1
            wide = wide[:, : max(weight.shape[1], network.inputs + network.offsets[last])]
        splits, signed = np.zeros((len(weight), network.neurons)), multipliers[:, :cuts] * half_spaces.signs
        splits[:, half_spaces.neurons] = signed
        bias = bias + multipliers[:, cuts:] @ self.limit_biases - signed @ half_spaces.bounds
        return greatest(network.pulled(wide, bias, lines, splits))

    def _is_empty(self, half_spaces: KnownSides, lines: UnitLines, steps: list[list[Any]]) -> bool:
        """Write a leaf and return True if multipliers prove that a cell is empty."""
        from torch_shallow.certify.sign_multipliers import find_multipliers, room

        n, rows = self.network.inputs, half_spaces.rows
        basis = room(-np.ones(n), np.ones(n))
        if not len(rows):
            return False
        last = find_multipliers(basis, rows, len(rows), np.zeros(n + 1), 1.0)
        found = np.zeros(len(rows))
        at = basis.tight >= 0
        found[basis.tight[at]] = np.maximum(basis.multipliers[at], 0.0)
        if last >= 0:
            found[last] = basis.shares[0]
        if not np.isfinite(found).all():
            return False
        found /= half_spaces.lengths
        nothing = np.zeros((1, self.network.inputs)), np.zeros(1)
        if self._bounds(*nothing, found[None], half_spaces, lines)[0] >= -EMPTY:
            return False
        self.nodes.append(["leaf", steps, [0] * self.posed.num_goals, self._entries(found, half_spaces)])
        return True

    def _worth_bounding(self, number: int, cell: BoundedCell) -> Int[np.ndarray, "some"]:
        """Return the units of a stage whose bounds affect a line."""
        network, units = self.network, self.network.units_of(number)
        unstable = (cell.lower < 0.0) & (cell.upper > 0.0)
        of_pairs = unstable[network.pairs].any(axis=1)
        return units[np.append(unstable[: network.neurons], of_pairs)[units]]

    def _bound_units(
        self, units: Int[np.ndarray, "some"], half_spaces: KnownSides, cell: BoundedCell, steps: list[list[Any]]
    ) -> bool:
        """Write steps that tighten the bounds of some units; return False if the cell seems to be empty."""
        network, lower, upper = self.network, cell.lower, cell.upper
        weight, bias = network.entering(units)
        lines = network.lines(lower, upper)
        rows = network.pulled(np.concatenate([weight, -weight]), np.concatenate([bias, -bias]), lines)
        found = self._multipliers(rows, half_spaces.rows)
        if found is None:
            return False
        scaled, most = shortened(found / half_spaces.lengths), greatest(rows)
        at = np.flatnonzero(scaled.any(axis=1))
        both = np.concatenate([weight, -weight]), np.concatenate([bias, -bias])
        with_them = self._bounds(both[0][at], both[1][at], scaled[at], half_spaces, lines)
        scaled[at[with_them >= most[at]]] = 0.0
        most[at] = np.minimum(most[at], with_them)
        high, low = np.split(most, 2)
        before, width = (lower[units], upper[units]), upper[units] - lower[units]
        higher = (-low > before[0] + WORTH * width) | ((-low >= 0.0) & (before[0] < 0.0))
        less = (high < before[1] - WORTH * width) | ((high <= 0.0) & (before[1] > 0.0))
        group = []
        for chosen, codes, shares in ((less, units, scaled[: len(units)]), (higher, ~units, scaled[len(units) :])):
            for i in np.flatnonzero(chosen).tolist():
                entries = self._entries(shares[i], half_spaces)
                group.append([int(codes[i]), *entries] if entries else int(codes[i]))
        if group:
            steps.append(group)
        upper[units], lower[units] = np.where(less, high, before[1]), np.where(higher, -low, before[0])
        return True

    def _multipliers(self, rows: Matrix, half_spaces: Matrix) -> Matrix | None:
        """Return multipliers of half-spaces that prove the rows as small as they are; None if there is no point."""
        from torch_shallow.certify.sign_multipliers import find_each, room

        n = rows.shape[1] - 1
        tight, shares = np.zeros((len(rows), n), dtype=np.int64), np.zeros((len(rows), n))
        found = np.zeros((len(rows), len(half_spaces)))
        if len(half_spaces):
            basis, looser = room(-np.ones(n), np.ones(n)), half_spaces.copy()
            for looseness in (0.0, THIN):  # rounding may make a cell without interior seem empty
                looser[:, -1] += looseness
                if find_each(basis, looser, len(looser), -rows, tight, shares):
                    break
            else:
                return None
            at, place = np.nonzero((tight >= 0) & (shares > 0.0))
            found[at, tight[at, place]] = shares[at, place]
        return found

    def _mixture(
        self, lines: UnitLines, half_spaces: KnownSides, leaving: Matrix
    ) -> tuple[Float[np.ndarray, "goals"], Float[np.ndarray, "rows"], float]:
        """Return the weights of the goals and the multipliers of the half-spaces for the best bound, and that bound."""
        m, n = self.posed.num_goals, self.network.inputs
        weight, bias = self.program.out_weight[:m], self.program.out_bias[:m]
        goals = self.network.pulled(weight, bias, lines, leaving=leaving)
        weights, shares = np.eye(m)[greatest(goals).argmin()], np.zeros(len(half_spaces.rows))
        if m == 1:
            found = self._multipliers(goals, half_spaces.rows)
            shares = shares if found is None else found[0]
        else:  # the greatest t in [-1, 1] that is below all goals, in units of their size
            size = 1.0 + np.abs(goals).sum()
            above = np.insert(goals / size, n, -1.0, axis=1)
            lengths = np.linalg.norm(above[:, :-1], axis=1)
            rows = np.concatenate([np.insert(half_spaces.rows, n, 0.0, axis=1), above / lengths[:, None]])
            found = self._multipliers(np.eye(1, n + 2, n), rows)
            if found is not None and found[0, -m:].any():
                total = (found[0, -m:] / lengths).sum()
                weights, shares = found[0, -m:] / lengths / total, size * found[0, :-m] / total
        shares = shares / half_spaces.lengths
        for some in (shortened(shares), shares, np.zeros_like(shares)):
            value = float(
                self._bounds((weights @ weight)[None], (weights @ bias)[None], some[None], half_spaces, lines)[0]
            )
            if value <= self.target:
                break
        return weights, some, value

    def _to_cut(self, leaving: Float[np.ndarray, "neurons"], cell: BoundedCell, lines: UnitLines, value: float) -> int:
        """Return the neuron that loosens the bound most, in the first stage where one does, or a code for none."""
        n, lower, upper = self.network.neurons, cell.lower, cell.upper
        loss = np.where(leaving > 0.0, leaving * lines.offset[:n], -leaving * lines.gap[:n])
        unstable = (lower[:n] < 0.0) & (upper[:n] > 0.0)
        enough = NEGLIGIBLE * (abs(value) + float(np.abs(leaving) @ np.maximum(np.abs(lower[:n]), np.abs(upper[:n]))))
        for least in (enough, 0.0):
            for start, stop in zip(self.network.offsets[:-1], self.network.offsets[1:], strict=True):
                scores = np.where(unstable[start:stop], loss[start:stop], -1.0)
                if len(scores) and scores.max() > least:
                    return start + int(scores.argmax())
        return int(np.flatnonzero(unstable)[0]) if unstable.any() else UNDECIDED_NONE

    @staticmethod
    def _entries(multipliers: Float[np.ndarray, "rows"], half_spaces: KnownSides) -> list[float]:
        of_neurons = 2 * half_spaces.neurons + (half_spaces.signs > 0.0)
        codes = [*of_neurons.tolist(), *(~k for k in range(len(multipliers) - len(of_neurons)))]
        return [v for k in np.flatnonzero(multipliers) for v in (codes[k], float(multipliers[k]))]


def greatest(rows: Float[np.ndarray, "*rows columns"]) -> Float[np.ndarray, "*rows"]:
    """Return the greatest values of affine functions of entries between -1 and 1."""
    most: np.ndarray = rows[..., -1] + np.abs(rows[..., :-1]).sum(axis=-1)
    return most


def shortened(multipliers: Float[np.ndarray, "*rows columns"]) -> Float[np.ndarray, "*rows columns"]:
    """Return multipliers rounded to few digits."""
    found: np.ndarray = multipliers.copy()
    at = np.nonzero(found)
    found[at] = [float(f"{v:.{DIGITS}g}") for v in found[at]]
    return found


def bits_of(posed: Posed) -> int:
    """Return the number of binary places of the numbers in a question."""
    program = posed.program
    stages = [array for stage in program.stages for array in (stage.weight, stage.bias)]
    arrays = [*stages, program.out_weight, program.out_bias, *posed.domain.inequalities(program.in_shape)]
    numbers = np.abs(np.concatenate([array.reshape(-1) for array in arrays]))
    _, exponents = np.frexp(numbers[numbers > 0.0])
    return max(0, 53 - int(exponents.min(initial=53)))
