"""Engine for networks of moderate size: branch and bound on neurons, with the linear program of each cell."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from jaxtyping import Float, Int32

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.bounds.paired_rows import PairedRows
from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.domain import Box, Domain
from torch_shallow.geometry.boxed_simplex import OUTSIDE, BoxedProgram, begin, maximise, rest, room, set_objective
from torch_shallow.geometry.units import exponents_of
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines.cell_relaxation import (
    CellState,
    Relaxation,
    bound_neuron,
    decide,
    proven_bound,
    slack_tableau,
)
from torch_shallow.search.engines.cell_tree import (
    FOUND,
    LEFT,
    NUM_COUNTS,
    OPENED,
    Leavings,
    Saved,
    restore,
    save,
    search_below,
    solve,
)
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell, Posed

ROUNDS = 2  # of bounding all neurons by linear programs
TOLERANCE = 1e-10  # share of the possible size of values by which a bound must exceed the best value
MOST_STEPS = 100_000  # of a single program, which bounds all others
MOST_BYTES = 1 << 26  # for the cells on the path to the current one


@dataclass(frozen=True, eq=False)
class BoundedNeurons:
    """Bounds, by linear programs over a domain, of the neurons of a program; they hold for any question on its outputs.

    Attributes:
        program: The program; only its stages and pairs matter.
        domain: A box, or a polytope whose bounding box is finite.
        walls: The half-spaces of a polytope, as rows that are non-negative inside; constants last.
        rounds: Bounds of the remaining neurons in each round; then those of one sign are folded away.
        pairs: Bounds of the distances of the remaining pairs.
    """

    program: ReLUProgram
    domain: Domain
    walls: Float[np.ndarray, "rows inputs1"]
    rounds: tuple[tuple[Float[np.ndarray, "neurons"], Float[np.ndarray, "neurons"]], ...]
    pairs: PairedRows

    @classmethod
    def of(cls, program: ReLUProgram, domain: Domain, until: float = np.inf) -> BoundedNeurons:
        """Bound the neurons stage by stage (Tjeng et al. 2019).

        Args:
            program: The program.
            domain: A box, or a polytope whose bounding box is finite.
            until: Time on the monotonic clock from which on neurons keep the bounds they have.
        """
        lower, upper = bounding_box(domain, program.in_shape)
        normals, offsets = np.zeros((0, len(lower))), np.zeros(0)
        if not isinstance(domain, Box):
            normals, offsets = domain.inequalities(program.in_shape)
        walls = np.column_stack([-normals, offsets])
        scaled = ScaledProgram.of(program, lower, upper)
        pairs, rounds = PairedRows.of(program, scaled), []
        for _ in range(max(ROUNDS, 1 + len(program.stages)) if len(pairs) else ROUNDS):
            # Without constraints: a neuron may have one sign where they hold and the other sign elsewhere.
            nothing = replace(scaled, outputs=np.zeros((1, scaled.outputs.shape[1])))
            work = RelaxationRoom(nothing, 1, walls, np.zeros(1), 1, pairs)
            low, high = work.bounds_of_neurons(until)
            rounds.append((low.copy(), high.copy()))
            nearer = work.bounds_of_distances(scaled, pairs, until)
            before, scaled = scaled, scaled.folded(low, high)
            pairs = nearer.within(program, before, scaled)
        return cls(program, domain, walls, tuple(rounds), pairs)

    def scaled(self, program: ReLUProgram) -> ScaledProgram:
        """Return a program with these neurons and any outputs, scaled and folded by the known bounds of the neurons."""
        scaled = ScaledProgram.of(program, *bounding_box(self.domain, program.in_shape))
        for low, high in self.rounds:
            scaled = scaled.folded(low, high)
        return scaled


class RelaxationEngine:
    """Opens cells by the linear programs of their relaxations.

    Args:
        posed: The question; its domain is a box, or a polytope whose bounding box is finite.
        known: Known bounds of its neurons; computed by default.
        until: Time on the monotonic clock by which its neurons should be bounded.
    """

    def __init__(self, posed: Posed, known: BoundedNeurons | None = None, until: float = np.inf) -> None:
        self.posed = posed
        self.bounded = BoundedNeurons.of(posed.program, posed.domain, until) if known is None else known
        self.walls, self.pairs = self.bounded.walls, self.bounded.pairs
        scaled = self.bounded.scaled(posed.program)
        # Goals share one unit; each constraint has its own.
        units = np.ldexp(1.0, exponents_of(np.abs(scaled.output_bounds()).max(axis=0)))
        units[: posed.num_goals] = units[: posed.num_goals].max()
        self.unit = float(units[0])
        self.scaled = replace(scaled, outputs=np.ascontiguousarray(scaled.outputs / units[:, None]))
        self.slack = posed.slack / units
        self._local = np.full(posed.program.num_neurons, -1)
        self._local[scaled.neurons] = np.arange(len(scaled.neurons))
        self._idle: SimpleQueue[RelaxationRoom] = SimpleQueue()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the workspaces: the bounds of the neurons take time, and their rounding must not vary."""
        return {name: value for name, value in vars(self).items() if name != "_idle"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _idle=SimpleQueue())

    @property
    def task_cells(self) -> int:
        """Number of cells that a task should open: about a tenth of a second of work."""
        count = len(self.scaled.neurons)
        return int(np.clip(2e7 / (1 + 2 * count * (self.scaled.num_free + count)), 16, 4096))

    def root(self) -> OpenCell:
        """Return the whole domain, with a bound."""
        work = self._take()
        bound = work.bound() * self.unit
        self._idle.put(work)
        return OpenCell(np.zeros(0, dtype=np.int32), bound)

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task; everything below one comes before the next."""
        work, enough = self._take(), self.posed.enough
        opened, kept, left_out = 0, list[OpenCell](), -np.inf
        x, best = None, task.incumbent
        for cell in task.cells:
            if cell.bound <= best + TOLERANCE * self.unit:
                left_out = max(left_out, cell.bound)
                continue
            if opened >= task.budget or best > enough:
                kept.append(cell)
                continue
            decisions = 2 * self._local[cell.path >> 1] + (cell.path & 1)
            work.found.best[:] = best / self.unit, -np.inf
            limits = np.array([enough, cell.bound, task.leave_below]) / self.unit
            work.search(decisions, np.append(TOLERANCE, limits), task.budget - opened)
            opened += int(work.counts[OPENED])
            left_out = max(left_out, float(work.found.best[1]) * self.unit)
            for below, length, bound in zip(*work.left(), strict=True):
                path = 2 * self.scaled.neurons[below[:length] >> 1] + (below[:length] & 1)
                kept.append(OpenCell(np.concatenate([cell.path, path]).astype(np.int32), float(bound) * self.unit))
            if work.counts[FOUND]:
                point = self.scaled.unscaled(work.found.x)
                value = float(self.posed.value(point[None])[0])
                if value > best:
                    x, best = point, value
        self._idle.put(work)
        return CellOutcome(tuple(kept), x, best if x is not None else -np.inf, opened, left_out)

    def _take(self) -> RelaxationRoom:
        """Return a workspace: that of a finished task, or a new one."""
        try:
            return self._idle.get_nowait()
        except Empty:
            count = len(self.scaled.neurons)
            size = 8 * (2 * count + 2) * (self.scaled.num_free + count + 2)
            depth = int(min(count + 2, max(8, MOST_BYTES // size)))
            return RelaxationRoom(self.scaled, self.posed.num_goals, self.walls, self.slack, depth, self.pairs)


class RelaxationRoom:
    """A relaxation, with storage for its cells."""

    def __init__(
        self,
        scaled: ScaledProgram,
        num_goals: int,
        walls: Float[np.ndarray, "rows inputs1"],
        slack: Float[np.ndarray, "outputs"],
        depth: int,
        pairs: PairedRows,
    ) -> None:
        d, count = scaled.num_free, len(scaled.neurons)
        self.num_goals, self.walls = num_goals, walls
        outputs, several = scaled.outputs, num_goals > 1
        least, most = scaled.output_bounds()
        columns = d + count + several
        others = np.zeros((len(outputs) - num_goals * (not several), columns + 1))
        given = outputs if several else outputs[1:]
        others[:, : d + count], others[:, -1] = given[:, :-1], given[:, -1]
        objective = np.zeros(columns + 1)
        lp = self.lp = room(columns, 2 * count + len(others) + len(walls) + 2 * len(pairs))
        lp.lower[:d], lp.upper[:d] = -1.0, 1.0
        upper = most[len(outputs) - len(others) :].copy()
        if several:  # one more variable, at most every goal
            objective[-2] = 1.0
            others[:num_goals, -2] = -1.0
            lp.lower[d + count], lp.upper[d + count] = least[:num_goals].min(), most[:num_goals].min()
            upper[:num_goals] -= lp.lower[d + count]
        else:
            objective[: d + count], objective[-1] = outputs[0, :-1], outputs[0, -1]
        rows = np.concatenate([others, np.zeros((len(walls) + 2 * len(pairs), columns + 1))])
        of_walls, of_pairs = rows[len(others) : len(others) + len(walls)], rows[len(others) + len(walls) :]
        of_walls[:, :d] = walls[:, scaled.free] * scaled.half[scaled.free]
        of_walls[:, -1] = walls[:, :-1] @ scaled.middle + walls[:, -1]
        coupled = pairs.rows(scaled)
        of_pairs[:, : d + count], of_pairs[:, -1] = coupled[:, :-1], coupled[:, -1]
        upper = np.concatenate([upper, np.abs(rows[len(others) :]).sum(axis=1)])
        lp.upper[columns + 2 * count :] = np.maximum(upper, 0.0)
        self.relaxation = Relaxation(
            scaled.weights,
            scaled.biases,
            rows,
            objective,
            np.ascontiguousarray(outputs),
            -slack,
            np.zeros(columns),
            np.zeros(d + count),
            np.zeros(count),
        )
        self.state = CellState(
            np.full(count, -1, dtype=np.int8),
            scaled.low.copy(),
            scaled.high.copy(),
            scaled.low.copy(),
            scaled.high.copy(),
        )
        for j in range(count):
            bound_neuron(self.relaxation, self.state, lp, j)
        slack_tableau(self.relaxation, self.state, lp)
        begin(lp)
        set_objective(lp, objective)
        rest(lp)
        self.saved, self.start = _saved(lp, self.state, depth), _saved(lp, self.state, 1)
        room_left = 2 * depth + 1024
        self.found = Leavings(
            np.zeros((room_left, depth), dtype=np.int32),
            np.zeros(room_left, dtype=np.int64),
            np.zeros(room_left),
            np.zeros(d),
            np.zeros(d),
            np.zeros(2),
        )
        self.counts = np.zeros(NUM_COUNTS, dtype=np.int64)
        self.is_solved = False

    def left(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the paths, their lengths and the bounds of the cells that the search left open."""
        left, found = self.counts[LEFT], self.found
        return found.paths[:left], found.lengths[:left], found.bounds[:left]

    def bounds_of_neurons(
        self, until: float = np.inf
    ) -> tuple[Float[np.ndarray, "neurons"], Float[np.ndarray, "neurons"]]:
        """Bound all neurons by linear programs over the domain; the bounds of earlier neurons help the later ones."""
        lp, relaxation, state = self.lp, self.relaxation, self.state
        count = len(relaxation.biases)
        inputs = relaxation.weights.shape[1] - count
        for j in np.flatnonzero(relaxation.weights[:, inputs:].any(axis=1) | bool(len(self.walls))):
            if time.monotonic() >= until:
                break
            row = np.append(relaxation.weights[j], relaxation.biases[j])
            state.high[j] = min(state.high[j], self._greatest(row))
            state.low[j] = max(state.low[j], -self._greatest(-row))
            bound_neuron(relaxation, state, lp, j)
        return state.low, state.high

    def bounds_of_distances(self, scaled: ScaledProgram, pairs: PairedRows, until: float = np.inf) -> PairedRows:
        """Return the pairs, with their distances bounded by linear programs over the domain."""
        distances, rounding = pairs.distances(scaled)
        least, most = pairs.least.copy(), pairs.most.copy()
        for k, distance in enumerate(distances):
            if time.monotonic() >= until:
                break
            most[k] = min(most[k], self._greatest(distance) + rounding[k])
            least[k] = max(least[k], -self._greatest(-distance) - rounding[k])
        return replace(pairs, least=least, most=most)

    def _greatest(self, affine: Float[np.ndarray, "sources1"]) -> float:
        """Return an upper bound of an affine function of inputs and neurons over the domain."""
        lp, objective = self.lp, np.zeros(len(self.lp.loose) + 1)
        objective[: len(affine) - 1], objective[-1] = affine[:-1], affine[-1]
        set_objective(lp, objective)
        rest(lp)
        maximise(lp, -np.inf, MOST_STEPS, OUTSIDE)
        return float(proven_bound(self.relaxation, self.state, lp, objective, len(lp.basic), 1.0))

    def bound(self) -> float:
        """Return the bound of the whole domain."""
        self._enter(np.zeros(0, dtype=np.int32))
        return float(solve(self.relaxation, self.state, self.lp, -np.inf))

    def _enter(self, decisions: Int32[np.ndarray, "decisions"]) -> None:
        """Go to a cell from the whole domain, whose program is solved only once."""
        if not self.is_solved:
            maximise(self.lp, -np.inf, MOST_STEPS, OUTSIDE)
            save(self.lp, self.state, self.start, 0)
            self.is_solved = True
        restore(self.lp, self.state, self.start, 0)
        for decision in decisions.tolist():
            decide(self.relaxation, self.state, self.lp, decision >> 1, decision & 1)
        rest(self.lp)

    def search(self, decisions: Int32[np.ndarray, "decisions"], limits: Float[np.ndarray, "3"], budget: int) -> None:
        """Search a cell; `found` holds the results, `counts` the counters."""
        self._enter(decisions)
        self.counts[:] = 0
        search_below(
            self.relaxation, self.state, self.lp, self.saved, self.found, self.counts, limits, budget, self.num_goals
        )


def _saved(lp: BoxedProgram, state: CellState, depth: int) -> Saved:
    """Allocate storage for `depth` cells."""
    kept = (lp.tableau, lp.value, lp.at, lp.lower, lp.upper, lp.loose, lp.basic, lp.place, *state)
    rooms = [np.zeros((depth, *array.shape), dtype=array.dtype) for array in kept]
    decision, taken = np.zeros((2, depth), dtype=np.int32)
    return Saved(*[*rooms, decision, taken, np.zeros(depth)])
