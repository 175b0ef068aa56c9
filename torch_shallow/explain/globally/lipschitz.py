"""Lipschitz constant of a network on its whole domain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.asking import SearchOptions
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.output_range import combinations
from torch_shallow.explain.globally.searched_range import with_combinations
from torch_shallow.explain.globally.searched_slopes import looked_at, searched_subject
from torch_shallow.explain.subject import Subject
from torch_shallow.modes import outside_modes
from torch_shallow.search.steepness.steepness import Steepness, steepest_direction

CLOSED = 1e-9  # relative width up to which an interval counts as a single number


@dataclass(frozen=True, eq=False, repr=False)
class LipschitzConstant(Displayed):
    """The least L with `|f(x) - f(y)| <= L |x - y|` for all x and y of the domain, and where it is attained.

    Attributes:
        value: the constant; 0 for a constant function. For a search that was stopped, the steepest slope that was
            found.
        norm: norm of the inputs and of the outputs: 1, 2 or inf.
        region: number of a region in which the constant is attained; -1 where regions were not numbered.
        point: an interior point of this region.
        direction: a change of the input, of norm 1, for which it is attained: `f(point + t direction)` changes by
            `value * t` within the region. Zero for inputs that have only one value.
        before_head: whether f is the part that enters the network's head (logits), not its output.
        upper_bound: proven upper bound on the constant.
        cells: number of cells that a search opened; 0 where all regions were examined.
        seconds: time that the search took, in seconds.
        reason: reason why the search was stopped; empty if it was not.
    """

    value: float
    norm: float
    region: int
    point: Float[Tensor, "*in_shape"]
    direction: Float[Tensor, "*in_shape"]
    before_head: bool = False
    upper_bound: float = math.nan
    cells: int = 0
    seconds: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.upper_bound):
            object.__setattr__(self, "upper_bound", self.value)

    @property
    def lower_bound(self) -> float:
        """Lower bound on the constant, `value`."""
        return self.value

    @property
    def gap(self) -> float:
        """Width of the proven interval."""
        return 0.0 if self.upper_bound <= self.value else self.upper_bound - self.value

    @property
    def proven(self) -> bool:
        """Whether the constant is known, up to rounding."""
        return not self.reason and self.gap <= CLOSED * self.value

    def __str__(self) -> str:
        of = " of the values before the head" * self.before_head
        where = f"reached in region {self.region}" if self.region >= 0 else "reached at `point`"
        value = f"{self.value:.6g}"
        if not self.proven:
            value = f"from {self.value:.6g} to {self.upper_bound:.6g} ({self.reason or 'rounding'})"
        return f"L{self.norm:g} Lipschitz constant{of} {value}, {where}"


@outside_modes
def lipschitz_constant(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    norm: int | float = 2,
    domain: Domain | None = None,
    *,
    output: int | Sequence[int] | None = None,
    of: Sequence[Sequence[float]] | np.ndarray | Tensor | None = None,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
) -> LipschitzConstant:
    """Compute the exact Lipschitz constant of the trunk on the domain, in the L1, L2 or L-infinity norm.

    A continuous piecewise-linear function on a convex domain changes nowhere faster than its steepest local model, so
    the constant is the largest operator norm of all local models (largest column sum, singular value or row sum of the
    absolute weights), up to rounding. Inputs that a box fixes do not count, nor do regions too thin to have an
    interior.

    A deep model in a bounded domain is searched, most promising cells first, without finding all regions. After a time
    limit or Ctrl-C, the result holds a slope that occurs and a proven bound. For a network that knows its regions, all
    regions are examined; a model in an unbounded domain is transformed first, and if that is stopped before all regions
    are found, the bound is infinite.

    Args:
        shallow: a model, or a network that knows all regions of its domain.
        norm: norm of inputs and outputs: 1, 2 or `math.inf`.
        domain: for a model, the domain to examine; all of R^n if None.
        output: a single output, by its number in the flattened output or its index; all outputs if None.
        of: linear functions of the flattened outputs, one in each row, to be used instead of the outputs; for two
            classes, `[[1, -1]]` is the lead of the first.
        example_input: a batch of inputs, needed only where a model does not tell the shape of one.
        workers: for a search, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds after which the search is stopped; no limit if None.
        progress: show the interval that is proven so far.

    Returns:
        A `LipschitzConstant`, with the region and the direction in which it is attained.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: `norm`, `output` or `of` has a wrong value; not all regions of a shallow network are known; its
            weights may have been trained, so that it may jump and have no constant; or an argument of the search is
            given with a network whose regions are known.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import lipschitz_constant
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> found = lipschitz_constant(model, domain=torch_shallow.Box(-1.0, 1.0))
        >>> x, y = torch.rand(100, 2), torch.rand(100, 2)
        >>> bool(((model(x) - model(y)).norm(dim=1) <= 1.0001 * found.value * (x - y).norm(dim=1) + 1e-5).all())
        True
    """
    if isinstance(norm, bool) or norm not in (1, 2, math.inf):
        raise argument_error(norm, int, float)(f"norm: expected 1, 2 or math.inf, found {norm!r}; pass one of these.")
    if output is not None and of is not None:
        raise TransformError("of: expected None where `output` is given, found both; give one of them.")
    options = SearchOptions(workers=workers, time_limit=time_limit, progress=progress)
    searched = searched_subject(shallow, domain, example_input)
    if searched is not None:
        rows = _rows(output, of, searched.program.out_shape)
        return _by_search(searched, norm, rows, options)
    begun = time.monotonic()
    network, reason = looked_at(shallow, domain, example_input, options, "lipschitz_constant")
    subject = InChart(network)
    rows = _rows(output, of, network.out_shape)
    largest, region = -1.0, 0

    def slopes(regions: slice | np.ndarray) -> Float[np.ndarray, "some rows moving"]:
        found = subject.maps(regions)[0][..., ~subject.fixed]
        return found if rows is None else rows @ found

    for block in subject.blocks():
        norms = _norms(slopes(block), norm, largest)
        if norms.max() > largest:
            largest, region = float(norms.max()), block.start + int(norms.argmax())
    direction = np.zeros(subject.function.num_inputs)
    direction[~subject.fixed] = steepest_direction(slopes(np.array([region]))[0], norm)
    return LipschitzConstant(
        largest,
        float(norm),
        region,
        subject.point(region),
        subject.tensor(direction, network.in_shape),
        before_head=network.head is not None,
        upper_bound=math.inf if reason else largest,
        seconds=time.monotonic() - begun,
        reason=reason,
    )


def _by_search(
    subject: Subject, norm: int | float, rows: Float[np.ndarray, "rows outputs"] | None, options: SearchOptions
) -> LipschitzConstant:
    """Lipschitz constant of a deep model, by a search."""
    begun = options.begun
    from torch_shallow.search.steepness.steepest import steepest  # numba takes a while to import

    program = subject.program if rows is None else with_combinations(subject.program, rows)
    asked = Steepness(program, subject.domain, float(norm))
    found = steepest(
        asked, workers=options.workers, time_limit=options.time_limit, progress=options.progress, begun=begun
    )
    assert found.x is not None  # the search starts from some points
    direction = np.zeros(program.num_inputs)
    direction[asked.moving] = steepest_direction(asked.slopes_at(found.x), norm)

    def tensor(values: Float[np.ndarray, "inputs"]) -> Float[Tensor, "*in_shape"]:
        return torch.from_numpy(values.copy()).reshape(program.in_shape).to(subject.device)

    result = LipschitzConstant(found.value, float(norm), -1, tensor(found.x), tensor(direction))
    return replace(
        result,
        before_head=subject.head is not None,
        upper_bound=found.bound,
        cells=found.cells,
        seconds=time.monotonic() - begun,
        reason=found.reason,
    )


def _rows(output: object, of: object, shape: tuple[int, ...]) -> Float[np.ndarray, "rows outputs"] | None:
    """Linear functions of the outputs in question; None for the outputs themselves."""
    if of is not None:
        return combinations(of, math.prod(shape))
    return None if output is None else np.eye(math.prod(shape))[[_number(output, shape)]]


def _number(output: Any, shape: tuple[int, ...]) -> int:
    """Number of an output in the flattened output.

    Raises:
        TransformError: there is no such output.
    """
    try:
        if isinstance(output, Sequence):
            return int(np.ravel_multi_index(tuple(output), shape)) if shape or output else 0
        if not isinstance(output, bool) and 0 <= index(output) < math.prod(shape):
            return index(output)
    except (ValueError, TypeError):
        pass
    raise argument_error(output, Integral, Sequence)(
        f"output: expected a number from 0 to {math.prod(shape) - 1} or an index into the shape {shape}, found "
        f"{output!r}; pass one of these."
    )


def _norms(
    weight: Float[np.ndarray, "regions outputs moving"], norm: int | float, known: float
) -> Float[np.ndarray, "regions"]:
    """Operator norm of each matrix; a lower bound of it where it is proven not to exceed `known`."""
    if weight.shape[-1] == 0:
        return np.zeros(len(weight))
    if norm != 2:
        return np.abs(weight).sum(axis=1 if norm == 1 else 2).max(axis=1)
    squares = weight**2
    # The Frobenius norm is an upper bound, the longest row or column a lower bound.
    upper = np.sqrt(squares.sum(axis=(1, 2)))
    lower = np.sqrt(np.maximum(squares.sum(axis=1).max(axis=1), squares.sum(axis=2).max(axis=1)))
    open_ones = np.flatnonzero(upper * (1.0 + 1e-12) >= max(known, lower.max()))
    if weight.shape[1] > 1:
        lower[open_ones] = torch.linalg.matrix_norm(torch.from_numpy(weight[open_ones]), ord=2).numpy()
    return lower
