"""Engine that finds the greatest slope: branch and bound on the signs of neurons and on directions."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, Int32

from torch_shallow.bounds.paired_rows import PairedRows
from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.domain import Domain
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines.relaxation_engine import RelaxationEngine, RelaxationRoom
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell, Posed
from torch_shallow.search.steepness.cell_slope import bound_slopes
from torch_shallow.search.steepness.output_cone import FEWEST_NEURONS, MOST_OUTPUTS, orthant
from torch_shallow.search.steepness.region_interior import interior_of_domain, interior_of_region
from torch_shallow.search.steepness.slope_choice import decide_way
from torch_shallow.search.steepness.slope_form import SlopeForm, SlopeProgram, Ways, bound_changes
from torch_shallow.search.steepness.slope_walk import (
    FOUND,
    LEFT,
    NUM_COUNTS,
    OPENED,
    SteepestFound,
    walk_below,
)
from torch_shallow.search.steepness.steeper_neighbours import climb, slopes_of
from torch_shallow.search.steepness.steepness import Steepness

TOLERANCE = 1e-10  # share of the program's greatest possible slope by which a bound must exceed the best value


@dataclass(frozen=True, eq=False)
class Bounded:
    """A program on a bounded domain, with proven bounds of its neurons.

    Attributes:
        scaled: The program.
        walls: Half-spaces of a polytope, `walls @ (x, 1) >= 0`.
        inner: Interior point of the domain, in scaled inputs.
    """

    scaled: ScaledProgram
    walls: Float[np.ndarray, "rows inputs1"]
    inner: Float[np.ndarray, "free"]

    @classmethod
    def of(cls, program: ReLUProgram, domain: Domain, until: float = np.inf) -> Bounded:
        """Bound the neurons; from `until` on the monotonic clock, they keep the bounds they have."""
        relaxed = RelaxationEngine(Posed(program, domain, num_goals=program.num_outputs), until=until)
        scaled = replace(relaxed.scaled, outputs=relaxed.scaled.outputs * relaxed.unit)
        return cls(scaled, relaxed.walls, interior_of_domain(scaled, relaxed.walls))

    def of_output(self, output: int) -> Bounded:
        """Restrict the program to one output."""
        return replace(self, scaled=replace(self.scaled, outputs=self.scaled.outputs[output : output + 1].copy()))


class SlopeEngine:
    """Opens cells by affine bounds of their slopes and the linear programs of their relaxations.

    A path begins with the number of a question, of which the norm sets the kind: a column of the local models for norm
    1, a row for norm inf, a cone of directions of a few outputs for norm 2. Decisions on neurons follow, mixed with
    decisions on entries of the direction, on signs of outputs and on halves of cones.

    Args:
        asked: The question.
        bounded: Its program on its domain, for sharing among several questions; computed by default.
    """

    def __init__(self, asked: Steepness, bounded: Bounded | None = None) -> None:
        self.asked, program = asked, asked.program
        bounded = self.bounded = Bounded.of(program, asked.domain) if bounded is None else bounded
        self.walls, self.inner = bounded.walls, bounded.inner
        scaled = self.scaled = bounded.scaled
        n, half = scaled.num_free, scaled.half[scaled.free]
        in_ball = asked.norm == 2 and asked.direction is None
        lengths = np.linalg.norm(scaled.weights[:, :n] / half, axis=1)
        reads = np.ascontiguousarray(scaled.weights[:, :n] / half)
        self.program = SlopeProgram(
            reads,
            np.ascontiguousarray(scaled.weights[:, n:]),
            np.ascontiguousarray(scaled.outputs[:, :n] / half),
            np.ascontiguousarray(scaled.outputs[:, n:-1]),
            np.array([in_ball]),
            np.abs(reads @ reads.T) * (1.0 + 1e-13) + 1e-15 * np.outer(lengths, lengths) * n,
        )
        self._local = np.full(program.num_neurons, -1)
        self._local[scaled.neurons] = np.arange(len(scaled.neurons))
        self._pace = np.inf  # seconds for a cell of the last task that had a time limit
        self._idle: SimpleQueue[_Room] = SimpleQueue()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the workspaces."""
        return {name: value for name, value in vars(self).items() if name != "_idle"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _idle=SimpleQueue())

    @property
    def task_cells(self) -> int:
        """Number of cells that a task should open: about a tenth of a second of work."""
        count = len(self.scaled.neurons)
        return int(np.clip(4e6 / (1 + 2 * count * (self.scaled.num_free + count)), 16, 4096))

    def root(self) -> OpenCell:
        """Return the whole domain, with a bound."""
        return OpenCell(np.zeros(0, dtype=np.int32), np.inf)

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task; everything below one comes before the next."""
        room, asked, until = self._take(), self.asked, time.monotonic() + task.seconds
        opened, kept, left_out = 0, list[OpenCell](), -np.inf
        x, best = None, task.incumbent
        for cell in task.cells:
            if len(cell.path) == 0:
                questions = np.arange(self._num_questions(), dtype=np.int32)
                kept += [OpenCell(questions[k : k + 1], room.bound(self, k)) for k in range(len(questions))]
                opened += 1
                continue
            if cell.bound <= best:
                left_out = max(left_out, cell.bound)
                continue
            if opened >= task.budget or best > asked.enough:
                kept.append(cell)
                continue
            limits = np.array([self._tolerance(best), asked.enough, cell.bound, task.leave_below])
            budget, begun = task.budget - opened, time.monotonic()
            if until < np.inf:
                budget = min(budget, max(1, int((until - begun) / self._pace)))
            room.search(self, cell.path, best, limits, budget)
            opened += int(room.counts[OPENED])
            if until < np.inf:
                self._pace = (time.monotonic() - begun) / max(1, int(room.counts[OPENED]))
            left_out = max(left_out, float(room.found.best[1]))
            if room.counts[FOUND]:
                point = self.climb(room.found.x, until) if best < asked.enough else room.found.x
                x, best = self._better(point, x, best)
            for below, bound, pattern in room.left():
                path = np.concatenate([cell.path, self._outer(below)]).astype(np.int32)
                if pattern is None:
                    kept.append(OpenCell(path, bound))
                    continue
                inner, has_none = interior_of_region(self.scaled, self.walls, pattern)
                if inner is not None:
                    x, best = self._better(inner, x, best)
                if not has_none:
                    left_out = max(left_out, min(bound, self._value_of(pattern)))
        self._idle.put(room)
        return CellOutcome(tuple(kept), x, best if x is not None else -np.inf, opened, left_out)

    def climb(self, v: Float[np.ndarray, "free"], until: float = np.inf) -> Float[np.ndarray, "free"]:
        """Return a point of a region at least as steep as that of a point, in scaled inputs; see `climb`."""
        return climb(self.asked, self.program, self.scaled, self.walls, v, until)

    def ways(self, question: int) -> Ways:
        """Return the ways that one of the questions is about."""
        scaled, asked, outputs = self.scaled, self.asked, self.asked.program.num_outputs
        free, no_cone = scaled.free, (np.zeros((0, outputs)), np.zeros(1, dtype=np.int64))
        if asked.direction is not None:
            sides = np.full(outputs, 1.0 if asked.is_signed else np.nan)
            return Ways(asked.direction[free].copy(), asked.direction[free].copy(), sides, *no_cone)
        ones = np.ones(len(free))
        if asked.norm == 1:
            column = np.eye(len(free))[question]
            return Ways(column, column.copy(), np.full(outputs, np.nan), *no_cone)
        if asked.norm == 2:
            if self._has_cones:
                return Ways(-ones, ones, np.ones(outputs), orthant(question, outputs), no_cone[1])
            return Ways(-ones, ones, np.ones(1) if outputs == 1 else np.full(outputs, np.nan), *no_cone)
        return Ways(-ones, ones, np.eye(outputs)[question], *no_cone)

    @property
    def _has_cones(self) -> bool:
        """Whether the directions of the outputs are divided into cones."""
        asked = self.asked
        if asked.norm != 2 or asked.direction is not None or len(self.scaled.neurons) < FEWEST_NEURONS:
            return False
        return 1 < asked.program.num_outputs <= MOST_OUTPUTS

    def _num_questions(self) -> int:
        outputs = self.asked.program.num_outputs
        if self.asked.direction is not None or self.asked.norm == 2:
            return 1 << (outputs - 1) if self._has_cones else 1
        return self.scaled.num_free if self.asked.norm == 1 else outputs

    def _tolerance(self, best: float) -> float:
        return TOLERANCE * max(abs(best), 1e-300) if np.isfinite(best) else 0.0

    def _better(
        self, v: Float[np.ndarray, "free"], x: Float[np.ndarray, "inputs"] | None, best: float
    ) -> tuple[Float[np.ndarray, "inputs"] | None, float]:
        """Return the better of a point in scaled inputs and the best one so far."""
        point = self.scaled.unscaled(v)
        value = self.asked.at(point)
        return (point, value) if value > best else (x, best)

    def _value_of(self, pattern: Int8[np.ndarray, "neurons"]) -> float:
        """Return the value of a region by its pattern, with allowance for rounding."""
        slopes = slopes_of(self.program, pattern[None] == 1)[0]
        value = self.asked.of(slopes)
        return value + 1e-13 * (abs(value) + float(np.abs(slopes).max(initial=0.0)))

    def _outer(self, decisions: Int32[np.ndarray, "some"]) -> Int32[np.ndarray, "some"]:
        """Translate decisions to the numbers of the program's neurons."""
        ways = self.asked.program.num_neurons + np.arange(self.scaled.num_free + self.asked.program.num_outputs + 1)
        numbers = np.append(self.scaled.neurons, ways)
        return (2 * numbers[decisions >> 1] + (decisions & 1)).astype(np.int32)

    def inner_decisions(self, path: Int32[np.ndarray, "some"]) -> Int32[np.ndarray, "some"]:
        """Translate decisions to the numbers of the scaled neurons."""
        ways = len(self.scaled.neurons) + np.arange(self.scaled.num_free + self.asked.program.num_outputs + 1)
        numbers = np.append(self._local, ways)
        return (2 * numbers[path >> 1] + (path & 1)).astype(np.int32)

    def _take(self) -> _Room:
        try:
            return self._idle.get_nowait()
        except Empty:
            return _Room(self)


