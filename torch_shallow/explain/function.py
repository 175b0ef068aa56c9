"""Reading of a piecewise-linear function from a network of any kind, and its values at rows."""

from __future__ import annotations

from types import MethodType
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow._transform import transform_all
from torch_shallow.domain import Domain, inside
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.points import check_floating, clamp_into_box, rounding_of
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.program.model import Model
from torch_shallow.program.model_copy import what_to_pass
from torch_shallow.program.verification import compare_in_own_precision, own_dtype
from torch_shallow.search.partition import Partition

VERIFIED_ROWS = 3


Function: TypeAlias = TreeFunction | DeepFunction
"""A function whose regions are known as a tree of cuts, or a deep network that is evaluated point by point, which is
enough for questions that need only the regions they meet."""


def input_rows(function: Function, name: str, x: Tensor) -> Float[Tensor, "points inputs"]:
    """A batch of inputs, of shape `(*batch, *in_shape)`, as rows in float64 on the network's device.

    Raises:
        TransformError: the argument of this name has another shape, or entries that are not finite.
    """
    check_floating(name, x)
    batch = x.shape[: max(0, x.dim() - len(function.in_shape))]
    if x.shape != (*batch, *function.in_shape):
        shape = ", ".join(map(str, function.in_shape))
        raise TransformError(f"{name}: expected shape (*batch, {shape}), found {tuple(x.shape)}; reshape it.")
    rows = x.detach().reshape(-1, function.num_inputs).to(function.device, torch.float64)
    if isinstance(function, TreeFunction):  # points outside a box by the rounding of their dtype count as inside
        within = inside(rows, function.limits, rounding=rounding_of(x))
        rows = torch.where(within[:, None], clamp_into_box(rows, function.limits), rows)
    wrong = ~rows.isfinite().all(1)
    if wrong.any():
        raise TransformError(
            f"{name}: expected finite numbers, found NaN or inf in {int(wrong.sum())} of {len(rows)} rows, first "
            f"in row {int(wrong.nonzero()[0])}; leave them out or repair them."
        )
    return rows


@torch.no_grad()
def outputs_at(
    function: Function, x: Float[Tensor, "points inputs"], name: str = "f"
) -> Float[Tensor, "points outputs"]:
    """Outputs at each row.

    Raises:
        TransformError: some rows lie outside the domain of the network of this name, or in unexplored cells.
    """
    if isinstance(function, TreeFunction):
        y = function(x.reshape(-1, *function.in_shape)).reshape(len(x), function.num_outputs)
        check_known(~y.isnan().any(1), name)
        return y
    parts = [function.run(x[block], lambda _, z: z.relu()) for block in function.blocks(len(x))]
    return torch.cat([x.new_zeros(0, function.num_outputs), *parts])


def check_known(known: Tensor, name: str = "f") -> None:
    """Make sure that a network is known at all points in question.

    Raises:
        TransformError: it is not known at some point.
    """
    if not known.all():
        raise TransformError(
            f"{name}: expected a network that is known at all points in question, found {int((~known).sum())} of "
            f"{len(known)} outside its domain or its known regions; transform the model in a larger domain, or pass "
            "the deep network itself."
        )


def check_output(output: int, count: int) -> int:
    """Number of an output, from 0; negative numbers count from the end.

    Raises:
        TransformError: there is no such output.
    """
    if not -count <= output < count:
        raise TransformError(f"output: expected a number from {-count} to {count - 1}, found {output}.")
    return output % count


def known_function(f: object) -> TreeFunction | VisitedFunction | None:
    """The function of a network of regions, also if `f` is its trunk method; None for anything else."""
    if isinstance(f, MethodType) and f.__func__.__name__ == "trunk":
        f = f.__self__
    if isinstance(f, RegionNetwork):
        return f.function
    return f if isinstance(f, TreeFunction | VisitedFunction) else None


