"""Maximisation of a question: exact when the search completes, a proven interval whenever it stops earlier."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from torch_shallow.bounds.bounding_box import bounding_box, is_bounded
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.search.by_regions import answer_by_regions
from torch_shallow.search.engines.backward_engine import BackwardEngine
from torch_shallow.search.engines.bounded_ray_engine import RayBounder
from torch_shallow.search.engines.exploration import Effort
from torch_shallow.search.engines.relaxation_engine import BoundedNeurons, RelaxationEngine
from torch_shallow.search.milp import answer_by_milp
from torch_shallow.search.question import Answer, CellOutcome, CellTask, Engine, OpenCell, Posed
from torch_shallow.search.runs.best_first import BestFirst, Standing
from torch_shallow.search.runs.budget import Budget, interruptible
from torch_shallow.search.runs.checkpoint import Checkpoint, Codec
from torch_shallow.search.runs.fingerprint import Setting, fingerprint_of
from torch_shallow.search.runs.patience import Patience
from torch_shallow.search.runs.workers import Job, make_workers

METHODS = ("auto", "rays", "relaxation", "backward", "milp")
# Measured by benchmarks/questions.py: numbers of inputs that are not fixed, and of neurons that can change sign.
FEW_INPUTS = 6  # up to this many, cells are best given by their vertices
FEW_INPUTS_OF_MANY_NEURONS, SOME_NEURONS = 8, 64  # the same limit if there are more neurons than the second number
MANY_INPUTS, MANY_NEURONS = 64, 200  # with more of either, the linear programs of cells take too long
NEURONS = 0.5  # share of the remaining time in which neurons may be bounded before cells are opened
MANY_PAIRS = 40  # with more, bounding their distances anew in each cell pays, which linear programs do not do


def answer(
    posed: Posed,
    *,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    known: Known | None = None,
    patience: Patience | None = None,
) -> Answer:
    """Find the greatest value of a question.

    Complete, and sound up to rounding. The result depends only on the question, whatever the number of workers, unless
    the search is stopped.

    Args:
        posed: The question.
        method: The engine: `"rays"` (cells by their vertices: few inputs), `"relaxation"` (linear programs of cells:
            networks of moderate size), `"backward"` (backward linear bounds in batches: wide networks, many inputs), or
            `"milp"` (a single mixed-integer program); `"auto"` chooses one of the first three by size and, in an
            unbounded domain, enumerates all regions (`answer_by_regions`).
        solver: Solver of the mixed-integer program: a name in `cvxpy.installed_solvers()`; HiGHS by default.
        workers: A number of threads, or any `concurrent.futures.Executor`.
        time_limit: Seconds after which to stop, approximately; no limit by default.
        checkpoint: File in which to keep the results; if it exists, the search continues from it.
        progress: Whether to show the proven interval, its width, and the number of cells opened.
        known: Results of earlier questions about the same program, which are used and extended.
        patience: Logs a line in a long search without a limit; shared by several questions, or its own by default.

    Returns:
        The answer; if the search was stopped, an interval that contains the value.

    Raises:
        TransformError: An argument is not one of these, the domain is not bounded, or the checkpoint belongs to another
            search.
        KeyboardInterrupt: Ctrl-C was pressed a second time.
    """
    if method not in METHODS:
        raise TransformError(f"method: expected one of {', '.join(map(repr, METHODS))}, found {method!r}.")
    if method == "auto" and not is_bounded(posed.domain, posed.program.in_shape):
        return answer_by_regions(
            posed, workers=workers, time_limit=time_limit, checkpoint=checkpoint, progress=progress
        )
    bounding_box(posed.domain, posed.program.in_shape)  # raises an error that says what is missing
    if method == "milp":
        _check_alone(workers, checkpoint)
        return answer_by_milp(posed, solver=solver, time_limit=time_limit)
    if solver is not None:
        raise TransformError(f"solver: expected None unless method is 'milp', found {solver!r}; leave it out.")
    settings: dict[str, Setting] = {
        "method": method,
        "goals": posed.num_goals,
        "floor": posed.floor,
        "enough": posed.enough,
        "slack": posed.slack,
    }
    begun, known = time.monotonic(), known or Known()
    known.turn_to(posed)
    until = np.inf if time_limit is None else begun + time_limit
    job = Asked(posed, method, known, until)
    found = search_cells(
        job,
        lambda: fingerprint_of(posed.program, None, posed.domain, settings),
        floor=posed.floor,
        enough=posed.enough,
        workers=workers,
        time_limit=time_limit,
        checkpoint=checkpoint,
        progress=progress,
        patience=patience,
    )
    known.learn(job.engine)
    if found.x is None:
        return found
    value = float(posed.value(found.x[None])[0])
    return replace(found, value=value, bound=max(value, found.bound))


@dataclass(eq=False)
class Known:
    """Bounds of the neurons of one program in one domain, which do not depend on what is asked of its outputs.

    Attributes:
        posed: A question about these neurons; None as long as nothing is known.
        neurons: Their bounds by linear programs; None if unknown.
        box: Their backward bounds; None if unknown.
        until: Time on the monotonic clock by which all questions should be answered.
    """

    posed: Posed | None = None
    neurons: BoundedNeurons | None = None
    box: BoxBounds | None = None
    until: float = np.inf

    def turn_to(self, posed: Posed) -> None:
        """Forget the bounds if a question is about other neurons."""
        if self.posed is None or not self.posed.is_about_neurons_of(posed):
            self.neurons = self.box = None
        self.posed = posed

    def learn(self, engine: Engine) -> None:
        """Keep the bounds that an engine has computed."""
        if isinstance(engine, RelaxationEngine):
            self.neurons = engine.bounded
        elif isinstance(engine, BackwardEngine):
            self.box = engine.bounded

    def bounded_by(self, until: float) -> float:
        """Return the time by which neurons should be bounded, so that there is time left for a question about them.

        Args:
            until: Time by which this question should be answered; all of them share the bounds.
        """
        now, until = time.monotonic(), until if self.until == np.inf else self.until
        return now + NEURONS * max(0.0, until - now)


@runtime_checkable
class CellJob(Job, Protocol):
    """A job of opening cells, sent to workers: each task is a `CellTask` and yields a `CellOutcome`."""

    @property
    def engine(self) -> Engine:
        """The engine that opens cells."""


def search_cells(
    job: CellJob,
    fingerprint: Callable[[], dict[str, Setting]],
    *,
    floor: float = -np.inf,
    enough: float = np.inf,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    patience: Patience | None = None,
) -> Answer:
    """Find the greatest value in the cells of a domain; only the engine knows what the value is.

    Args:
        job: The job of opening cells.
        fingerprint: Returns the settings that a checkpoint must match.
        floor: Values up to this are of no interest.
        enough: A point of a higher value ends the search.
        workers: A number of threads, or any `concurrent.futures.Executor`.
        time_limit: Seconds after which to stop, approximately; no limit by default.
        checkpoint: File in which to keep the results; if it exists, the search continues from it.
        progress: Whether to show the proven interval and the number of cells opened.
        patience: Logs a line in a long search without a limit; its own by default.
    """
    budget, begun = Budget(None, time_limit), time.monotonic()
    with ExitStack() as stack:
        interrupted = stack.enter_context(interruptible())
        pool = make_workers(workers, interrupted)
        stack.callback(pool.close)
        standing = Standing(floor)
        if time_limit is None and not progress:
            stack.enter_context((patience or Patience()).watching(standing))
        standing.put([job.engine.root()])
        observers: list[Callable[[Standing, list[int], CellOutcome], None]] = []
        if checkpoint is not None:
            file = stack.enter_context(Checkpoint.open(checkpoint, fingerprint(), OUTCOMES))
            observers.append(_kept(file, standing))
        if progress:
            observers.append(stack.enter_context(_shown(standing)))
        search = BestFirst(
            job,
            standing,
            pool,
            budget,
            enough=enough,
            task_cells=job.engine.task_cells,
            interrupted=interrupted,
            observers=observers,
            at_once=job.engine.at_once if isinstance(job.engine, BackwardEngine) else 1,
        )
        reason = search.run()
    highest = max([standing.left_out, *(-bound for bound, _, _ in standing.open[:1])])
    value = -np.inf if standing.x is None else standing.value
    seconds = time.monotonic() - begun
    return Answer(standing.x, value, max(value, highest), standing.cells, seconds, reason)


@dataclass(frozen=True, eq=False)
class Asked:
    """The job of answering a question.

    Attributes:
        posed: The question.
        method: The engine that opens cells.
        known: What is known about its neurons.
        until: Time on the monotonic clock by which it should be answered.
    """

    posed: Posed
    method: str
    known: Known = field(default_factory=lambda: Known())
    until: float = np.inf

    @cached_property
    def engine(self) -> Engine:
        """The engine that opens cells; each process makes its own."""
        if self.method != "auto":
            made: dict[str, Callable[[], Engine]]
            made = {"rays": self._rays, "relaxation": self._relaxation, "backward": self._backward}
            return made[self.method]()
        program, domain = self.posed.program, self.posed.domain
        free = program.num_inputs
        if isinstance(domain, Box):
            free = int(np.subtract(*domain.bounds(program.in_shape)).astype(bool).sum())
        neurons = program.num_neurons
        if free <= FEW_INPUTS or (free <= FEW_INPUTS_OF_MANY_NEURONS and neurons > SOME_NEURONS):
            return self._rays()
        has_many_pairs = program.pairs is not None and len(program.pairs) > MANY_PAIRS and isinstance(domain, Box)
        if free <= MANY_INPUTS and neurons <= MANY_NEURONS and not has_many_pairs:
            return self._relaxation()
        return self._backward()

    def _rays(self) -> RayBounder:
        return RayBounder(self.posed)

    def _relaxation(self) -> RelaxationEngine:
        return RelaxationEngine(self.posed, self.known.neurons, self.known.bounded_by(self.until))

    def _backward(self) -> BackwardEngine:
        effort = Effort().until(self.known.bounded_by(self.until), self.until)
        return BackwardEngine(self.posed, effort, known=self.known.box)

    def do(self, task: CellTask, interrupted: Callable[[], bool]) -> CellOutcome:
        """Open the cells of a task."""
        del interrupted  # tasks are short
        return self.engine.explore(task)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: an engine, or the data to make one."""
        engine, known, state = self.engine, Known(), {"posed": self.posed, "method": self.method, "until": np.inf}
        known.learn(engine)
        return state | ({"engine": engine} if isinstance(engine, RelaxationEngine) else {"known": known})


