"""Two networks compared: by how much every output differs at most and where, or whether both give the same class."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.bounds.bounding_box import is_bounded
from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.globally.in_chart import InChart, check_limits
from torch_shallow.explain.globally.output_range import largest_maps, range_of
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.explain.same_class import SameClass, same_class_everywhere
from torch_shallow.explain.searched_difference import searched_range
from torch_shallow.explain.two_networks import Network, TwoNetworks, read_two
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.coupled import difference_of, side_by_side

CANCELLED = 1e-3  # such a share of the networks' own terms counts where they cancel


@dataclass(frozen=True, eq=False, repr=False)
class Difference(Displayed):
    """By how much two networks differ on a domain. Tensors are float64.

    Attributes:
        largest: of each output, the largest `|a(x) - b(x)|` that was found; where the search has ended, there is no
            larger one in the domain, up to rounding and to `tolerance`, both relative to the size of the networks, not
            of their difference; inf where it grows without bound.
        where: a point of the domain where it is, of shape `(*out_shape, *in_shape)`; NaN where it is infinite.
        range: the range of a - b: both signs, proven bounds, and where regions were looked at, these and directions in
            which it grows.
        exact: for which outputs `largest` is proven to be the largest. With `at_most`, for which it is known on which
            side of that they are.
        network: a - b as a shallow network: its regions are those on which both networks are affine; None where regions
            were not asked for.
    """

    largest: Float[Tensor, "*out_shape"]
    where: Float[Tensor, "*out_and_in_shape"]
    range: OutputRange
    exact: Bool[Tensor, "*out_shape"]
    network: ShallowReLU | None = None

    @property
    def lower_bound(self) -> Float[Tensor, "*out_shape"]:
        """`largest`: the difference at a point of the domain."""
        return self.largest

    @property
    def upper_bound(self) -> Float[Tensor, "*out_shape"]:
        """What no output differs by more than: proven."""
        return torch.maximum(self.range.upper_bound, -self.range.lower_bound).maximum(self.largest)

    @property
    def gap(self) -> float:
        """How far the bound of an output is from the difference that was found at most; 0 where both are infinite."""
        return float(torch.where(self.upper_bound == self.largest, 0.0, self.upper_bound - self.largest).max())

    @property
    def proven(self) -> bool:
        """Whether the search has ended for all outputs."""
        return not self.range.reason

    @property
    def cells(self) -> int:
        """How many cells the search has opened."""
        return self.range.cells

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.range.seconds

    @property
    def reason(self) -> str:
        """Why the search was stopped; empty if it has ended."""
        return self.range.reason

    def equal(self, tolerance: float = 1e-9) -> bool | None:
        """Whether no output differs by more than this anywhere in the domain; None if the search has not told."""
        if (self.largest > tolerance).any():
            return False
        return True if (self.upper_bound <= tolerance).all() else None

    def __str__(self) -> str:
        """One line for each output."""
        rows = zip(*(each.reshape(-1).tolist() for each in (self.largest, self.upper_bound, self.exact)), strict=True)
        lines = []
        for i, (value, bound, exact) in enumerate(rows):
            known = f"{value:.6g}" if exact and bound - value <= 1e-6 * bound else f"{value:.6g} to {bound:.6g}"
            lines.append(f"output {i}: |a - b| <= {known}{'' if exact else ' (not finished)'}")
        if self.network is not None:
            lines.append(f"({self.network.num_regions} regions, domain {self.network.domain!r})")
        elif not self.proven:
            lines.append(f"stopped by {self.reason} after {self.cells:,} cells")
        return "\n".join(lines)


@overload
def difference(
    a: Network,
    b: Network,
    domain: Domain | None = None,
    *,
    same_class: Literal[False] = False,
    margin: float = 0.0,
    at_most: float | None = None,
    regions: bool | None = None,
    example_input: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> Difference: ...


@overload
def difference(
    a: Network,
    b: Network,
    domain: Domain | None = None,
    *,
    same_class: Literal[True],
    margin: float = 0.0,
    at_most: float | None = None,
    regions: bool | None = None,
    example_input: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> SameClass: ...


@outside_modes
def difference(
    a: Network,
    b: Network,
    domain: Domain | None = None,
    *,
    same_class: bool = False,
    margin: float = 0.0,
    at_most: float | None = None,
    regions: bool | None = None,
    example_input: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> Difference | SameClass:
    """The largest difference of two networks over a domain: after pruning, quantising, refactoring, training.

    Both are read as programs in float64, each compared with its own network. Deep models in a bounded domain are
    searched (see `torch_shallow.search.ask`): exact when the search ends, and with a proven interval for each output
    whenever it is stopped. Where both have stages of the same sizes, neurons of the same place are bounded together:
    how far apart they are, layer by layer, which is far less than how far each of them reaches. Of shallow networks,
    and in a domain that is not bounded, all regions on which both are affine are looked at.

    Args:
        a: a model or a shallow network, which must know all regions of its domain.
        b: likewise, of the same shape of inputs and outputs.
        domain: where to compare; that of the shallow networks, or all of R^n for models, if None.
        same_class: ask in place of that whether the largest output is the same everywhere.
        margin: with `same_class`, only where the largest output of `a` is ahead of all others by this much.
        at_most: ask only which outputs differ by more than this anywhere: their search ends when that is known.
        regions: find all regions, and give a - b as a shallow network; if None, only where a search is not possible or
            one of the two is a shallow network.
        example_input: as for `transform`, where the shape of an input cannot be seen from the models.
        method: of the search: see `torch_shallow.search.ask`.
        solver: of mixed-integer programs, with `method="milp"`.
        workers: a number of threads, or for a search any `concurrent.futures.Executor`.
        time_limit: stop the search after about so many seconds, for all outputs together; no limit if None.
        checkpoint: a file in which the search is kept, and from which it goes on; each of several searches has its own,
            whose name ends with a number.
        progress: show the interval that is proven so far.
        certificate: a file, new or written anew, that proves the bounds, or `at_most` where it holds,
            with trees of cells and multipliers that `python -m torch_shallow.check_bounds` checks in integers. It
            proves 1e-9 less, relative to the terms that outputs are added up from. The proof may take as long again as
            `time_limit`; where it is not found, nothing is written, with an `IncompleteWarning`.
        max_rays: with all regions, as for `output_range`.
        tolerance: likewise; of a search, how much more there may be than was found, relative to the terms that outputs
            are added up from. Of networks that are the same up to rounding, a larger one makes it shorter.

    Returns:
        A `Difference`; with `same_class`, a verdict with a counterexample.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the shapes differ, one of them has a head, may have been trained after it was transformed, or is
            not known on the domain; arguments of a search are given where all regions are looked at; or as `transform`.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> box = torch_shallow.Box(-1.0, 1.0)
        >>> difference(model, model, box).equal()
        True
        >>> difference(model, model, box, same_class=True).holds
        True
    """
    check_limits(max_rays, tolerance)
    for name, value in (("margin", margin), ("at_most", 0.0 if at_most is None else at_most)):
        if not 0.0 <= value < float("inf"):
            raise TransformError(f"{name}: expected a finite number that is not negative, found {value!r}.")
    options = SearchOptions(method, solver, workers, time_limit, checkpoint, progress, certificate)
    networks = read_two(a, b, domain, example_input)
    if same_class:
        if regions or at_most is not None or certificate is not None:
            names = "regions, at_most, certificate"
            raise TransformError(f"{names}: expected none of them with same_class=True; leave them out.")
        return same_class_everywhere(networks, margin, Asking(options))
    bounded = is_bounded(networks.domain, networks.a.program.in_shape)
    if regions or not bounded or (regions is None and networks.is_known):
        replace(options, workers=1).refuse("a comparison by all regions, where nothing is searched")
        if at_most is not None:
            raise TransformError("at_most: expected None where all regions are looked at; compare `largest` with it.")
        if isinstance(workers, Executor):
            raise TransformError("workers: expected a number where all regions are looked at, found an executor.")
        return _by_regions(networks, workers, max_rays, tolerance)
    found, exact = searched_range(networks.difference, at_most, tolerance, Asking(options))
    return _of_range(found, exact, None)


def _by_regions(networks: TwoNetworks, workers: int, max_rays: int, tolerance: float) -> Difference:
    """By all regions on which both are affine."""
    from torch_shallow.search.enumerate import enumerate_regions  # numba takes a while

    both = side_by_side(networks.a.program, networks.b.program)
    partition = enumerate_regions(difference_of(both), networks.domain, workers=workers, keep_part=False)
    network = ShallowReLU(partition).to(networks.a.device)
    # What cancels leaves rounding of the networks' own size, not of that of their difference.
    apart = ShallowReLU(replace(partition, program=both), store_maps=False)
    sizes = largest_maps(InChart(apart.function)).reshape(2, 2, -1).max(axis=1)
    found = range_of(InChart(network.function), max_rays, tolerance, sizes, CANCELLED)
    return _of_range(found, torch.ones_like(found.lower, dtype=torch.bool), network)


def _of_range(found: OutputRange, exact: Bool[Tensor, "*out_shape"], network: ShallowReLU | None) -> Difference:
    """The larger side of each output's range."""
    upper = found.upper >= -found.lower
    at = upper.reshape(*upper.shape, *[1] * (found.argmax.dim() - upper.dim()))
    largest, where = torch.where(upper, found.upper, -found.lower), torch.where(at, found.argmax, found.argmin)
    return Difference(largest, where, found, exact, network)
