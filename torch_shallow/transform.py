"""The whole pipeline on one screen: module, program, partition, shallow network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.shallow.module import ShallowReLU
from torch_shallow.trace.reader import read_model


def transform(
    model: nn.Module,
    example_input: Tensor | None = None,
    *,
    domain: Domain | None = None,
    method: str = "auto",
    solver: str | None = None,
) -> ShallowReLU:
    """Turn a ReLU network into the shallow network that computes the same function at every point of a domain.

    Complete: every activation region of the domain is enumerated. Sound up to the tolerance of `enumerate_regions`.
    The model is read, never changed.

    Args:
        model: any `nn.Module` of affine operations and ReLUs that `torch.fx` can trace, in eval mode.
        example_input: a batch of inputs (first dimension: batch), or a single input of one dimension. Needed only where
            the input's shape cannot be seen from the model.
        domain: a `Box` or a `Polytope`; all of R^n if None.
        method: `"auto"`, `"double-description"` or `"lp"`: see `enumerate_regions`.
        solver: what solves linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that proves
            each answer, and HiGHS for a program that it cannot settle.

    Returns:
        The shallow network, on the device of the model.

    Raises:
        UnsupportedOperation: the model has operations that are neither affine nor ReLU; all of them are listed.
        TransformError: another argument with which no exact result is possible; the message says which and why.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> shallow = torch_shallow.transform(model)
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(shallow(x), model(x), atol=1e-6)
        True
    """
    # Imported here because numba takes a while.
    from torch_shallow.partition.enumerate import enumerate_regions

    if domain is not None and not isinstance(domain, Domain):
        raise TransformError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    program = read_model(model, example_input)
    partition = enumerate_regions(program, domain or WholeSpace(), method=method, solver=solver)
    shallow = ShallowReLU(partition)
    return shallow.to(next((parameter.device for parameter in model.parameters()), torch.device("cpu")))
