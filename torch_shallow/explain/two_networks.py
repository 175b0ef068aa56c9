"""Reading of two networks that are to be compared: their functions and the domain that both know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.function import known_function, known_network
from torch_shallow.explain.subject import Subject
from torch_shallow.program.coupled import coupled, difference_of
from torch_shallow.program.model import Model
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.verification import own_dtype
from torch_shallow.search.partition import Partition

Network = nn.Module | ExportedProgram


@dataclass(frozen=True, eq=False)
class TwoNetworks:
    """Two networks with the same shapes of inputs and outputs.

    Attributes:
        a: the first network.
        b: the second network.
        is_known: whether one of them is a shallow network.
    """

    a: Subject
    b: Subject
    is_known: bool

    @property
    def domain(self) -> Domain:
        """Domain of the comparison."""
        return self.a.domain

    @property
    def subject(self) -> Subject:
        """Both networks as one, with outputs of shape `(2, *out_shape)` and inputs of the dtype of the first."""

        def both(x: Tensor) -> Tensor:
            found = [each.network(x.to(each.device, each.dtype)) for each in (self.a, self.b)]
            return torch.stack([y.to(self.a.device, torch.float64) for y in found], dim=1)

        return replace(self.a, program=coupled(self.a.program, self.b.program), network=both)

    @property
    def difference(self) -> Subject:
        """The first network minus the second."""
        both = self.subject
        return replace(
            both, program=difference_of(both.program), network=lambda x: -both.network(x).diff(dim=1).squeeze(1)
        )


def read_two(a: object, b: object, domain: Domain | None, example_input: Tensor | None) -> TwoNetworks:
    """Read two networks.

    Args:
        a: a model, or a shallow network that knows all regions of its domain.
        b: the other network.
        domain: domain of the comparison; if None, that of the shallow networks, or all of R^n for models.
        example_input: a batch of inputs, needed where the models do not tell the shape of one.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the shapes differ, or one network is not piecewise linear or not known on the domain.
    """
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}; pass one of these.")
    place = _common_domain(a, b, domain)
    one, other = (_subject(f, name, place, example_input) for f, name in ((a, "a"), (b, "b")))
    for what in ("in_shape", "out_shape"):
        shapes = [getattr(subject.program, what) for subject in (one, other)]
        if shapes[0] != shapes[1]:
            raise TransformError(f"b: expected the {what} of a, {shapes[0]}, found {shapes[1]}; reshape it.")
    return TwoNetworks(one, other, any(known_function(f) is not None for f in (a, b)))


def _common_domain(a: object, b: object, domain: Domain | None) -> Domain:
    """Domain of the comparison.

    Raises:
        TransformError: a shallow network does not know it, or the two have different domains.
    """
    known = [(function, name) for f, name in ((a, "a"), (b, "b")) if (function := known_function(f)) is not None]
    place = domain or (known[0][0].domain if known else WholeSpace())
    for f, name in known:
        if not _covers(f.domain, place, f.in_shape):
            raise TransformError(
                f"domain: expected a part of {f.domain!r}, the domain of the shallow network {name}, found {place!r}, "
                "which is not known to lie in it; give a smaller domain, or pass the deep model."
            )
    return place


def _covers(outer: Domain, inner: Domain, in_shape: tuple[int, ...]) -> bool:
    if outer is inner or isinstance(outer, WholeSpace):
        return True
    if isinstance(outer, Box) and isinstance(inner, Box):
        (low, high), (lower, upper) = outer.bounds(in_shape), inner.bounds(in_shape)
        return bool((low <= lower).all() and (upper <= high).all())
    if isinstance(outer, Polytope) and isinstance(inner, Polytope):
        return np.array_equal(outer.A, inner.A) and np.array_equal(outer.b, inner.b)
    return False


def _subject(f: object, name: str, domain: Domain, example_input: Tensor | None) -> Subject:
    """Read one of two networks and verify its program.

    Raises:
        WrongTypeError: it is not a network.
        TransformError: it has no piecewise-linear program that is known on the domain.
    """
    program: ReLUProgram | None
    run: Callable[[Tensor], Tensor]
    if known_function(f) is not None:
        function = known_network(f, name=name)
        head, tree = function.head, function.tree
        if function.may_be_discontinuous or not isinstance(tree, Partition):
            raise TransformError(
                f"{name}: expected a shallow network as transform() made it, found one whose weights may have been "
                "trained; compare the deep models, or train those."
            )
        program, run, dtype, device = tree.program, function, torch.float64, function.device
    elif isinstance(f, nn.Module | ExportedProgram):
        read = Model.of(f, example_input)
        head, run = read.traced.head, read.in_own_precision
        program = None if head is not None else read.program(domain)
        dtype, device = own_dtype(read.in_own_precision, example_input), _device(f)
    else:
        raise WrongTypeError(
            f"{name}: expected an nn.Module or a ShallowReLU, found {type(f).__name__}; pass one of these."
        )
    if head is not None or program is None:
        raise TransformError(
            f"{name}: expected a piecewise-linear network, found one with a head ({type(head).__name__}) behind its "
            "last piecewise-linear operation; compare the models without it, for example up to the logits."
        )
    return Subject(program, domain, run, dtype, device)


def _device(f: Network) -> torch.device:
    if isinstance(f, nn.Module):
        return next((tensor.device for tensor in (*f.parameters(), *f.buffers())), torch.device("cpu"))
    return torch.device("cpu")
