"""What is explained: a piecewise-linear function of rows of float64, read from a network of any kind."""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType

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
from torch_shallow.program.verification import compare_in_own_precision, own_dtype

VERIFIED_ROWS = 3


@dataclass(frozen=True)
class Function:
    """A piecewise-linear function of flattened inputs, float64 on the network's device.

    Either its regions are known, as a tree of cuts, or it is a deep network whose neurons can be looked at one point
    after the other; that is enough for what needs only the regions it meets.

    Attributes:
        name: of the argument that it was, for errors.
        network: a function of a tree of cuts, or a deep one.
    """

    name: str
    network: TreeFunction | DeepFunction

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.network.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk."""
        return self.network.out_shape

    @property
    def num_inputs(self) -> int:
        """Number of entries of one input."""
        return self.network.num_inputs

    @property
    def num_outputs(self) -> int:
        """Number of entries of one output."""
        return self.network.num_outputs

    def rows(self, name: str, x: Tensor) -> Float[Tensor, "points inputs"]:
        """A batch of inputs as rows, float64 on the network's device.

        Args:
            name: of the argument.
            x: floating point, of shape `(*batch, *in_shape)`.

        Raises:
            TransformError: it is not, or has entries that are not finite.
        """
        check_floating(name, x)
        batch = x.shape[: max(0, x.dim() - len(self.in_shape))]
        if x.shape != (*batch, *self.in_shape):
            shape = ", ".join(map(str, self.in_shape))
            raise TransformError(f"{name}: expected shape (*batch, {shape}), found {tuple(x.shape)}; reshape it.")
        rows = x.detach().reshape(-1, self.num_inputs).to(self.device, torch.float64)
        if isinstance(self.network, TreeFunction):  # what is outside of a box by the rounding of its dtype is inside
            limits = self.network.limits
            within = inside(rows, limits, rounding=rounding_of(x))
            rows = torch.where(within[:, None], clamp_into_box(rows, limits), rows)
        wrong = ~rows.isfinite().all(1)
        if wrong.any():
            raise TransformError(
                f"{name}: expected finite numbers, found NaN or inf in {int(wrong.sum())} of {len(rows)} rows, first "
                f"in row {int(wrong.nonzero()[0])}; leave them out or repair them."
            )
        return rows

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        """The output at each row.

        Raises:
            TransformError: some rows lie outside the domain, or in cells that are not explored.
        """
        if isinstance(self.network, TreeFunction):
            y = self.network(x.reshape(-1, *self.in_shape)).reshape(len(x), self.num_outputs)
            self.check_known(~y.isnan().any(1))
            return y
        parts = [self.network.run(x[block], lambda _, z: z.relu()) for block in self.network.blocks(len(x))]
        return torch.cat([x.new_zeros(0, self.num_outputs), *parts])

    def check_known(self, known: Tensor) -> None:
        """Make sure that the network is known at all points that are looked at.

        Args:
            known: where it is.

        Raises:
            TransformError: somewhere it is not.
        """
        if not known.all():
            raise TransformError(
                f"{self.name}: expected a network that is known at all points that are looked at, found "
                f"{int((~known).sum())} of {len(known)} outside its domain or its known regions; transform the model "
                "in a larger domain, or pass the deep network itself."
            )


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
    known = known_function(f)
    if known is not None:
        if isinstance(f, nn.Module) and known.head is not None:
            raise TransformError(
                f"{name}: expected a piecewise-linear network, found one with a head ({type(known.head).__name__}) "
                f"behind its trunk; pass {name}.trunk, of which explanations are exact."
            )
        if isinstance(known, TreeFunction):
            return Function(name, known)
        if known.may_be_discontinuous:
            raise TransformError(
                f"{name}: expected a network of visited regions as transform() made it, found one whose local models "
                "may have been trained, so that no deep network computes it; transform the model without data."
            )
        return Function(name, known.deep)
    if not isinstance(f, nn.Module | ExportedProgram):
        raise WrongTypeError(
            f"{name}: expected an nn.Module, a torch.export.ExportedProgram, a ShallowReLU or the trunk method of one, "
            f"found {type(f).__name__}; put a function into the forward() of an nn.Module."
        )
    try:
        read = Model.of(f, x, stacklevel=3)
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
    function = Function(name, DeepFunction(traced))
    if x is not None and len(x) and x.shape[1:] == traced.in_shape:
        finite = x.detach().flatten(1).isfinite().all(1)  # of the others whoever asks will say so
        points = x.detach()[finite][:VERIFIED_ROWS].to(own_dtype(read.in_own_precision))
        found: np.ndarray = function(function.rows("x", points)).cpu().numpy()
        compare_in_own_precision(found, read.in_own_precision, points)
    return function


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
        raise WrongTypeError(f"{name}: expected a ShallowReLU, or an nn.Module, found {type(f).__name__}.")
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