def _check_alone(workers: int | Executor, checkpoint: object) -> None:
    """Raise if an option is given that a mixed-integer program does not support."""
    if workers != 1 or checkpoint is not None:
        name = "checkpoint" if checkpoint is not None else "workers"
        raise TransformError(
            f"{name}: expected no value with method='milp', which solves a single program; leave it out, or choose "
            "another method."
        )


def _encode(record: tuple[list[int], CellOutcome]) -> dict[str, np.ndarray]:
    numbers, outcome = record
    paths = [cell.path for cell in outcome.open]
    return {
        "numbers": np.array(numbers, dtype=np.int64),
        "lengths": np.array([len(path) for path in paths], dtype=np.int64),
        "paths": np.concatenate([np.zeros(0, dtype=np.int32), *paths]),
        "bounds": np.array([cell.bound for cell in outcome.open], dtype=np.float64),
        "x": np.zeros(0) if outcome.x is None else outcome.x,
        "value": np.array(outcome.value),
        "cells": np.array(outcome.cells),
        "left_out": np.array(outcome.left_out),
    }


def _decode(found: dict[str, np.ndarray]) -> tuple[list[int], CellOutcome]:
    paths = np.split(found["paths"], np.cumsum(found["lengths"])[:-1])
    cells = tuple(OpenCell(path, float(bound)) for path, bound in zip(paths, found["bounds"], strict=False))
    x = found["x"] if len(found["x"]) else None
    return found["numbers"].tolist(), CellOutcome(
        cells, x, float(found["value"]), int(found["cells"]), float(found["left_out"])
    )


