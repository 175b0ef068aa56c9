"""Maximise any concave piecewise-linear function of a network's inputs and outputs, without finding all regions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed, TextTable
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.subject import subject_of
from torch_shallow.modes import outside_modes
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.runs.budget import check_seconds


@runtime_checkable
class Question(Protocol):
    """Define a maximisation over a network: the smallest of some affine goals, subject to affine constraints.

    Any object with these two methods is a question. A row of coefficients (a, b, c) stands for the affine function a x
    + b y + c of the (flattened) input x and output y. Inputs are admitted where no constraint function is negative.
    Since the value of a question is the smallest of its goals, any concave piecewise-linear function can be maximised;
    to minimise a convex one, maximise its negative.

    Example:
        How far apart can two outputs be where the first input is at least the second?

        >>> import numpy as np, torch, torch_shallow
        >>> class Spread:
        ...     def goals(self, inputs, outputs):
        ...         return np.concatenate([np.zeros(inputs), [1.0, -1.0], [0.0]])[None]
        ...
        ...     def constraints(self, inputs, outputs):
        ...         return np.concatenate([[1.0, -1.0], np.zeros(outputs), [0.0]])[None]
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> found = torch_shallow.ask(model, Spread(), torch_shallow.Box(-1.0, 1.0))
        >>> bool(found.x[0] >= found.x[1]) and found.proven
        True
    """

    def goals(self, inputs: int, outputs: int) -> Float[np.ndarray, "goals columns"]:
        """Return the coefficients of the goals, of shape `(goals, inputs + outputs + 1)`, with at least one row."""

    def constraints(self, inputs: int, outputs: int) -> Float[np.ndarray, "constraints columns"]:
        """Return the coefficients of functions that must not be negative, in the same shape; there may be no rows."""


@dataclass(frozen=True, eq=False, repr=False)
class Maximum(Displayed):
    """Report what is proven about a maximum: it lies between `lower_bound` and `upper_bound`.

    Attributes:
        x: the best point found, float64, with the shape of an input; None if none was found.
        lower_bound: the value at `x`; -inf without a point.
        upper_bound: a value that no point of the domain exceeds; -inf if it is proven that no point meets the
            constraints.
        cells: the number of cells that the search opened.
        seconds: the duration of the search in seconds.
        reason: what stopped the search; empty if it ran to its end.

    Example:
        >>> import torch, torch_shallow
        >>> torch_shallow.Maximum(torch.zeros(2), 1.0, 1.5, cells=12, seconds=2.0, reason="time_limit=2.0").gap
        0.5
    """

    x: Float[Tensor, "*in_shape"] | None
    lower_bound: float
    upper_bound: float
    cells: int
    seconds: float
    reason: str = ""

    @property
    def gap(self) -> float:
        """The width of the proven interval; 0 if the search ran to its end."""
        return 0.0 if self.upper_bound <= self.lower_bound else self.upper_bound - self.lower_bound

    @property
    def proven(self) -> bool:
        """Whether the search ran to its end, so that the interval is a single number up to rounding."""
        return not self.reason

    def __str__(self) -> str:
        """Return the value, or the interval if the search was stopped."""
        if self.proven:
            return "nothing meets the constraints" if self.x is None else f"{self.lower_bound:.6g}"
        return f"{self.lower_bound:.6g} to {self.upper_bound:.6g} (stopped by {self.reason} after {self.cells:,} cells)"

    def _parts(self) -> Iterable[str | TextTable]:
        yield str(self)
        if self.x is not None:
            point = np.array2string(self.x.double().cpu().numpy().ravel(), precision=6, threshold=12)
            bounds = [f"{self.lower_bound:.6g}", f"{self.upper_bound:.6g}"]
            yield TextTable(["best point", "value there", "none is above"], [[point, *bounds]])


@outside_modes
def ask(
    model: nn.Module | ExportedProgram | Callable[..., Tensor],
    question: Question,
    domain: Domain | None = None,
    *,
    example_input: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Maximum:
    """Maximise a question over a network: exactly if the search ends, and with a proven interval whenever it stops.

    The search opens only cells that may still hold a better point than the best one known, the most promising first.

    Args:
        model: a piecewise-linear model of any size, or a shallow network, its trunk method or its function.
        question: the goals and constraints, an object with the methods of `Question`.
        domain: a `Box` or a `Polytope`; if None, all of R^n, or everything that a shallow network knows. In an
            unbounded domain, all regions are found, which is possible only for small networks.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        method: `"auto"` chooses by size among `"rays"` (vertices of cells, for few inputs), `"relaxation"` (linear
            programs, for moderate sizes) and `"backward"` (batches of linear bounds, for wide networks and many
            inputs); `"milp"` solves one mixed-integer program.
        solver: with `method="milp"`, a name in `cvxpy.installed_solvers()`; HiGHS if None.
        workers: a number of threads, or any `concurrent.futures.Executor`. The result does not depend on it.
        time_limit: seconds after which to stop, approximately; no limit if None.
        checkpoint: a file in which the search is saved, and from which it continues if the file exists.
        progress: whether to show the interval proven so far.

    Returns:
        The best point found, and the interval that is proven to contain the maximum.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: the model cannot be read or has a head, or the rows of the question do not match the network's
            inputs and outputs.
        KeyboardInterrupt: Ctrl-C before the search has begun, or a second time.

    Example:
        >>> import numpy as np, torch, torch_shallow
        >>> class FirstOutput:
        ...     def goals(self, inputs, outputs):
        ...         return np.eye(inputs + outputs + 1)[inputs : inputs + 1]
        ...
        ...     def constraints(self, inputs, outputs):
        ...         return np.zeros((0, inputs + outputs + 1))
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> found = torch_shallow.ask(model, FirstOutput(), torch_shallow.Box(-1.0, 1.0))
        >>> bool(model(found.x.float()) <= found.upper_bound + 1e-6)
        True
    """
    from torch_shallow.search.ask import answer  # imported here because numba takes a while
    from torch_shallow.search.question import Posed

    if not isinstance(question, Question):
        raise WrongTypeError(
            "question: expected an object with the methods goals() and constraints(), found "
            f"{type(question).__name__}; see torch_shallow.Question."
        )
    if time_limit is not None:
        check_seconds("time_limit", time_limit, " or None")
    subject = subject_of(model, domain, example_input)
    program = subject.program
    goals = _rows("goals", question.goals(program.num_inputs, program.num_outputs), program, least=1)
    constraints = _rows("constraints", question.constraints(program.num_inputs, program.num_outputs), program, least=0)
    rows = np.concatenate([goals, constraints])
    of_inputs, of_outputs, constants = np.split(rows, [program.num_inputs, rows.shape[1] - 1], axis=1)
    weight = of_outputs @ program.out_weight
    weight[:, : program.num_inputs] += of_inputs
    bias = of_outputs @ program.out_bias + constants[:, 0]
    posed = Posed(
        replace(program, out_shape=(len(rows),), out_weight=weight, out_bias=bias), subject.domain, len(goals)
    )
    found = answer(
        posed,
        method=method,
        solver=solver,
        workers=workers,
        time_limit=time_limit,
        checkpoint=checkpoint,
        progress=progress,
    )
    x = None
    if found.x is not None:
        x = torch.from_numpy(found.x.copy()).reshape(program.in_shape).to(subject.device)
    return Maximum(x, found.value, found.bound, found.cells, found.seconds, found.reason)


def _rows(name: str, rows: object, program: ReLUProgram, least: int) -> Float[np.ndarray, "rows columns"]:
    columns = program.num_inputs + program.num_outputs + 1
    given = np.asarray(rows, dtype=np.float64)
    if given.size == 0 and least == 0:
        return np.zeros((0, columns))
    if given.ndim != 2 or given.shape[1] != columns or len(given) < least or not np.isfinite(given).all():
        raise TransformError(
            f"question: expected {name}() to return finite numbers of shape (rows, {columns}), for "
            f"{program.num_inputs} inputs, {program.num_outputs} outputs and a constant, found shape "
            f"{given.shape}{'' if np.isfinite(given).all() else ' with NaN or inf'}; give one row for each function."
        )
    return given
