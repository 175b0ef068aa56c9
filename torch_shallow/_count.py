"""How many activation regions a network has, exactly, without keeping them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed, TextTable
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import IncompleteWarning, WrongTypeError
from torch_shallow.modes import outside_modes
from torch_shallow.program.model import Model
from torch_shallow.search.runs.budget import TASK_SECONDS


@dataclass(frozen=True, repr=False)
class RegionCount(Displayed):
    """How many activation regions there are.

    Attributes:
        regions: how many were found: all of them if `complete`, else there are at least so many.
        complete: whether the whole domain was explored.
        explored: the explored share of the tree of cuts, in which each cut gives half of its cell to either side.
        reason: why there may be more; empty if `complete`.
        method: how the regions were found: their number by the name of the engine.
        seconds: how long it took, without what a checkpoint held before.
    """

    regions: int
    complete: bool
    explored: float
    reason: str
    method: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        if self.complete:
            return f"{self.regions:,} regions"
        return f"at least {self.regions:,} regions, {100 * self.explored:.3g} % of the tree explored ({self.reason})"

    def _parts(self) -> Iterable[str | TextTable]:
        yield str(self)
        found = ", ".join(f"{number:,} by {name}" for name, number in self.method.items())
        yield TextTable(["found", "seconds"], [[found, f"{self.seconds:.2g}"]])


@outside_modes
def count(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    method: str = "auto",
    solver: str | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> RegionCount:
    """Count the activation regions of a network.

    The regions are those that `transform` finds, but none of them is kept, so that memory does not grow with their
    number. What is stopped by the time limit, or by Ctrl-C, has found some of them, and goes on from its checkpoint.

    Args:
        model: an `nn.Module` or an exported program, as for `transform`.
        example_input: a batch of inputs; needed only where the model does not tell the shape of one.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"auto"`, `"double-description"` or `"lp"`, as for `transform`.
        solver: what solves linear programs, as for `transform`.
        time_limit: stop after about this many seconds; no limit if None.
        workers: a number of threads, or any `concurrent.futures.Executor`. The number of regions does not depend on it.
        task_seconds: how long one task of a worker may take, before it gives back what is left.
        checkpoint: a file that keeps the numbers and the cells that are still open. If it is there, the count goes on
            from it. A file of `transform` cannot be used.
        progress: show a bar: regions, their rate, the explored share of the tree, and the time to go.

    Returns:
        The number of regions, whether it is that of the whole domain, and how they were found. If it is not, there is
        an `IncompleteWarning`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument does not fit, the model cannot be read, or a checkpoint is of another network.
        KeyboardInterrupt: Ctrl-C, a second time.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> torch_shallow.count(model).regions  # 1 + 8 + 8 * 7 / 2
        37
    """
    # Imported here because numba takes a while.
    from torch_shallow.search.counting import count_regions
    from torch_shallow.search.enumerate import pose

    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    begun = time.monotonic()
    problem = pose(Model.of(model, example_input).program(domain), domain or WholeSpace(), method, solver)
    cells, reason = count_regions(
        problem,
        domain or WholeSpace(),
        time_limit=time_limit,
        workers=workers,
        task_seconds=task_seconds,
        checkpoint=checkpoint,
        progress=progress,
        begun=begun,
    )
    explored = min(0.999, cells.explored) if reason else 1.0
    engines = {name: cells.method[name] for name in sorted(cells.method)}
    found = RegionCount(cells.num_regions, not reason, explored, reason, engines, time.monotonic() - begun)
    if reason:
        warnings.warn(
            f"count: stopped by {reason}: {found}; with `checkpoint`, the next call goes on from there.",
            IncompleteWarning,
            stacklevel=3,
        )
    return found
