"""The whole pipeline on one screen: module, program, partition, shallow network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.shallow.module import ShallowReLU
from torch_shallow.shallow.points import check_floating
from torch_shallow.shallow.visited.build import visited_network
from torch_shallow.shallow.visited.verification import verify_in_own_precision
from torch_shallow.trace.reader import read_traced, trace_model
from torch_shallow.trace.weights_hash import weights_hash


def transform(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    data: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    progress: bool = False,
) -> ShallowReLU:
    """Turn a piecewise-linear network into the shallow network that computes the same function.

    Without data, every activation region of the domain is found, up to the tolerance of `enumerate_regions`: the
    function is the same at every point of the domain. With data, only the regions that their rows visit are found,
    which works for networks of any size: the function is the same in these regions, and NaN elsewhere.

    The model is read, never changed. If it ends with something that is not piecewise linear, such as a softmax, that
    becomes the `head` of the shallow network.

    Args:
        model: an `nn.Module` of affine and piecewise-linear operations, in eval mode, that `torch.fx` or `torch.export`
            can trace; or an exported program.
        example_input: a batch of inputs (first dimension: batch), or a single input of one dimension. Needed only where
            the input's shape cannot be seen from the model or the data.
        domain: a `Box` or a `Polytope`; all of R^n if None. Of a large network in a bounded `Box`, such as a ball
            around an image, only the neurons that may change sign there are looked at.
        data: a batch of inputs, of shape `(rows, *in_shape)`, inside the domain.
        method: `"auto"`, `"double-description"` or `"lp"`: see `enumerate_regions`. Not used for data.
        solver: what solves linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, and HiGHS for a program that it cannot settle. Not used for data.
        progress: show a progress bar.

    Returns:
        The shallow network, on the device of the model. `complete` says whether it knows all regions of the domain.

    Raises:
        UnsupportedOperation: the model has operations that are not piecewise linear, not only at its end; all of them
            are listed.
        TransformError: another argument with which no exact result is possible; the message says which and why.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> shallow = torch_shallow.transform(model)
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(shallow(x), model(x), atol=1e-6)
        True
    """
    if torch.is_inference_mode_enabled():  # or what is made here could not take part in gradients
        with torch.inference_mode(False), torch.no_grad():
            return transform(
                model, example_input, domain=domain, data=data, method=method, solver=solver, progress=progress
            )
    # Imported here because numba takes a while.
    from torch_shallow.partition.enumerate import enumerate_regions

    if domain is not None and not isinstance(domain, Domain):
        raise TransformError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    if data is not None and (method, solver) != ("auto", None):
        raise TransformError(
            f"data: with data no linear programs are solved, found method={method!r} and solver={solver!r}; leave them "
            "out, or leave out data to find all regions."
        )
    if data is not None:
        check_floating("data", data)
    shown = data if example_input is None else example_input
    traced = trace_model(model, shown, stacklevel=3)
    if data is not None:
        visited = visited_network(traced, data, domain or WholeSpace(), progress)
        verify_in_own_precision(visited, model, data)
        visited.source_hash = weights_hash(model)
        return visited
    program = read_traced(traced, model, shown, domain)
    partition = enumerate_regions(program, domain or WholeSpace(), method=method, solver=solver, progress=progress)
    shallow = ShallowReLU(partition, head=traced.head).to(traced.device)
    shallow.source_hash = weights_hash(model)
    return shallow
