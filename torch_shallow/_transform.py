"""Show the whole pipeline on one screen: module, program, partition, shallow network."""

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
    outputs by less than 1e-10 of their size. The function is then the same at every point of the domain, up to
    `shallow.max_error`, which is proven. With data, only the regions that its rows visit are found, which works for
    networks of any size. The function is then the same in these regions, and NaN elsewhere.

    The model is read, never changed. If it ends with an operation that is not piecewise linear, such as a softmax, that
    operation becomes the `head` of the shallow network.

    If a limit or Ctrl-C stops the search, the result contains the regions found so far, with a warning: outputs are NaN
    in unexplored parts, `complete` is False, and `shallow.resume(model)` continues. The final result is the same, bit
    for bit, with or without interruptions, and whatever the workers.

    Args:
        model: an `nn.Module` of affine and piecewise-linear operations, in eval mode, that `torch.fx` or `torch.export`
            can trace; or an exported program.
        example_input: a batch of inputs (first dimension: batch), or a single one-dimensional input. Needed only if
            neither the model nor the data determines the input's shape.
        domain: a `Box` or a `Polytope`; all of R^n if None. For large networks in a bounded `Box`, such as a ball
            around an image, only the neurons that may change sign there are examined.
        data: a batch of inputs inside the domain, of shape `(rows, *in_shape)`.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`, which begins with
            rays unless a box has many corners.
        solver: the solver of linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, with HiGHS for programs that it cannot settle.
        max_error: the largest |shallow - model| to allow, in the units of the outputs; relative to 1 + |x|_1 in an
            unbounded domain. Only regions that this permits are left out, and the bound is proven, which doubles the
            time. If None, nothing is proven until `shallow.max_error` is read.
        max_regions: the number of regions at which to stop; no limit if None. With `data`, no search takes place, so
            this and every later argument except `progress` raises an error.
        time_limit: seconds after which the network should be ready, approximately; the search stops early enough for
            that. No limit if None.
        workers: a number of threads, or any `concurrent.futures.Executor`: of processes, or of a cluster, such as
            `client.get_executor()` of Dask. All workers must have this version of the package.
        task_seconds: seconds that one task of a worker may take before it returns its remaining work.
        checkpoint: a file in which results are saved as they are found, and from which the run continues if the file
            exists. A run that is killed at any moment loses at most its unfinished tasks.
        store_maps: whether to store the affine map of each region. If False, maps are computed from the deep network's
            weights whenever they are needed, which takes less memory and more time.
        progress: whether to show the regions, their rate, the explored share of the tree, and the remaining time.

    Returns:
        The shallow network, on the device of the model. `complete` tells whether it knows all regions of the domain.

    Raises:
        UnsupportedOperation: the model contains operations, other than at its end, that are not piecewise linear; the
            message lists all of them.
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument does not allow an exact result; the message says which one and why.
        KeyboardInterrupt: Ctrl-C before any region is found, after all have been found, or a second time.

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
            f"max_error: expected at least {shallow.max_error:.3g}, the smallest bound that can be proven, found "
            f"{max_error!r}; allow that much, leave the argument out, or choose a smaller domain."
        )
    return shallow


@outside_modes
def transform_all(
    model: nn.Module | ExportedProgram, example_input: Tensor | None = None, *, domain: Domain | None = None
) -> ShallowReLU:
    """Find all regions of a domain as `transform` does, for callers to whom a partial result is of no use.

    Returns:
        The complete network that `transform` returns.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument has an invalid value, or the model cannot be read.
        KeyboardInterrupt: Ctrl-C at any time.
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
    """Find regions until the time limit, for callers that report themselves which part of the domain is known.

    Returns:
        The network, and the reason why it is not complete; empty if it is.

    Raises:
        WrongTypeError: `domain` is not a domain.
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
    """Iterate over the activation regions of a network as they are found.

    These are the regions of `transform`, each exactly once, but never all in memory at the same time: useful for
    statistics of networks with any number of regions, or to stop at the first region of interest. Each task of a worker
    becomes a small network of the regions that it found. A region that you keep holds that network in memory, and its
    `index` refers to it. The order differs from that of `transform`, and may vary from run to run.

    Args:
        model: an `nn.Module` or an exported program, as for `transform`.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`, which begins with
            rays unless a box has many corners.
        solver: the solver of linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, with HiGHS for programs that it cannot settle.
        max_error: the largest change of an output that leaving out regions may cause, in the units of the outputs; it
            is not proven. If None, 1e-10 of the size of the outputs.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        task_seconds: seconds that one task of a worker may take.

    Returns:
        An iterator over the regions.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument has an invalid value, or the model cannot be read.

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
    """Build the shallow network of a partition, with the hash of the model it came from."""
    maps = affine_maps(partition, threads, local_models=store_maps)
    shallow = ShallowReLU(partition, maps, head=read.traced.head, store_maps=store_maps).to(read.traced.device)
    shallow.source_hash = read.hash
    return shallow


def _check_max_error(max_error: float) -> None:
    if isinstance(max_error, bool) or not isinstance(max_error, Real) or not 0.0 < max_error < math.inf:
        raise argument_error(max_error, Real)(
            f"max_error: expected a positive number, found {max_error!r}; for the smallest error that can be proven, "
            "leave it out and read shallow.max_error."
        )


def _check_unused(**given: bool) -> None:
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise TransformError(
            "data: expected no search arguments together with data, since only the regions that it visits are found; "
            f"found {', '.join(names)}; leave these out, or leave out data to find all regions."
        )
