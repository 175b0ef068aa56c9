"""Comparison of two networks: the largest difference of each output and where it is, or whether the classes agree."""

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

CANCELLED = 1e-3  # the share of the networks' own terms that counts as size where they cancel


@dataclass(frozen=True, eq=False, repr=False)
class Difference(Displayed):
    """Bounds on the difference of two networks on a domain. Tensors are float64.

    Attributes:
        largest: the largest `|a(x) - b(x)|` that was found, for each output. Where the search has ended, the domain has
            no larger one, up to rounding and `tolerance`, both relative to the size of the networks, not of their
            difference. It is inf where the difference is unbounded.
        where: a point of the domain where it is attained, of shape `(*out_shape, *in_shape)`; NaN where it is infinite.
        range: the range of a - b, with both signs and proven bounds; if all regions were compared, also the regions and
            the directions in which the difference grows.
        exact: for which outputs `largest` is proven to be the largest; with `at_most`, for which outputs it is known on
            which side of that limit they are.
        network: a - b as a shallow network, whose regions are those on which both networks are affine; None unless
            all regions were compared.
    """

    largest: Float[Tensor, "*out_shape"]
    where: Float[Tensor, "*out_and_in_shape"]
    range: OutputRange
    exact: Bool[Tensor, "*out_shape"]
    network: ShallowReLU | None = None

    @property
    def lower_bound(self) -> Float[Tensor, "*out_shape"]:
        """The largest difference found, `largest`."""
        return self.largest

    @property
    def upper_bound(self) -> Float[Tensor, "*out_shape"]:
        """Proven upper bound on the difference of each output."""
        return torch.maximum(self.range.upper_bound, -self.range.lower_bound).maximum(self.largest)

    @property
    def gap(self) -> float:
        """Largest distance between the bound and the difference found, over all outputs; 0 where both are infinite."""
        return float(torch.where(self.upper_bound == self.largest, 0.0, self.upper_bound - self.largest).max())

    @property
    def proven(self) -> bool:
        """Whether the search has ended for all outputs."""
        return not self.range.reason

    @property
    def cells(self) -> int:
        """Number of cells that the search has opened."""
        return self.range.cells

    @property
    def seconds(self) -> float:
        """Time taken, in seconds."""
        return self.range.seconds

    @property
    def reason(self) -> str:
        """Reason why the search was stopped; empty if it has ended."""
        return self.range.reason

    def equal(self, tolerance: float = 1e-9) -> bool | None:
        """Whether the outputs agree everywhere in the domain, or None if the search has not decided it.

        Args:
            tolerance: largest absolute difference that counts as equal.

        Returns:
            True, False or None.
        """
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
    """Find the largest difference of two networks over a domain, such as before and after pruning or quantisation.

    Both networks are read as programs in float64, and each program is verified against its network. Deep models in a
    bounded domain are searched: the result is exact when the search ends, and a proven interval for each output
    whenever it is stopped. If the stages of both networks have the same sizes, corresponding neurons are bounded
    together, layer by layer, which is far tighter than bounding each network alone. For shallow networks, and in
    unbounded domains, all regions on which both networks are affine are examined instead.

    Args:
        a: a model, or a shallow network that knows all regions of its domain.
        b: the other network, with the same shapes of inputs and outputs.
        domain: domain of the comparison; if None, that of the shallow networks, or all of R^n for models.
        same_class: ask instead whether the largest output is the same one everywhere.
        margin: with `same_class`, ask only where the largest output of `a` leads all others by this much.
        at_most: ask only which outputs differ by more than this anywhere; each search ends as soon as that is known.
        regions: find all regions and return a - b as a shallow network; if None, only where a search is impossible or
            one of the two is a shallow network.
        example_input: a batch of inputs, needed where the models do not tell the shape of an input.
        method: search engine: `"rays"` (few inputs), `"relaxation"` (networks of moderate size), `"backward"` (wide
            networks, many inputs), `"milp"` (one mixed-integer program), or `"auto"`, which chooses one of the first
            three.
        solver: solver of the mixed-integer program, a name in `cvxpy.installed_solvers()`; HiGHS if None.
        workers: number of threads; for a search also any `concurrent.futures.Executor`.
        time_limit: time in seconds for all outputs together, after which the search is stopped; no limit if None.
        checkpoint: file in which the search is saved and from which it resumes; if there are several searches, each has
            a file of its own whose name ends with a number.
        progress: show the interval that is proven so far.
        certificate: file to be written that proves the bounds, or `at_most` where it holds, with trees of cells and
            multipliers that `python -m torch_shallow.check_bounds` checks in integers. It proves 1e-9 less, relative to
            the terms that outputs are summed from. The proof may take as long again as `time_limit`; if it is not
            found, nothing is written and an `IncompleteWarning` is issued.
        max_rays: when all regions are examined, the largest number of vertices and rays of a region; linear programs
            take over beyond that.
        tolerance: in a search, how much larger the true difference may be than the one found, relative to the terms
            that outputs are summed from; a larger value shortens the search for networks that are equal up to rounding.
            When all regions are examined, it applies to coordinates in which lengths are about one: a vertex further
            away than its reciprocal counts as a ray, and slopes up to ten times it count as zero.

    Returns:
        A `Difference`; with `same_class`, a `SameClass` with a counterexample if there is one.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the shapes differ; a network has a head, may have been trained after it was transformed, is not
            known on the domain, or cannot be read; or arguments of a search are given where all regions are examined.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import difference
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
            raise TransformError(f"{name}: expected a finite number that is not negative, found {value!r}; pass one.")
    options = SearchOptions(method, solver, workers, time_limit, checkpoint, progress, certificate)
    networks = read_two(a, b, domain, example_input)
    if same_class:
        if regions or at_most is not None or certificate is not None:
            names = "regions, at_most, certificate"
            raise TransformError(f"{names}: expected none of these with same_class=True, found one; leave it out.")
        return same_class_everywhere(networks, margin, Asking(options, options.begun))
    bounded = is_bounded(networks.domain, networks.a.program.in_shape)
    if regions or not bounded or (regions is None and networks.is_known):
        replace(options, workers=1).refuse("a comparison by all regions, which needs no search")
        if at_most is not None:
            raise TransformError(
                f"at_most: expected None where all regions are examined, found {at_most!r}; compare `largest` with it."
            )
        if isinstance(workers, Executor):
            raise TransformError(
                "workers: expected a number where all regions are examined, found an executor; pass the number to use."
            )
        return _by_regions(networks, workers, max_rays, tolerance)
    found, exact = searched_range(networks.difference, at_most, tolerance, Asking(options, options.begun))
    return _of_range(found, exact, None)


def _by_regions(networks: TwoNetworks, workers: int, max_rays: int, tolerance: float) -> Difference:
    """Compare two networks on all regions on which both are affine."""
    from torch_shallow.search.enumerate import enumerate_regions  # numba takes a while

    both = side_by_side(networks.a.program, networks.b.program)
    partition = enumerate_regions(difference_of(both), networks.domain, workers=workers, keep_part=False)
    network = ShallowReLU(partition).to(networks.a.device)
    # The difference is rounded like the networks' own terms, not like their difference.
    apart = ShallowReLU(replace(partition, program=both), store_maps=False)
    sizes = largest_maps(InChart(apart.function)).reshape(2, 2, -1).max(axis=1)
    found = range_of(InChart(network.function), max_rays, tolerance, sizes, CANCELLED)
    return _of_range(found, torch.ones_like(found.lower, dtype=torch.bool), network)


def _of_range(found: OutputRange, exact: Bool[Tensor, "*out_shape"], network: ShallowReLU | None) -> Difference:
    """Result from the larger side of each output's range."""
    upper = found.upper >= -found.lower
    at = upper.reshape(*upper.shape, *[1] * (found.argmax.dim() - upper.dim()))
    largest, where = torch.where(upper, found.upper, -found.lower), torch.where(at, found.argmax, found.argmin)
    return Difference(largest, where, found, exact, network)
