"""Count the activation regions of a network exactly, without storing them."""

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
    """Report the number of activation regions of a network.

    Attributes:
        regions: the number of regions found; a lower bound unless `complete`.
        complete: whether the whole domain was explored.
        explored: the explored share of the tree of cuts, from 0 to 1, where each cut gives half of its cell to either
            side.
        reason: why there may be more regions; empty if `complete`.
        method: for each engine, by name, the number of regions that it found.
        seconds: the duration in seconds, excluding earlier runs saved in a checkpoint.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> print(torch_shallow.count(model))
        37 regions
    """

    regions: int
    complete: bool
    explored: float
    reason: str
    method: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        found = f"{self.regions:,} region{'s'[: self.regions != 1]}"
        if self.complete:
            return found
        return f"at least {found}, {100 * self.explored:.3g} % of the tree explored ({self.reason})"

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

    These are the regions that `transform` finds, but none of them is stored, so memory does not grow with their number.
    If the count is stopped by the time limit or by Ctrl-C, it returns the number found so far and can continue from its
    checkpoint.

    Args:
        model: an `nn.Module` or an exported program, as for `transform`.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`, which begins with
            rays unless a box has many corners.
        solver: the solver of linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, with HiGHS for programs that it cannot settle.
        time_limit: seconds after which to stop, approximately; no limit if None.
        workers: a number of threads, or any `concurrent.futures.Executor`. The number of regions does not depend on it.
        task_seconds: seconds that one task of a worker may take before it returns its remaining work.
        checkpoint: a file for the counts and the cells that are still open, from which the count continues if the file
            exists. A checkpoint of `transform` cannot be used.
        progress: whether to show the regions, their rate, the explored share of the tree, and the remaining time.

    Returns:
        The number of regions, whether it covers the whole domain, and how the regions were found. If the domain was not
        fully explored, an `IncompleteWarning` is issued.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument has an invalid value, the model cannot be read, or the checkpoint belongs to another
            network.
        KeyboardInterrupt: Ctrl-C for a second time.

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
            f"count: stopped by {reason}: {found}; with `checkpoint`, the next call continues from there.",
            IncompleteWarning,
            stacklevel=3,
        )
    return found
