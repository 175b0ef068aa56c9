"""Reading of any network for a search: its program, the domain, and the network itself for evaluating points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Box, Domain, WholeSpace, inside
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.function import check_searchable, known_function
from torch_shallow.functions import TreeFunction
from torch_shallow.program.extraction import read_within
from torch_shallow.program.joint import Joint
from torch_shallow.program.model import Model
from torch_shallow.program.model_copy import what_to_pass
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.verification import own_dtype
from torch_shallow.search.partition import Partition


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the domain in which it is searched.

    Attributes:
        program: the network as a program, valid on the whole domain.
        domain: the domain of the search.
        network: the network itself, in its own dtype.
        dtype: dtype of its inputs.
        device: device of its inputs.
        head: the part behind the last piecewise-linear operation, if it was dropped from the program.
    """

    program: ReLUProgram
    domain: Domain
    network: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
    head: nn.Module | None = None

    def rounded(self, x: Float[np.ndarray, "inputs"], domain: Domain) -> Float[Tensor, "*in_shape"]:
        """An input in the network's dtype: the nearest one, or the next one inwards where that would leave a box."""
        near = torch.from_numpy(x).to(self.dtype)
        if isinstance(domain, Box):
            for bound, side in zip(domain.bounds(self.program.in_shape), (1.0, -1.0), strict=True):
                inwards = torch.nextafter(near, torch.full_like(near, side * torch.inf))
                outside = side * near.double() < side * torch.from_numpy(bound)
                near = torch.where(outside, inwards, near)
        return near.reshape(self.program.in_shape)

    def contains(self, x: Float[Tensor, "*in_shape"]) -> bool:
        """Whether an input is in the domain: exactly for a box, up to the rounding of its dtype for a polytope."""
        flat = x.cpu().reshape(1, -1)
        if isinstance(self.domain, Box):
            lower, upper = map(torch.from_numpy, self.domain.bounds(self.program.in_shape))
            return bool(((flat.double() >= lower) & (flat.double() <= upper)).all())
        return bool(inside(flat, tuple(map(torch.as_tensor, self.domain.limits(self.program.in_shape)))).all())

    def run(self, x: Float[Tensor, "*in_shape"]) -> Float[Tensor, "*out_shape"]:
        """Evaluate the network itself at one input."""
        with torch.no_grad():
            output = self.network(x[None].to(self.device))
        return output.reshape(self.program.out_shape)


def subject_of(
    model: object, domain: Domain | None, example_input: Tensor | None, *, drop_head: bool = False
) -> Subject:
    """Read a network of any kind for a search.

    Args:
        model: an `nn.Module`, an exported program, a shallow network, its trunk method or its function.
        domain: domain of the search; if None, all of R^n, or the shallow network's own domain.
        example_input: a batch of inputs, needed where the model does not tell the shape of one.
        drop_head: whether to accept a network with a head and leave the head out.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the network has a head, cannot be read, or is not known on the domain.
    """
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box or a Polytope, found {domain!r}; pass one, or leave it out.")
    known = known_function(model)
    if known is not None:
        head = known.head if isinstance(model, nn.Module) else None
        if not drop_head:
            _refuse_head(head, "model.trunk")
        check_searchable(known)
        if not isinstance(known, TreeFunction):  # visited regions only: the deep network is known everywhere
            deep = known.deep
            program = read_within(deep.traced, domain)

            def network(x: Tensor) -> Tensor:
                return deep.run(x.flatten(1), lambda _, z: z.relu())

            return Subject(program, domain or known.domain, network, torch.float64, deep.device, head)
        assert isinstance(known.tree, Partition)  # ensured by `check_searchable`
        where = known.domain if domain is None else domain
        if not _within(where, known.domain, known.in_shape):
            raise TransformError(
                f"domain: expected a part of {known.domain!r}, the domain of the shallow network, found {domain!r}; "
                "pass the deep model."
            )
        return Subject(known.tree.program, where, known, torch.float64, known.device, head)
    if not isinstance(model, nn.Module | ExportedProgram):
        raise WrongTypeError(
            "model: expected an nn.Module, a torch.export.ExportedProgram, a ShallowReLU or the trunk method of one, "
            f"found {type(model).__name__}; {what_to_pass(model)}."
        )
    if example_input is None and isinstance(model, Joint):
        example_input = model.example()
    read = Model.of(model, example_input)
    if not drop_head:
        _refuse_head(read.traced.head, "the model without it, or transform(model).trunk")
    own, program = read.in_own_precision, read.program(domain)
    device = next((p.device for p in own.parameters()), torch.device("cpu"))
    dtype = own_dtype(own, example_input)
    return Subject(program, domain or WholeSpace(), own, dtype, device, read.traced.head)


def _refuse_head(head: object, remedy: str) -> None:
    if head is not None:
        raise TransformError(
            f"model: expected a piecewise-linear network, found one with a head ({type(head).__name__}) behind its "
            "last piecewise-linear operation, on whose outputs no linear constraint can be verified; pass "
            f"{remedy}, and state the question for the values before the head."
        )


def _within(domain: Domain, whole: Domain, in_shape: tuple[int, ...]) -> bool:
    """Whether a domain is known to be a part of another: of all of R^n, of a box, or given by the same numbers."""
    if isinstance(whole, WholeSpace) or domain is whole:
        return True
    ends, limits = domain.limits(in_shape), whole.limits(in_shape)
    if isinstance(domain, Box) and isinstance(whole, Box):
        return bool((ends[0] >= limits[0]).all() and (ends[1] <= limits[1]).all())
    return type(domain) is type(whole) and all(map(np.array_equal, ends, limits))