class _Room:
    """A relaxation, with storage for its cells and bounds."""

    def __init__(self, engine: SlopeEngine) -> None:
        scaled = engine.scaled
        count, n, outputs = len(scaled.neurons), scaled.num_free, len(scaled.outputs)
        size = 8 * (2 * count + 2) * (n + count + 2)
        depth = int(min(count + n + outputs + 2, max(8, (1 << 27) // size)))
        self.work = RelaxationRoom(
            replace(scaled, outputs=scaled.outputs[:1]), 1, engine.walls, np.zeros(1), depth, PairedRows.none()
        )
        self.ways = engine.ways(0)
        self.form, self.spare = (new_form(count, n, outputs, len(self.ways.corners)) for _ in range(2))
        capacity = 2 * depth + 1024
        self.found = SteepestFound(
            np.zeros((capacity, depth), dtype=np.int32),
            np.zeros(capacity, dtype=np.int64),
            np.zeros(capacity),
            np.zeros((capacity, count), dtype=np.int8),
            np.zeros(capacity, dtype=bool),
            np.zeros(n),
            np.zeros(n),
            engine.inner.copy(),
            np.zeros(count, dtype=np.int8),
            np.zeros(2),
        )
        self.counts = np.zeros(NUM_COUNTS, dtype=np.int64)

    def bound(self, engine: SlopeEngine, question: int) -> float:
        """Return the bound of one of the questions on the whole domain."""
        ways, status = engine.ways(question), np.full(len(engine.scaled.neurons), -1, dtype=np.int8)
        self.form.mixes[:] = 0.5
        bound_changes(engine.program, ways, status, self.form)
        return float(bound_slopes(engine.program, ways, status, self.form))

    def search(
        self,
        engine: SlopeEngine,
        path: Int32[np.ndarray, "decisions"],
        best: float,
        limits: Float[np.ndarray, "4"],
        budget: int,
    ) -> None:
        """Search a cell; `found` holds the results, `counts` the counters."""
        work, begun, count = self.work, engine.ways(int(path[0])), len(engine.scaled.neurons)
        decisions = engine.inner_decisions(path[1:])
        work._enter(decisions[decisions < 2 * count])
        for decision in decisions[decisions >= 2 * count].tolist():
            decide_way(engine.program, begun, decision)
        self.form.mixes[:] = 0.5
        self.found.best[:] = best, -np.inf
        self.counts[:] = 0
        walk_below(
            work.relaxation,
            work.state,
            work.lp,
            work.saved,
            engine.program,
            begun,
            self.ways,
            self.form,
            self.spare,
            self.found,
            self.counts,
            limits,
            budget,
        )

    def left(self) -> list[tuple[Int32[np.ndarray, "some"], float, Int8[np.ndarray, "neurons"] | None]]:
        """Return the path and bound of each cell left open, and its pattern if everything is decided there."""
        found = self.found
        return [
            (
                found.paths[k, : found.lengths[k]].copy(),
                float(found.bounds[k]),
                found.settled[k].copy() if found.is_settled[k] else None,
            )
            for k in range(int(self.counts[LEFT]))
        ]


def new_form(count: int, inputs: int, outputs: int, corners: int) -> SlopeForm:
    """Allocate the arrays of a bound."""
    return SlopeForm(
        np.full((max(corners, 1), count, count + 1), 0.5),
        *(np.zeros(count), np.zeros(count), np.zeros((2, count)), np.zeros(count), np.zeros(count), np.zeros(count)),
        *(np.zeros(count), np.zeros(count), np.zeros(inputs), np.zeros(count), np.zeros(count), np.zeros(inputs)),
        *(np.zeros(count + inputs), np.zeros(outputs)),
        *(np.zeros((3, outputs)), np.zeros(2), np.zeros((outputs, inputs)), np.zeros(outputs)),
        *(np.zeros((2, outputs, outputs)), np.zeros(outputs)),
    )
