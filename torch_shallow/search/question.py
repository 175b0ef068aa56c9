"""What a search answers, in the one form that all of its engines know, and what travels between it and them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int32

from torch_shallow.domain import Domain
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True, eq=False)
class Posed:
    """The greatest value of the least of some affine functions, where others are not negative.

    With g_1, ..., g_m the first `num_goals` outputs of the program and c_1, ... the others, it is the maximum of
    min_i g_i(x) over all x of the domain with c_j(x) >= 0 for all j. The goals may depend on the input directly, as may
    all outputs of a program, so that any concave piecewise-linear function of inputs and outputs can be asked for.

    Attributes:
        program: the network, whose outputs are the goals and then the constraints.
        domain: where to look; bounded, unless all regions are to be looked at (`search/by_regions.py`).
        num_goals: how many of the outputs are goals: at least one.
        floor: values up to this are of no interest: a cell that cannot reach more is left out.
        enough: a point of a higher value ends the search.
        slack: a constraint counts as kept by a point down to minus this: where the best point lies on its boundary,
            rounding decides on which side.
    """

    program: ReLUProgram
    domain: Domain
    num_goals: int = 1
    floor: float = -np.inf
    enough: float = np.inf
    slack: float = 0.0

    def value(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points"]:
        """The value at each row, as the program computes it; -inf where a constraint is not kept."""
        y = self.program(x)
        kept = (y[:, self.num_goals :] >= -self.slack).all(axis=1)
        return np.where(kept, y[:, : self.num_goals].min(axis=1), -np.inf)


@dataclass(frozen=True, eq=False)
class OpenCell:
    """A cell that may still hold a better point.

    Attributes:
        path: the decisions on neurons that lead to it, each as `2 * neuron + side` (side 1: active), neurons numbered
            through all stages; in the order in which they were made. An engine that cuts inputs too codes these cuts in
            numbers from `2 * num_neurons` on.
        bound: no point of the cell has a higher value: proven.
    """

    path: Int32[np.ndarray, "depth"]
    bound: float


@dataclass(frozen=True, eq=False)
class CellTask:
    """Some cells to open.

    Attributes:
        cells: the cells, best first.
        incumbent: the best value known, or the floor; what cannot be above it is left out.
        budget: about how many cells to open at most; what is then left is given back. A task always opens one.
        leave_below: cells below its own whose bound is at most this are given back rather than opened: others are more
            promising.
        seconds: after which a task whose cells take long is to end as well; infinite in a search without a limit, whose
            result must not depend on clocks.
    """

    cells: tuple[OpenCell, ...]
    incumbent: float
    budget: int
    leave_below: float = -np.inf
    seconds: float = np.inf


@dataclass(frozen=True, eq=False)
class CellOutcome:
    """What became of the cells of a task.

    Attributes:
        open: cells that are left open; together with those that were left out, they cover the cells of the task.
        x: the best point found, if it is better than the incumbent; it lies in the domain.
        value: its value, as the program computes it in float64; -inf without a point.
        cells: how many cells were opened.
        left_out: the highest bound of a cell that was left out since it cannot be above the incumbent, or -inf.
    """

    open: tuple[OpenCell, ...]
    x: Float[np.ndarray, "inputs"] | None
    value: float
    cells: int
    left_out: float = -np.inf


@runtime_checkable
class Engine(Protocol):
    """Opens cells: bounds them, finds points in them, and branches.

    An engine is made of a question, and of bounds that anybody would find for its neurons. What it does with a task
    depends on nothing but these and the task: not on clocks (unless the task has an end by them), random numbers, or
    earlier tasks. So the search has the same result whoever does the work.
    """

    @property
    def task_cells(self) -> int:
        """How many cells a task should open at most, for it to take about a tenth of a second."""

    def root(self) -> OpenCell:
        """The whole domain, with a bound."""

    def explore(self, task: CellTask) -> CellOutcome:
        """Open the cells of a task, depth first or as the engine likes, until the budget is used up."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is proven of the greatest value: it lies between `value` and `bound`.

    Attributes:
        x: the best point found; None if there is none.
        value: its value; -inf without a point.
        bound: no point of the domain has a higher value than this and `value`: -inf if there is no point at all.
        cells: how many cells were opened.
        seconds: how long it took.
        reason: why the search stopped before it had ended; empty if it has.
        counts: what else an engine counts.
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
        """The width of the proven interval."""
        return 0.0 if self.bound <= self.value else self.bound - self.value