def read_function(f: object, x: Tensor | None = None, name: str = "f", x_name: str = "x") -> Function:
    """Read the function that a network computes.

    Args:
        f: an `nn.Module` or an exported program of any size, a shallow network, its function, or `shallow.trunk` for
            the function without its head, which is not piecewise linear. For a network of visited regions the deep
            network is used, because it is known everywhere.
        x: a batch of inputs, which tells the shape of one. A module is compared with the program on its first rows.
        name: name of the argument, for error messages.
        x_name: name of the argument that holds the batch, for error messages.

    Raises:
        WrongTypeError: `f` is of another type.
        TransformError: `f` has a head, or cannot be explained exactly for another reason, which the message states.
    """
    if isinstance(f, DeepFunction):
        return f
    known = known_function(f)
    if known is not None:
        if isinstance(f, nn.Module) and known.head is not None:
            raise TransformError(
                f"{name}: expected a piecewise-linear network, found one with a head ({type(known.head).__name__}) "
                f"behind its trunk; pass {name}.trunk, which can be explained exactly."
            )
        if isinstance(known, TreeFunction):
            return known
        if known.may_be_discontinuous:
            raise TransformError(
                f"{name}: expected a network of visited regions as transform() made it, found one whose local models "
                "may have been trained, so that no deep network computes it; transform the model without data."
            )
        return known.deep
    if not isinstance(f, nn.Module | ExportedProgram):
        raise WrongTypeError(
            f"{name}: expected an nn.Module, a torch.export.ExportedProgram, a ShallowReLU or the trunk method of one, "
            f"found {type(f).__name__}; {what_to_pass(f)}."
        )
    try:
        read = Model.of(f, x)
        traced, _ = read.traced, read.traced.out_shape
    except TransformError as error:
        if x is None or "example_input" not in str(error):
            raise
        raise TransformError(
            f"{x_name}: expected a batch of inputs that {name} accepts, found shape {tuple(x.shape)}, for which it "
            f"fails: {error.__cause__ or error}."
        ) from error
    if traced.head is not None:
        raise TransformError(
            f"{name}: expected a piecewise-linear model, found one with a head ({type(traced.head).__name__}) behind "
            "its last piecewise-linear operation; pass the model without it, or transform(model).trunk, which can be "
            "explained exactly."
        )
    function = DeepFunction(traced)
    if x is not None and len(x) and x.shape[1:] == traced.in_shape:
        finite = x.detach().flatten(1).isfinite().all(1)  # the caller reports the other rows
        points = x.detach()[finite][:VERIFIED_ROWS].to(own_dtype(read.in_own_precision))
        found: np.ndarray = outputs_at(function, input_rows(function, "x", points)).cpu().numpy()
        compare_in_own_precision(found, read.in_own_precision, points)
    return function


def check_searchable(known: TreeFunction | VisitedFunction) -> None:
    """Make sure that a deep network computes the same as a network of regions in all of its domain.

    Raises:
        TransformError: its weights may have been trained, or its tree does not contain all regions of its domain.
    """
    if known.may_be_discontinuous:
        raise TransformError(
            "model: expected a shallow network as transform() made it, found one whose weights may have been trained, "
            "so that no deep network computes it; pass the deep model."
        )
    if isinstance(known, TreeFunction) and not (isinstance(known.tree, Partition) and known.complete):
        raise TransformError(
            "model: expected a shallow network that knows all of its regions, as transform() made it, found one that "
            "is merged or incomplete; pass the deep model."
        )


def known_network(
    f: object, domain: Domain | None = None, name: str = "shallow", example_input: Tensor | None = None
) -> TreeFunction:
    """Return a function whose regions are all known, transforming a model if necessary.

    Args:
        f: a complete `ShallowReLU` or its function, or a model, which is transformed.
        domain: the domain in which a model is transformed; for a shallow network None, or its own domain.
        name: name of the argument, for error messages.
        example_input: a batch of inputs, where a model does not tell the shape of one.

    Raises:
        WrongTypeError: `f` is not a network of regions, or `domain` not a domain.
        TransformError: the network does not know all regions of its domain, has another domain, or the model cannot be
            transformed.
    """
    if isinstance(f, SoftReLU):
        raise WrongTypeError(f"{name}: expected a network of regions, found a SoftReLU; pass the result of harden().")
    known = known_function(f)
    if known is None and isinstance(f, nn.Module | ExportedProgram):
        try:
            return transform_all(f, example_input, domain=domain).function
        except TransformError as error:
            if example_input is not None or not str(error).startswith("example_input:"):
                raise
            raise TransformError(
                f"{name}: expected a model that tells the shape of its input, found one that does not; pass "
                "torch_shallow.transform(model, example_input, domain=domain) instead."
            ) from error
    if known is None:
        raise WrongTypeError(
            f"{name}: expected a ShallowReLU, or an nn.Module, found {type(f).__name__}; {what_to_pass(f)}."
        )
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}; pass one of these.")
    if domain is not None and not _same(domain, known.domain, known.in_shape):
        raise TransformError(
            f"domain: expected {known.domain!r}, the only domain that the shallow network {name} knows, found "
            f"{domain!r}; leave it out, or pass the deep model."
        )
    if not isinstance(known, TreeFunction) or not known.complete:
        raise TransformError(f"{name}: this question needs all regions of the domain, but {known.missing}.")
    return known


def _same(domain: Domain, other: Domain, in_shape: tuple[int, ...]) -> bool:
    """Whether two domains are given by the same numbers."""
    if domain is other:
        return True
    limits = domain.limits(in_shape), other.limits(in_shape)
    return type(domain) is type(other) and all(map(np.array_equal, *limits))