OUTCOMES = Codec(_encode, _decode)


def _kept(
    file: Checkpoint[tuple[list[int], CellOutcome]], standing: Standing
) -> Callable[[Standing, list[int], CellOutcome], None]:
    """Replay what a checkpoint holds; return the function to call with each new outcome."""
    known = {entry[1]: entry for entry in standing.open}
    for numbers, outcome in file.pieces:
        for number in numbers:
            del known[number]
        standing.open = []
        standing.add(outcome)
        known |= {entry[1]: entry for entry in standing.open}
    standing.open = sorted(known.values())
    return lambda _, numbers, outcome: file.append((numbers, outcome))


@contextmanager
def _shown(standing: Standing) -> Iterator[Callable[[Standing, list[int], CellOutcome], None]]:
    """Show a line with the proven interval and the number of cells while a search goes on."""
    from tqdm.auto import tqdm

    with tqdm(initial=standing.cells, unit=" cells") as bar:

        def move(standing: Standing, _numbers: list[int], _outcome: CellOutcome) -> None:
            bound = max(standing.value, standing.left_out, *(-entry[0] for entry in standing.open[:1]))
            bar.set_postfix_str(f"{standing.value:.6g} to {bound:.6g}, gap {bound - standing.value:.2g}", refresh=False)
            bar.update(standing.cells - bar.n)

        yield move
