"""Common form of the questions that a search answers, and the messages between the search and its engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int32

from torch_shallow.domain import Domain
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True, eq=False)
class Posed:
    """The maximum of the least of some affine functions where others are non-negative.

    With g_1, ..., g_m the first `num_goals` outputs of the program and c_1, ... the others, it is the maximum of
    min_i g_i(x) over all x of the domain with c_j(x) >= 0 for all j. Goals may depend on the input directly, as may all
    outputs of a program, so any concave piecewise-linear function of inputs and outputs can be maximised.

    Attributes:
        program: The network; its outputs are the goals, then the constraints.
        domain: The domain; bounded, unless all regions are to be examined (`search/by_regions.py`).
        num_goals: Number of outputs that are goals, at least one.
        floor: Values up to this are of no interest; a cell that cannot exceed it is left out.
        enough: A point of a higher value ends the search.
        slack: A point satisfies a constraint down to minus this; where the best point lies on the constraint's
            boundary, rounding decides the side.
    """

    program: ReLUProgram
    domain: Domain
    num_goals: int = 1
    floor: float = -np.inf
    enough: float = np.inf
    slack: float = 0.0

    def is_about_neurons_of(self, other: Posed) -> bool:
        """Return whether another question concerns the same neurons in the same domain, whatever its outputs are."""
        own, given = self.program, other.program
        return own.stages is given.stages and own.pairs is given.pairs and self.domain is other.domain

    def value(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points"]:
        """Return the value at each row, as the program computes it; -inf where a constraint is violated."""
        y = self.program(x)
        kept = (y[:, self.num_goals :] >= -self.slack).all(axis=1)
        return np.where(kept, y[:, : self.num_goals].min(axis=1), -np.inf)


@dataclass(frozen=True, eq=False)
class OpenCell:
    """A cell that may still hold a better point.

    Attributes:
        path: The decisions on neurons that lead to it, in order, each as `2 * neuron + side` (side 1: active), with
            neurons numbered through all stages. An engine that also cuts inputs codes these cuts by numbers from
            `2 * num_neurons` on.
        bound: Proven upper bound of the values in the cell.
    """

    path: Int32[np.ndarray, "depth"]
    bound: float


@dataclass(frozen=True, eq=False)
class CellTask:
    """Cells for an engine to open.

    Attributes:
        cells: The cells, best first.
        incumbent: The best known value, or the floor; cells that cannot exceed it are left out.
        budget: Greatest number of cells to open, approximately; the rest is returned. A task opens at least one.
        leave_below: Bound up to which descendants of its cells are returned rather than opened, as others are more
            promising.
        seconds: Time after which a task ends as well; infinite in a search without a limit, whose result must not
            depend on clocks.
    """

    cells: tuple[OpenCell, ...]
    incumbent: float
    budget: int
    leave_below: float = -np.inf
    seconds: float = np.inf


@dataclass(frozen=True, eq=False)
class CellOutcome:
    """Results of a task.

    Attributes:
        open: Cells left open; together with those left out, they cover the cells of the task.
        x: The best point found, if it is better than the incumbent; it lies in the domain.
        value: Value of `x`, as the program computes it in float64; -inf without a point.
        cells: Number of cells opened.
        left_out: Highest bound of a cell that was left out because it cannot exceed the incumbent, or -inf.
    """

    open: tuple[OpenCell, ...]
    x: Float[np.ndarray, "inputs"] | None
    value: float
    cells: int
    left_out: float = -np.inf


@runtime_checkable
class Engine(Protocol):
    """Opens cells: bounds them, finds points in them, and branches.

    An engine is made from a question and from bounds of its neurons that are the same for everyone. Its results depend
    only on these and the task: not on random numbers or earlier tasks, nor on clocks, unless the task has a time limit.
    So the search has the same result whoever does the work.
    """

    @property
    def task_cells(self) -> int:
        """Greatest number of cells that a task should open to take about a tenth of a second."""

    def root(self) -> OpenCell:
        """Return the whole domain, with a bound."""

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, depth first or in any other order, until the budget is used up."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Proven enclosure of the greatest value: it lies between `value` and `bound`.

    Attributes:
        x: The best point found; None if there is none.
        value: Value of `x`; -inf without a point.
        bound: Upper bound: no point of the domain has a value above both this and `value`; -inf if there is no point.
        cells: Number of cells opened.
        seconds: Time taken, in seconds.
        reason: Why the search stopped early; an empty text if it did not.
        counts: Further counts of the engine.
    """

    x: Float[np.ndarray, "inputs"] | None
    value: float
    bound: float
    cells: int
    seconds: float
    reason: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Width of the proven interval."""
        return 0.0 if self.bound <= self.value else self.bound - self.value
