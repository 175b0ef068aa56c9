"""Network of any kind, to be drawn on a plane of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Size, Tensor, nn
from torch.fx import GraphModule

from torch_shallow._transform import transform_all
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.function import Function, known_function, read_function
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.plot.polygons import TOLERANCE, Plane, Polygons, Window, tree_polygons


@dataclass(frozen=True)
class Shown:
    """The trunk of a network to be drawn.

    Attributes:
        network: a shallow network with a tree of cuts, or a deep one, which is transformed on the plane that is drawn.
        domain: the domain in which it is known.
        before_head: whether a head follows the trunk.
        makes_probability: whether the head turns a single output into a probability, and 0 into 1/2.
    """

    network: Function
    domain: Domain
    before_head: bool = False
    makes_probability: bool = False

    def output_name(self, output: int) -> str:
        """Name of an output in a picture."""
        return output_name(output % self.network.num_outputs, self.before_head)

    def rows(self, name: str, x: Tensor) -> Float[np.ndarray, "points inputs"]:
        """Read a batch of inputs as rows.

        Raises:
            TransformError: it has another shape, or entries that are not finite.
        """
        if not isinstance(x, Tensor) or x.shape[1:] != self.network.in_shape or x.dim() == 0:
            found, remedy = _found(x)
            shape = ", ".join(["rows", *map(str, self.network.in_shape)])
            raise argument_error(x, Tensor)(f"{name}: expected a tensor of shape ({shape}), found {found}; {remedy}.")
        rows: np.ndarray = x.detach().reshape(len(x), self.network.num_inputs).to("cpu", torch.float64).numpy()
        if not np.isfinite(rows).all():
            raise TransformError(f"{name}: expected finite numbers, found NaN or inf; leave these rows out.")
        return rows

    def in_fixed(self, name: str, x: Tensor) -> Float[np.ndarray, "points inputs"]:
        """Read rows like `rows`, and set fixed inputs that differ from their value only by rounding to that value."""
        rows = self.rows(name, x)
        if not isinstance(self.domain, Box):
            return rows
        lower, upper = self.domain.bounds(self.network.in_shape)
        rounding = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
        near = (lower == upper) & (np.abs(rows - lower) <= rounding * np.abs(rows))
        return np.where(near, lower, rows)

    def on(self, plane: Plane, window: Window | None) -> Drawn:
        """The network on a plane, known in a window or, if that is None, everywhere.

        Raises:
            TransformError: a deep network cannot be transformed there.
        """
        if isinstance(self.network, TreeFunction):
            return Drawn(self.network, plane, plane, None)
        box = None if window is None else Box(window.lower, window.upper)
        known = transform_all(_on_plane(self.network, plane), domain=box).function
        a, b = self.domain.inequalities(self.network.in_shape)
        rows = plane.pull_back(a, -b)
        return Drawn(known, Plane.all_of_it(), plane, Polytope(rows[:, :2], -rows[:, 2]) if len(rows) else None)


@dataclass(frozen=True)
class Drawn:
    """A network with a tree of cuts, and the plane on which it is drawn.

    Attributes:
        function: the network.
        inner: the plane in the inputs of `function`.
        plane: the plane in the inputs of the network that was requested.
        domain: further restriction in the inputs of `function`, besides its own domain.
    """

    function: TreeFunction
    inner: Plane
    plane: Plane
    domain: Domain | None

    def polygons(
        self, window: Window, *, by_largest: bool = False, threshold: float | None = None, tolerance: float = TOLERANCE
    ) -> Polygons:
        """Polygons of the network in a window; arguments and errors are those of `tree_polygons`."""
        found = tree_polygons(
            self.function,
            self.inner,
            window,
            by_largest=by_largest,
            threshold=threshold,
            domain=self.domain,
            tolerance=tolerance,
        )
        return replace(found, plane=self.plane)

    def locate(self, x: Float[np.ndarray, "rows inputs"]) -> Int[np.ndarray, "rows"]:
        """Region of each input.

        Raises:
            TransformError: the network is known only on the plane, and some inputs are not on it.
        """
        if self.inner is not self.plane:
            places = self.plane.project(x)
            away = np.abs(self.plane.lift(places) - x).max(axis=1, initial=0.0)
            if (away > 1e-6 * (1.0 + np.abs(x).max(initial=0.0))).any():
                raise TransformError(
                    "data: expected rows on the plane that is drawn, the only place where the regions of a deep "
                    "network are known, found some elsewhere, which cannot be counted; choose another color than "
                    '"count", or transform the model without data first.'
                )
            x = places
        points = torch.from_numpy(x).reshape(-1, *self.function.in_shape).to(self.function.device)
        found: np.ndarray = self.function.locate(points).cpu().numpy()
        return found


def read_subject(f: object, x: Tensor | None = None, name: str = "data") -> Shown:
    """Read the network to be drawn.

    For a shallow network this is the trunk; for a network of visited regions the deep network, which is known
    everywhere. The batch tells the shape of an input.

    Raises:
        WrongTypeError: `f` is not a network, or `x` is not a tensor.
        TransformError: `f` cannot be read.
    """
    if x is not None and not isinstance(x, Tensor):
        found, remedy = _found(x)
        raise WrongTypeError(f"{name}: expected a tensor of inputs, found {found}; {remedy}.")
    if x is not None and not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    known = known_function(f)
    function = read_function(f if known is None else known, x)
    if known is None:
        return Shown(function, WholeSpace())
    return Shown(function, known.domain, known.head is not None, _makes_probability(known))


@torch.no_grad()
def _makes_probability(known: TreeFunction | VisitedFunction) -> bool:
    """Whether a head is a sigmoid, judged by its values far below 0, at 0 and far above 0."""
    if known.head is None or Size(known.out_shape).numel() != 1:
        return False
    z = torch.tensor([-1e3, 0.0, 1e3], dtype=torch.float64, device=known.device)
    chances = known.head(z.reshape(3, *known.out_shape)).flatten()
    return len(chances) == 3 and torch.allclose(chances.double(), z.new_tensor([0.0, 0.5, 1.0]))


def output_name(output: int, before_head: bool) -> str:
    """Name of a trunk's output in a picture."""
    return f"output {output}" + " before the head" * before_head


def _found(x: object) -> tuple[object, str]:
    """Description of what was given instead of a batch of inputs, and the remedy."""
    if isinstance(x, Tensor):
        return tuple(x.shape), "reshape it"
    values = "x.to_numpy()" if hasattr(x, "to_numpy") else "x"
    return type(x).__name__, f"convert it, as by torch.tensor({values}, dtype=torch.float64)"


def _on_plane(neurons: DeepFunction, plane: Plane) -> nn.Module:
    """A deep network as a function of coordinates in a plane."""
    lift = nn.Linear(2, len(plane.origin), dtype=torch.float64, device=neurons.traced.device).requires_grad_(False)
    lift.weight.copy_(torch.from_numpy(plane.directions.T.copy()))
    lift.bias.copy_(torch.from_numpy(plane.origin))
    model = GraphModule(neurons.traced.root, neurons.traced.graph)
    return nn.Sequential(lift, nn.Unflatten(1, neurons.in_shape), model).eval()
