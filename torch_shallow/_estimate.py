"""Estimate the size and cost of a `transform` before running it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isnan, nan
from numbers import Real

from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed, TextTable
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import WrongTypeError, argument_error
from torch_shallow.modes import outside_modes
from torch_shallow.program.model import Model


@dataclass(frozen=True, repr=False)
class Estimate(Displayed):
    """Report the estimated number of regions, and the time and memory that `transform` would need.

    Attributes:
        upper_bound: a proven upper bound on the number of regions, whatever the weights (Serra et al., 2018, Theorem
            1).
        regions: the estimated number of activation regions: unbiased, and exact if `exact`. If even a few probes would
            take more than three times the time limit, `regions`, `standard_error` and `seconds` are NaN and `bytes` is
            0.
        standard_error: the standard error of `regions`, itself estimated from `probes` samples.
        exact: whether all regions were found within the time limit.
        probes: the number of independent random probes; 0 if `exact`.
        seconds: the approximate time in seconds for one thread to find all regions; building a network from them adds
            about a third.
        bytes: the peak memory of `transform` in bytes, including local models.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> expected = torch_shallow.estimate(model)
        >>> expected.regions <= expected.upper_bound, expected.standard_error
        (True, 0.0)
    """

    upper_bound: int
    regions: float
    standard_error: float
    exact: bool
    probes: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        if isnan(self.regions):
            return f"no estimate in this time; at most {_count(self.upper_bound)} regions"
        return (
            f"{self._number}, at most {_count(self.upper_bound)}; on one thread about {_seconds(self.seconds)} "
            f"and {_bytes(self.bytes)}"
        )

    @property
    def _number(self) -> str:
        if self.exact:
            return f"{self.regions:,.0f} regions (all found)"
        error = _count(self.standard_error, 2)
        return f"about {_count(self.regions)} regions (standard error {error}, {self.probes} probes)"

    def _parts(self) -> Iterable[str | TextTable]:
        if isnan(self.regions):
            yield str(self)
            return
        needed = [_count(self.upper_bound), _seconds(self.seconds), _bytes(self.bytes)]
        yield TextTable(["regions", "at most", "on one thread about", "memory"], [[self._number, *needed]])


@outside_modes
def estimate(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    method: str = "auto",
    solver: str | None = None,
    time_limit: float = 2.0,
    seed: int = 0,
) -> Estimate:
    """Estimate the number of activation regions of a network, and the cost of finding them all.

    Part of the time is spent finding regions as `transform` does. If that does not find them all, random probes of the
    unexplored part of the tree estimate their number. For networks with very many regions, the estimate and its
    standard error are rough, but the order of magnitude tells whether `transform` would take seconds or years.

    Args:
        model: an `nn.Module` or an exported program, as for `transform`.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`, which begins with
            rays unless a box has many corners.
        solver: the solver of linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, with HiGHS for programs that it cannot settle.
        time_limit: approximate duration in seconds, exceeded at most a few times over. Reading the model, and compiling
            on a new machine, are not included.
        seed: seed for the random probes. The number of probes depends on the speed of the machine.

    Returns:
        The estimated number of regions with its standard error, a proven upper bound, and the time and memory needed.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument has an invalid value, or the model cannot be read.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> expected = torch_shallow.estimate(model)
        >>> expected.exact, expected.regions, expected.upper_bound
        (True, 37.0, 37)
    """
    # Imported here because numba takes a while.
    from torch_shallow.search.enumerate import pose
    from torch_shallow.search.estimation import estimate_open, upper_bound
    from torch_shallow.search.growing_tree import ROOT, Growth
    from torch_shallow.search.runs.memory import needed_memory
    from torch_shallow.search.runs.workers import Task, explore_until
    from torch_shallow.search.task_output import Quota

    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    if isinstance(time_limit, bool) or not isinstance(time_limit, Real) or not time_limit > 0.0:
        raise argument_error(time_limit, Real)(
            f"time_limit: expected a positive number of seconds, found {time_limit!r}."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise argument_error(seed, int)(f"seed: expected a non-negative integer, found {seed!r}.")
    program = Model.of(model, example_input).program(domain)
    problem = pose(program, domain or WholeSpace(), method, solver)
    root = (ROOT,), (Growth().path(ROOT),)
    for max_rays in {problem.search.max_rays, problem.search.max_rays and 0}:  # so that no compilation is timed
        other = replace(problem, search=replace(problem.search, max_rays=max_rays))
        explore_until(lambda: False, other, Task(*root, Quota(cuts=1)))
    begun = time.monotonic()
    first = explore_until(lambda: False, problem, Task(*root, Quota(seconds=time_limit / 4)))
    growth = Growth()
    growth.add(first.piece)
    # A region costs about one cut, but some of the first cuts have no regions yet.
    seconds_per_region = 2.0 * first.seconds / (growth.num_cuts + growth.num_regions)
    left = max(time_limit / 2, begun + time_limit - time.monotonic())
    sample = estimate_open(problem, growth.num_regions, list(map(growth.path, growth.open)), left, seed)
    if sample is None:
        return Estimate(upper_bound(problem), nan, nan, False, 0, nan, 0)
    pieces = 4 * 8 + first.piece.packed_patterns.shape[1] + 8 * first.piece.points.shape[1]  # bytes of a region
    regions = round(sample.regions)
    return Estimate(
        upper_bound(problem),
        sample.regions,
        sample.standard_error,
        sample.exact,
        0 if sample.exact else len(sample.totals),
        seconds_per_region * sample.regions,
        regions * pieces + needed_memory(program, problem.chart.num_coordinates, regions, store_maps=True),
    )


def _count(number: float | int, digits: int = 3) -> str:
    """Format a number to `digits` digits, unless it is a small integer: `"37"`, `"338,000"`, `"1.2e+31"`."""
    if number >= 1e12:
        return _scientific(number)
    if number < 10**digits:
        return f"{number:.3g}"
    scale = 10 ** (len(str(int(number))) - digits)
    return f"{scale * round(number / scale):,}"


def _scientific(number: float | int) -> str:
    """Format two digits and a power of ten, even for integers beyond the range of floats."""
    digits = str(int(number))
    return f"{digits[0]}.{digits[1]}e+{len(digits) - 1:02d}"


def _seconds(seconds: float) -> str:
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size:
            return f"{_count(seconds / size)} {unit}"
    return f"{seconds:.2g} s"


def _bytes(size: int) -> str:
    for unit, power in (("PB", 15), ("TB", 12), ("GB", 9)):
        if size >= 10**power:
            return f"{_count(size / 10**power)} {unit}"
    return f"{size / 1e6:.0f} MB"
