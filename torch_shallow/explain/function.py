"""What is explained: a piecewise-linear function of rows of float64, read from a network of any kind."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from types import MethodType

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.export import ExportedProgram

from torch_shallow._transform import transform_all
from torch_shallow.domain import Domain, inside
from torch_shallow.errors import TransformError
from torch_shallow.functions.data import clamp_into_box
from torch_shallow.functions.deep_function import Neurons
from torch_shallow.functions.points import check_floating, rounding_of
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.modules.visited_relu import VisitedReLU
from torch_shallow.program.model import check_model, copy_model
from torch_shallow.program.reading import trace_model
from torch_shallow.program.verification import compare_in_own_precision, own_dtype

VERIFIED_ROWS = 3


@dataclass(frozen=True)
class Function:
    """A piecewise-linear function of flattened inputs, float64 on the network's device.

    Either its regions are known, as a tree of cuts, or it is a deep network whose neurons can be looked at one point
    after the other; that is enough for what needs only the regions it meets.

    Attributes:
        name: of the argument that it was, for errors.
        in_shape: shape of one input.
        out_shape: shape of one output of the trunk.
        network: a shallow network with a tree of cuts, or the neurons of a deep one.
    """

    name: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    network: ShallowReLU | Neurons

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device if isinstance(self.network, ShallowReLU) else self.network.traced.device

    @property
    def num_inputs(self) -> int:
        """Number of entries of one input."""
        return Size(self.in_shape).numel()

    @property
    def num_outputs(self) -> int:
        """Number of entries of one output."""
        return Size(self.out_shape).numel()

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
        if isinstance(self.network, ShallowReLU):  # what is outside of a box by the rounding of its dtype is inside
            limits = self.network._limits
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
        if isinstance(self.network, ShallowReLU):
            y = self.network.trunk(x.reshape(-1, *self.in_shape)).reshape(len(x), self.num_outputs)
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


def read_function(f: object, x: Tensor | None = None, name: str = "f", x_name: str = "x") -> Function:
    """The function that a network computes.

    Args:
        f: an `nn.Module` or an exported program, of any size; a shallow network; or `shallow.trunk` of one that has a
            head, which is not piecewise linear, for the function without it. Of a network of visited regions the deep
            network is taken, which is known everywhere.
        x: a batch of inputs, which tells the shape of one. A module is compared with what was read on its first rows.
        name: of the argument, for errors.
        x_name: of the argument that the batch is, likewise.

    Raises:
        TransformError: `f` has a head, or something else of it cannot be explained exactly; the message says what.
    """
    whole = not (isinstance(f, MethodType) and isinstance(f.__self__, ShallowReLU) and f.__func__.__name__ == "trunk")
    f = f if whole or not isinstance(f, MethodType) else f.__self__
    if isinstance(f, ShallowReLU):
        if whole and f.head is not None:
            raise TransformError(
                f"{name}: expected a piecewise-linear network, found one with a head ({type(f.head).__name__}) behind "
                f"its trunk; pass {name}.trunk, of which explanations are exact."
            )
        if not isinstance(f, VisitedReLU):
            return Function(name, f.in_shape, f.trunk_shape, f)
        if f.may_be_discontinuous:
            raise TransformError(
                f"{name}: expected a network of visited regions as transform() made it, found one whose local models "
                "may have been trained, so that no deep network computes it; transform the model without data."
            )
        return Function(name, f.in_shape, f.trunk_shape, f.neurons)
    if not isinstance(f, nn.Module | ExportedProgram):
        raise TransformError(
            f"{name}: expected an nn.Module, a torch.export.ExportedProgram, a ShallowReLU or the trunk method of one, "
            f"found {type(f).__name__}; put a function into the forward() of an nn.Module."
        )
    try:
        traced = trace_model(f, x, stacklevel=3)
        out_shape = traced.out_shape
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
    function = Function(name, traced.in_shape, out_shape, Neurons(traced))
    if x is not None and len(x) and x.shape[1:] == traced.in_shape:
        copy = copy_model(check_model(f), nullcontext())
        finite = x.detach().flatten(1).isfinite().all(1)  # of the others whoever asks will say so
        points = x.detach()[finite][:VERIFIED_ROWS].to(own_dtype(copy))
        found: np.ndarray = function(function.rows("x", points)).cpu().numpy()
        compare_in_own_precision(found, copy, points)
    return function


def known_network(f: object, domain: Domain | None = None, name: str = "shallow") -> ShallowReLU:
    """A shallow network that knows all regions of its domain: the one that is given, or of the model that is given.

    Args:
        f: a complete `ShallowReLU`; or a model, which is transformed.
        domain: of a model, where to look; of a shallow network, None.
        name: of the argument, for errors.

    Raises:
        TransformError: the network does not know all regions of its domain, has another domain, or is none; or as
            `transform`.
    """
    if isinstance(f, SoftReLU):
        raise TransformError(f"{name}: expected a network of regions, found a SoftReLU; pass what its harden() gives.")
    if isinstance(f, nn.Module | ExportedProgram) and not isinstance(f, ShallowReLU):
        try:
            return transform_all(f, domain=domain)
        except TransformError as error:
            if not str(error).startswith("example_input: needed"):
                raise
            raise TransformError(
                f"{name}: the model does not tell the shape of its input; pass "
                "torch_shallow.transform(model, example_input, domain=domain) in its place."
            ) from error
    if not isinstance(f, ShallowReLU):
        raise TransformError(f"{name}: expected a ShallowReLU, or an nn.Module, found {type(f).__name__}.")
    if domain is not None and not _same(domain, f.domain, f.in_shape):
        raise TransformError(
            f"domain: {name} is a shallow network of the domain {f.domain!r} and knows nothing else, found {domain!r}; "
            "leave it out, or pass the deep model."
        )
    if not f.complete:
        raise TransformError(f"{name}: what is asked for needs all regions of the domain, but {f.missing}.")
    return f


def _same(domain: Domain, other: Domain, in_shape: tuple[int, ...]) -> bool:
    """Whether two domains are given by the same numbers."""
    if domain is other:
        return True
    limits = domain.limits(in_shape), other.limits(in_shape)
    return type(domain) is type(other) and all(map(np.array_equal, *limits))
