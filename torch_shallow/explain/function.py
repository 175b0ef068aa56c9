"""What is explained: a piecewise-linear function, read from a network of any kind, and its values at rows."""

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
"""Its regions are known, as a tree of cuts; or it is a deep network that is looked at point by point, which is enough
for what needs only the regions it meets."""


def input_rows(function: Function, name: str, x: Tensor) -> Float[Tensor, "points inputs"]:
    """A batch of inputs, of shape `(*batch, *in_shape)`, as rows, float64 on the network's device.

    Raises:
        TransformError: the argument of this name is no such batch, or has entries that are not finite.
    """
    check_floating(name, x)
    batch = x.shape[: max(0, x.dim() - len(function.in_shape))]
    if x.shape != (*batch, *function.in_shape):
        shape = ", ".join(map(str, function.in_shape))
        raise TransformError(f"{name}: expected shape (*batch, {shape}), found {tuple(x.shape)}; reshape it.")
    rows = x.detach().reshape(-1, function.num_inputs).to(function.device, torch.float64)
    if isinstance(function, TreeFunction):  # what is outside of a box by the rounding of its dtype is inside
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
    """The output at each row.

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
    """Make sure that a network is known at all points that are looked at.

    Raises:
        TransformError: somewhere it is not.
    """
    if not known.all():
        raise TransformError(
            f"{name}: expected a network that is known at all points that are looked at, found "
            f"{int((~known).sum())} of {len(known)} outside its domain or its known regions; transform the model "
            "in a larger domain, or pass the deep network itself."
        )


def check_output(output: int, count: int) -> int:
    """The number of an output, from 0.

    Raises:
        TransformError: there is no such output.
    """
    if not -count <= output < count:
        raise TransformError(f"output: expected a number from {-count} to {count - 1}, found {output}.")
    return output % count


def known_function(f: object) -> TreeFunction | VisitedFunction | None:
    """The function that a network of regions holds, or whose trunk method `f` is; None for anything else."""
    if isinstance(f, MethodType) and f.__func__.__name__ == "trunk":
        f = f.__self__
    if isinstance(f, RegionNetwork):
        return f.function
    return f if isinstance(f, TreeFunction | VisitedFunction) else None


def read_function(f: object, x: Tensor | None = None, name: str = "f", x_name: str = "x") -> Function:
    """The function that a network computes.

    Args:
        f: an `nn.Module` or an exported program, of any size; a shallow network; or `shallow.trunk` of one that has a
            head, which is not piecewise linear, for the function without it; or the `function` of one. Of a network of
            visited regions the deep network is taken, which is known everywhere.
        x: a batch of inputs, which tells the shape of one. A module is compared with what was read on its first rows.
        name: of the argument, for errors.
        x_name: of the argument that the batch is, likewise.

    Raises:
        WrongTypeError: `f` is of another type.
        TransformError: `f` has a head, or something else of it cannot be explained exactly; the message says what.
    """
    if isinstance(f, DeepFunction):
        return f
    known = known_function(f)
    if known is not None:
        if isinstance(f, nn.Module) and known.head is not None:
            raise TransformError(
                f"{name}: expected a piecewise-linear network, found one with a head ({type(known.head).__name__}) "
                f"behind its trunk; pass {name}.trunk, of which explanations are exact."
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
            f"{x_name}: expected a batch of inputs that {name} takes, found shape {tuple(x.shape)}, for which it "
            f"fails: {error.__cause__ or error}."
        ) from error
    if traced.head is not None:
        raise TransformError(
            f"{name}: expected a piecewise-linear model, found one with a head ({type(traced.head).__name__}) behind "
            "its last piecewise-linear operation; pass the model without it, or transform(model).trunk, of which "
            "explanations are exact."
        )
    function = DeepFunction(traced)
    if x is not None and len(x) and x.shape[1:] == traced.in_shape:
        finite = x.detach().flatten(1).isfinite().all(1)  # of the others whoever asks will say so
        points = x.detach()[finite][:VERIFIED_ROWS].to(own_dtype(read.in_own_precision))
        found: np.ndarray = outputs_at(function, input_rows(function, "x", points)).cpu().numpy()
        compare_in_own_precision(found, read.in_own_precision, points)
    return function


def check_searchable(known: TreeFunction | VisitedFunction) -> None:
    """Make sure that a deep network computes what a network of regions does, wherever it may be looked at.

    Raises:
        TransformError: its weights may have been trained, or its tree does not know all regions of its domain.
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


def known_network(f: object, domain: Domain | None = None, name: str = "shallow") -> TreeFunction:
    """A function all of whose regions are known: that of the network that is given, or of the model that is given.

    Args:
        f: a complete `ShallowReLU`, or its function; or a model, which is transformed.
        domain: of a model, where to look; of a shallow network, None.
        name: of the argument, for errors.

    Raises:
        WrongTypeError: `f` is no network of regions, or `domain` no domain.
        TransformError: the network does not know all regions of its domain, has another domain, or is none; or as
            `transform`.
    """
    if isinstance(f, SoftReLU):
        raise WrongTypeError(f"{name}: expected a network of regions, found a SoftReLU; pass what its harden() gives.")
    known = known_function(f)
    if known is None and isinstance(f, nn.Module | ExportedProgram):
        try:
            return transform_all(f, domain=domain).function
        except TransformError as error:
            if not str(error).startswith("example_input: needed"):
                raise
            raise TransformError(
                f"{name}: the model does not tell the shape of its input; pass "
                "torch_shallow.transform(model, example_input, domain=domain) in its place."
            ) from error
    if known is None:
        raise WrongTypeError(
            f"{name}: expected a ShallowReLU, or an nn.Module, found {type(f).__name__}; {what_to_pass(f)}."
        )
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}.")
    if domain is not None and not _same(domain, known.domain, known.in_shape):
        raise TransformError(
            f"domain: {name} is a shallow network of the domain {known.domain!r} and knows nothing else, found "
            f"{domain!r}; leave it out, or pass the deep model."
        )
    if not isinstance(known, TreeFunction) or not known.complete:
        raise TransformError(f"{name}: what is asked for needs all regions of the domain, but {known.missing}.")
    return known


def _same(domain: Domain, other: Domain, in_shape: tuple[int, ...]) -> bool:
    """Whether two domains are given by the same numbers."""
    if domain is other:
        return True
    limits = domain.limits(in_shape), other.limits(in_shape)
    return type(domain) is type(other) and all(map(np.array_equal, *limits))
