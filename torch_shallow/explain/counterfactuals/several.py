"""Nearest counterfactuals of several inputs, and several of each that change different features."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import count as numbers
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.counterfactuals.asked_network import AskedNetwork, read_constraints, read_query
from torch_shallow.explain.counterfactuals.constraints import Changes
from torch_shallow.explain.counterfactuals.targets import Counterfactual, Target
from torch_shallow.explain.features import Features
from torch_shallow.explain.function import known_function, read_function
from torch_shallow.modes import outside_modes

logger = logging.getLogger(__name__)

LONG = 10.0  # seconds from which on it is said what is to come

Entry: TypeAlias = tuple[float, int, Counterfactual, frozenset[int]]  # in the heap; the last are inputs that stay


@dataclass(frozen=True, eq=False, repr=False)
class NearestCounterfactuals(Displayed):
    """The nearest counterfactuals of several inputs.

    Attributes:
        found: the counterfactuals of each input, nearest first; fewer than were asked for if there are no more, or if
            the search was stopped. If the first one has `x` None, there is none, or none was found.
        reasons: reason why the search for each input was stopped; empty if it was not.
        cells: number of cells opened for all inputs.
        seconds: time taken, in seconds.
    """

    found: tuple[tuple[Counterfactual, ...], ...]
    reasons: tuple[str, ...]
    cells: int
    seconds: float

    @property
    def proven(self) -> bool:
        """Whether all results are exact, up to the tolerance."""
        return not any(self.reasons) and all(one.proven for row in self.found for one in row)

    @property
    def distances(self) -> Float[Tensor, "rows count"]:
        """Distance of each counterfactual, float64, of shape `(rows, count)`; inf where there is none."""
        most = max((len(row) for row in self.found), default=0)
        rows = [[one.distance for one in row] + [torch.inf] * (most - len(row)) for row in self.found]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(self.found), most)

    def __str__(self) -> str:
        lines = []
        for i, (row, reason) in enumerate(zip(self.found, self.reasons, strict=True)):
            lines.append(f"input {i}:" + f" (stopped by {reason})" * bool(reason))
            lines += [f"  {line}" for one in row for line in str(one).splitlines()]
        return "\n".join(lines)

    def _line(self) -> str:
        count = sum(one.x is not None for row in self.found for one in row)
        return f"{count} found for {len(self.found)} input{'s'[: len(self.found) != 1]}"


@outside_modes
def nearest_counterfactuals(
    f: nn.Module | ExportedProgram | Callable[[Tensor], Tensor] | Sequence[nn.Module],
    x: Float[Tensor, "rows *in_shape"],
    target: Target | Sequence[Target],
    norm: int | float = 2,
    count: int = 1,
    *,
    features: Features | Sequence[str] | None = None,
    margin: int | float = 0.0,
    tolerance: float = 1e-6,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    **constraints: Any,
) -> NearestCounterfactuals:
    """Find the nearest counterfactuals of a batch of inputs, and with `count` several of each.

    The first counterfactual of an input is the nearest one. The others change other features: each further one is the
    nearest of those that keep at least one feature unchanged of every counterfactual before it. They are found exactly:
    the remaining counterfactuals are divided by the feature that stays unchanged, and the nearest of all parts comes
    next (Lawler, "A procedure for computing the K best solutions to discrete optimization problems", 1972). In L2,
    where a counterfactual changes nearly all features, this takes one search for each feature and counterfactual; in
    L1, few features change.

    Args:
        f: a complete shallow network; `shallow.trunk` of one that has a head; a deep model of any size; or a list of
            deep models, all of which have to reach the target.
        x: a batch of inputs, of shape `(rows, *in_shape)`.
        target: the target for all inputs, or a list with one for each. A target is a class, whose output must be at
            least all others; or `AtLeast`, `AtMost`, `Between` or `Linear` for values of outputs, possibly several
            joined by `&`.
        norm: norm of the change of the network's inputs: 1, 2 or `math.inf`.
        count: number of counterfactuals of each input.
        features: names of the entries of the flattened input, or `Features` that also give their units.
        margin: by how much the output of the class has to exceed the others.
        tolerance: relative difference between distance and bound for which a result counts as proven.
        workers: for a deep network, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all inputs together, after which the search is stopped; no limit if None.
        progress: for a deep network, show a bar for each search.
        **constraints: `fixed`, `lower`, `upper`, `within`, `increasing`, `decreasing`, `integer`, `one_hot` and
            `scale`, with the same meaning as in `torch_shallow.explain.counterfactual`.

    Returns:
        A `NearestCounterfactuals`, whose `found` holds a tuple of `Counterfactual` for each input.

    Raises:
        WrongTypeError: an argument is of another type, or there is no such argument.
        TransformError: an argument has a wrong value, the constraints contradict each other, or the network is
            incomplete or cannot be read.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch_shallow.explain import AtLeast, nearest_counterfactuals
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.eye(2)), model[0].bias.zero_()
        ...     _ = model[2].weight.fill_(1.0), model[2].bias.zero_()
        >>> print(nearest_counterfactuals(model, torch.tensor([[1.0, -1.0]]), AtLeast(3.0), norm=1, count=2))
        input 0:
          L1 distance 2, nothing is nearer than 2
            x0  1 -> 3
          output 0: 1 -> 3
          L1 distance 3, nothing is nearer than 3
            x1  -1 -> 2
          output 0: 1 -> 3
    """
    if not isinstance(x, Tensor):
        raise WrongTypeError(f"x: expected a tensor, found {type(x).__name__}; pass a batch of inputs.")
    if x.dim() < 2:
        raise TransformError(
            f"x: expected a batch of inputs, of shape (rows, *in_shape), found {tuple(x.shape)}; for one, pass x[None]."
        )
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise argument_error(count, int)(f"count: expected a positive integer, found {count!r}; pass 1 or more.")
    targets: list[Any] = [*target] if isinstance(target, list | tuple) else [target] * len(x)
    if len(targets) != len(x):
        raise TransformError(
            f"target: expected one target for each of the {len(x)} inputs, found {len(targets)}; pass one for all, or "
            "one for each."
        )
    limits = read_constraints(constraints)
    asking = Asking(SearchOptions(workers=workers, time_limit=time_limit, progress=progress))
    network: Any = f
    if len(x) and not isinstance(f, list | tuple) and known_function(f) is None:
        network = read_function(f, x[:1])  # once for all inputs
    found, reasons = [], []
    for i, (row, reach) in enumerate(zip(x, targets, strict=True)):
        part = asking.part(len(x) - i)
        asked, problem = read_query(network, row, reach, norm, features, margin, tolerance, None, limits)
        found.append(_different(asked, problem, int(count), part))
        reasons.append(part.reason)
        asking.add(part)
    return NearestCounterfactuals(tuple(found), tuple(reasons), asking.cells, asking.seconds)


def _announce(first: Counterfactual, asking: Asking) -> None:
    """Log what the second counterfactual will take if that is long, and there is neither a limit nor progress."""
    searches, options = len(first.changes), asking.options
    expected = searches * first.seconds
    if options.time_limit is None and not options.progress and expected > LONG:
        logger.warning(
            "the nearest counterfactual changes %d features, and for the next one each of them is held in turn: as "
            "many searches, about %.0f s if each takes as long as the first; norm=1 changes fewer features, fixed= "
            "holds some, and time_limit= ends with what is found by then.",
            searches,
            expected,
        )


def _different(asked: AskedNetwork, problem: Changes, count: int, asking: Asking) -> tuple[Counterfactual, ...]:
    """Up to `count` counterfactuals of one input, nearest first, each keeping some feature of each earlier one."""
    names = problem.features.names
    first = asked.nearest(problem, asking)
    number, found = numbers(), [first]
    if first.x is None or not first.proven:
        return tuple(found)
    seen, left = {frozenset[int]()}, list[Entry]()

    def divide(one: Counterfactual, by: Counterfactual, stays: frozenset[int]) -> bool:
        """Search the parts in which one more of the changed features stays; False if stopped."""
        for entry in (names.index(name) for name in by.changes):
            fixed = stays | {entry}
            if fixed in seen:
                continue
            seen.add(fixed)
            smaller = problem.only(np.flatnonzero(~np.isin(problem.free, list(fixed))))
            if smaller is None:
                continue
            nearest = asked.nearest(smaller, asking)
            if asking.reason or not nearest.proven:
                return False
            if nearest.x is not None:
                heapq.heappush(left, (max(nearest.distance, one.distance), next(number), nearest, fixed))
        return True

    if count > 1:
        _announce(first, asking)
    whole = count == 1 or divide(first, first, frozenset())
    while whole and left and len(found) < count:
        _, _, one, stays = heapq.heappop(left)
        before = next((other for other in found if set(other.changes) <= set(one.changes)), None)
        if before is None:
            found.append(one)
        whole = len(found) >= count or divide(one, before or one, stays)
    return tuple(found)
