"""The whole pipeline on one screen: module, program, partition, shallow network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from numbers import Real
from typing import overload

from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.functions.points import check_floating
from torch_shallow.functions.region import Region
from torch_shallow.geometry.sharing import threads_of
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.visited_relu import VisitedReLU, visited_network
from torch_shallow.program.model import Model
from torch_shallow.search.affine_maps import affine_maps
from torch_shallow.search.partition import Partition
from torch_shallow.search.runs.budget import TASK_SECONDS


@overload
def transform(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    data: None = None,
    method: str = "auto",
    solver: str | None = None,
    max_error: float | None = None,
    max_regions: int | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    store_maps: bool = True,
    progress: bool = False,
) -> ShallowReLU: ...


@overload
def transform(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    data: Tensor,
    progress: bool = False,
) -> VisitedReLU: ...


@outside_modes
def transform(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    data: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    max_error: float | None = None,
    max_regions: int | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    store_maps: bool = True,
    progress: bool = False,
) -> ShallowReLU | VisitedReLU:
    """Turn a piecewise-linear network into the shallow network that computes the same function.

    Without data, every activation region of the domain is found, except those so thin that leaving them out changes the
    outputs by less than 1e-10 of their size: the function is the same at every point of the domain, up to
    `shallow.max_error`, which is proven. With data, only the regions that their rows visit are found,
    which works for networks of any size: the function is the same in these regions, and NaN elsewhere.

    The model is read, never changed. If it ends with something that is not piecewise linear, such as a softmax, that
    becomes the `head` of the shallow network.

    A search that is stopped by a budget, or by Ctrl-C, gives what it has found, with a warning: the output is NaN in
    what is not explored, `complete` is False, and `shallow.resume(model)` goes on. The result is the same, bit for bit,
    with stops or without, and whoever does the work.

    Args:
        model: an `nn.Module` of affine and piecewise-linear operations, in eval mode, that `torch.fx` or `torch.export`
            can trace; or an exported program.
        example_input: a batch of inputs (first dimension: batch), or a single input of one dimension. Needed only where
            the input's shape cannot be seen from the model or the data.
        domain: a `Box` or a `Polytope`; all of R^n if None. Of a large network in a bounded `Box`, such as a ball
            around an image, only the neurons that may change sign there are looked at.
        data: a batch of inputs, of shape `(rows, *in_shape)`, inside the domain.
        method: `"auto"`, `"double-description"` or `"lp"`: see `enumerate_regions`.
        solver: what solves linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, and HiGHS for a program that it cannot settle.
        max_error: the largest |shallow - model| to allow, in the unit of the outputs; relative to 1 + |x|_1 in an
            unbounded domain. Regions are left out only if this allows it, and the bound is proven, which takes as long
            again. If None, nothing is proven before `shallow.max_error` is asked for.
        max_regions: stop when there are so many regions; no limit if None. With `data` no regions are searched for, so
            that this is an error, as is every other argument behind `data` but `progress`.
        time_limit: stop looking for regions so early that the network is there after about so many seconds; no limit if
            None.
        workers: a number of threads, or any `concurrent.futures.Executor`: of processes, or of a cluster, such as
            `client.get_executor()` of Dask. All of its workers must have this version of the package.
        task_seconds: how long one task of a worker may take, before it gives back what is left.
        checkpoint: a file in which what is found is kept while it is found. If it is there, the run goes on from it:
            one that was killed at any instant loses at most its unfinished tasks.
        store_maps: keep the affine map of each region; if False, they are computed from the deep network's weights
            whenever they are needed, which takes less memory and more time.
        progress: show a bar: regions, their rate, the explored share of the tree, and the time to go.

    Returns:
        The shallow network, on the device of the model. `complete` says whether it knows all regions of the domain.

    Raises:
        UnsupportedOperation: the model has operations that are not piecewise linear, not only at its end; all of them
            are listed.
        WrongTypeError: an argument is of another type.
        TransformError: another argument with which no exact result is possible; the message says which and why.
        KeyboardInterrupt: Ctrl-C, before there is any region, after all have been found, or a second time.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> shallow = torch_shallow.transform(model)
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(shallow(x), model(x), atol=1e-6)
        True
    """
    # Imported here because numba takes a while.
    from torch_shallow.search.enumerate import enumerate_regions

    begun = time.monotonic()
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    if data is not None:
        _check_unused(
            method=method != "auto",
            solver=solver is not None,
            max_error=max_error is not None,
            max_regions=max_regions is not None,
            time_limit=time_limit is not None,
            workers=workers != 1,
            checkpoint=checkpoint is not None,
            task_seconds=task_seconds != TASK_SECONDS,
            store_maps=not store_maps,
        )
        check_floating("data", data)
    if max_error is not None:
        _check_max_error(max_error)
    read = Model.of(model, data if example_input is None else example_input)
    if data is not None:
        return visited_network(read, data, domain or WholeSpace(), progress)
    partition = enumerate_regions(
        read.program(domain),
        domain or WholeSpace(),
        method=method,
        solver=solver,
        max_error=max_error,
        max_regions=max_regions,
        time_limit=time_limit,
        workers=workers,
        task_seconds=task_seconds,
        checkpoint=checkpoint,
        store_maps=store_maps,
        progress=progress,
        begun=begun,
    )
    shallow = _network(read, partition, threads_of(workers), store_maps)
    if max_error is not None and not shallow.max_error <= max_error:
        raise TransformError(
            f"max_error: expected at least {shallow.max_error:.3g}, which is the bound that can be proven, found "
            f"{max_error!r}; allow that much, leave it out, or choose a smaller domain."
        )
    return shallow


@outside_modes
def transform_all(
    model: nn.Module | ExportedProgram, example_input: Tensor | None = None, *, domain: Domain | None = None
) -> ShallowReLU:
    """All regions of a domain, or KeyboardInterrupt: as `transform`, for what must not be computed of a part of them.

    Returns:
        The same network as that of `transform`, which is complete.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: as `transform`.
        KeyboardInterrupt: Ctrl-C.
    """
    from torch_shallow.search.enumerate import enumerate_regions

    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    read = Model.of(model, example_input)
    partition = enumerate_regions(read.program(domain), domain or WholeSpace(), keep_part=False)
    return _network(read, partition)


def transform_until(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[ShallowReLU, str]:
    """As many regions as are found in time, for a caller who says himself what is known of a part of the domain.

    Returns:
        The network, and the reason why it is not complete; empty if it is.

    Raises:
        WrongTypeError: the domain is none.
    """
    from torch_shallow.search.enumerate import explore_regions

    begun = time.monotonic()
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    read = Model.of(model, example_input)
    found = explore_regions(
        read.program(domain),
        domain or WholeSpace(),
        time_limit=time_limit,
        workers=workers,
        checkpoint=checkpoint,
        progress=progress,
        makes_network=True,
        begun=begun,
    )
    return _network(read, found.partition, threads_of(workers)), found.reason


@outside_modes
def iter_regions(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    method: str = "auto",
    solver: str | None = None,
    max_error: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
) -> Iterator[Region]:
    """The activation regions of a network, one after the other, as they are found.

    They are those of `transform`, each once, but all of them are never in memory at the same time: for statistics of
    networks of any number of regions, or to stop at a region that is wanted. Each task of a worker becomes a small
    network of the regions that it has found; a region that is kept keeps that network, and its `index` is its number
    there. Their order is not that of `transform`, and may differ from run to run.

    Args:
        model: an `nn.Module` or an exported program, as for `transform`.
        example_input: a batch of inputs; needed only where the model does not tell the shape of one.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"auto"`, `"double-description"` or `"lp"`, as for `transform`.
        solver: what solves linear programs, as for `transform`.
        max_error: how much an output may change by regions that are left out, as for `transform`; it is not proven.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        task_seconds: how long one task may take.

    Returns:
        An iterator of the regions.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument does not fit, or the model cannot be read.

    Example:
        >>> import torch, torch_shallow
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> regions = torch_shallow.iter_regions(model, domain=torch_shallow.Box(-1.0, 1.0))
        >>> sum(int(region.pattern.sum()) == 4 for region in regions)  # with four active neurons
        2
    """
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    if max_error is not None:
        _check_max_error(max_error)
    # Imported here because numba takes a while.
    from torch_shallow.search.counting import partitions
    from torch_shallow.search.enumerate import pose

    read, network = Model.of(model, example_input), outside_modes(_network)
    problem = pose(read.program(domain), domain or WholeSpace(), method, solver, max_error=max_error)
    parts = partitions(problem, domain or WholeSpace(), workers=workers, task_seconds=task_seconds)
    return (region for part in parts for region in network(read, part).regions)


def _network(read: Model, partition: Partition, threads: int = 1, store_maps: bool = True) -> ShallowReLU:
    """The shallow network of a partition, which knows whose it is."""
    maps = affine_maps(partition, threads, local_models=store_maps)
    shallow = ShallowReLU(partition, maps, head=read.traced.head, store_maps=store_maps).to(read.traced.device)
    shallow.source_hash = read.hash
    return shallow


def _check_max_error(max_error: float) -> None:
    if isinstance(max_error, bool) or not isinstance(max_error, Real) or not 0.0 < max_error < math.inf:
        raise argument_error(max_error, Real)(
            f"max_error: expected a positive number, found {max_error!r}; for the least error that can be proven, "
            "leave it out and ask shallow.max_error."
        )


def _check_unused(**given: bool) -> None:
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise TransformError(
            "data: with data the regions that it visits are looked up, and none are searched for, found "
            f"{', '.join(names)}; leave them out, or leave out data to find all regions."
        )
