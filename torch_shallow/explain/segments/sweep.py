"""Single pass of a deep network over whole segments: values at their breakpoints, and gradients of their pieces.

Each row of a batch is a breakpoint. Before the first ReLU the network is affine along a segment, so two rows suffice.
At each ReLU, rows are added where a neuron changes sign, as in ExactLine (Sotoudeh and Thakur, "Computing Linear
Restrictions of Neural Networks", NeurIPS 2019, arXiv 1908.06214), and likewise to every value that is used again later.

In the backward pass a row is the piece that begins there, and the gradients of the pieces that came from one piece are
summed. Each layer sees as many rows as the layers before it have pieces, and the first layer one for each segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx import Interpreter, Node

from torch_shallow.explain.segments.grid import Grid, Refinement, TooLong, refine
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.links import writes_in_place
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.rewriting.rewrite import STAGE
from torch_shallow.program.traced import Layout

Kind: TypeAlias = "Layout | int | tuple[Kind, ...] | None"
"""Dependence of a value on the number of rows: a tensor of rows, a multiple of their number, a tuple or list of such
values, or None for no dependence."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A pass of a deep network over segments.

    Attributes:
        neurons: the network.
        kinds: dependence of each value of its graph on the number of rows.
    """

    neurons: DeepFunction
    kinds: dict[Node, Kind]

    @staticmethod
    def of(neurons: DeepFunction) -> Sweep | None:
        """Make a sweep, if rows can be added to a batch on its way through the network; else return None.

        They cannot if the code writes in place, so that values share memory, or uses the size of the batch for more
        than reshaping.
        """
        if writes_in_place(neurons.traced):
            return None
        two, three = (_values(neurons, count) for count in (2, 3))
        try:
            return Sweep(neurons, {node: _kind(value, three[node]) for node, value in two.items()})
        except _Unknown:
            return None

    def breakpoints(
        self,
        start: Float[Tensor, "segments inputs"],
        end: Float[Tensor, "segments inputs"],
        most: int,
    ) -> Grid:
        """Find where the segments cross from one activation region to another, including their ends.

        Raises:
            TooLong: there are more than `most` breakpoints.
        """
        with torch.no_grad():
            return self._run(_rows(start, end), most, gradients=False)[0]

    def gradients(
        self,
        start: Float[Tensor, "segments inputs"],
        end: Float[Tensor, "segments inputs"],
        outputs: Float[Tensor, "segments outputs"],
        most: int,
    ) -> tuple[Float[Tensor, "segments inputs"], Grid]:
        """Gradients of weighted outputs, averaged along segments; and the breakpoints.

        Raises:
            TooLong: there are more than `most` breakpoints.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = _rows(start.clone(), end.clone()).requires_grad_()
            grid, y = self._run(x, most, gradients=True)
            weights = outputs[grid.segment] * grid.lengths[:, None]
            found = torch.autograd.grad(y, x, weights, allow_unused=True)[0] if y.requires_grad else None
        return torch.zeros_like(start) if found is None else found[::2].detach(), grid

    def _run(self, x: Tensor, most: int, gradients: bool) -> tuple[Grid, Float[Tensor, "breakpoints outputs"]]:
        run = _Run(self, Grid.of_ends(len(x) // 2, x.device), most, gradients)
        y = run.run(x.clone().reshape(-1, *self.neurons.traced.in_shape))
        return run.grid, y.reshape(len(run.grid), -1)


class _Run(Interpreter):
    """Execution of the graph on a growing grid of breakpoints."""

    def __init__(self, sweep: Sweep, grid: Grid, most: int, gradients: bool) -> None:
        super().__init__(sweep.neurons.root, graph=sweep.neurons.traced.graph)
        self.extra_traceback = False
        self.kinds, self.grid, self.most, self.gradients = sweep.kinds, grid, most, gradients

    def run_node(self, n: Node) -> Any:
        """Compute the value of a node, at breakpoints between which it is affine."""
        if STAGE not in n.meta:
            with InFloat64():
                return super().run_node(n)
        (z,), _ = self.fetch_args_kwargs_from_env(n)
        layout = self.kinds[n]
        if not isinstance(layout, Layout):  # a constant
            return z.relu()
        rows = layout.rows(z)
        refinement = refine(self.grid, rows.detach())
        self.grid = refinement.grid
        if len(self.grid) > self.most:
            raise TooLong(self.grid)
        if not refinement.is_trivial:
            for node in self.env:
                if node not in self.user_to_last_uses.get(n, ()):
                    self.env[node] = _refined(self.env[node], self.kinds[node], refinement)
        if not self.gradients:
            return layout.tensor(refinement.values(rows).relu_())
        h: Tensor = _Rectify.apply(rows, refinement)
        return layout.tensor(h)


class _Refine(torch.autograd.Function):
    """Values at more breakpoints; the backward pass sums over the pieces into which each piece was cut."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, refinement: Refinement) -> Tensor:
        ctx.refinement, ctx.shape = refinement, rows.shape
        return refinement.values(rows).clone() if refinement.is_trivial else refinement.values(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _add_up(ctx.refinement, gradients[0], ctx.shape), None


class _Rectify(torch.autograd.Function):
    """ReLU at more breakpoints; the backward pass goes only through neurons that are positive on a piece."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, refinement: Refinement) -> Tensor:
        z = refinement.values(rows)
        active = torch.zeros_like(z, dtype=torch.bool)
        torch.gt(z[:-1] + z[1:], 0.0, out=active[:-1])
        ctx.save_for_backward(active)
        ctx.refinement, ctx.shape = refinement, rows.shape
        return z.relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (active,) = ctx.saved_tensors
        return _add_up(ctx.refinement, gradients[0] * active, ctx.shape), None


def _add_up(refinement: Refinement, gradient: Tensor, shape: torch.Size) -> Tensor:
    if refinement.is_trivial:
        return gradient
    return gradient.new_zeros(shape).index_add_(0, refinement.left, gradient)


def _rows(start: Tensor, end: Tensor) -> Tensor:
    return torch.stack([start, end], 1).flatten(0, 1)


def _values(neurons: DeepFunction, count: int) -> dict[Node, Any]:
    """The values of all nodes for a batch of `count` rows."""
    seen: dict[Node, Any] = {}

    class Keep(Interpreter):
        def run_node(self, n: Node) -> Any:
            seen[n] = super().run_node(n)
            return seen[n]

    keep = Keep(neurons.root, graph=neurons.traced.graph)
    keep.extra_traceback = False
    x = torch.zeros(count, *neurons.traced.in_shape, dtype=torch.float64, device=neurons.traced.device)
    with torch.no_grad(), InFloat64():
        keep.run(x)
    return seen


class _Unknown(Exception):
    """Raised when the dependence of a value on the number of rows cannot be determined."""


def _kind(two: Any, three: Any) -> Kind:
    """Dependence of a value on the number of rows, from its values for two and for three rows."""
    if isinstance(two, Tensor):
        if two.shape == three.shape:
            return None
        axes = [axis for axis, (a, b) in enumerate(zip(two.shape, three.shape, strict=False)) if a != b]
        if len(two.shape) != len(three.shape) or len(axes) != 1 or not two.is_floating_point():
            raise _Unknown
        (axis,) = axes
        if two.shape[axis] * 3 != three.shape[axis] * 2:
            raise _Unknown
        return Layout("", (*two.shape[:axis], two.shape[axis] // 2, *two.shape[axis + 1 :]), axis)
    if type(two) in (list, tuple, torch.Size) and len(two) == len(three):
        kinds = tuple(_kind(a, b) for a, b in zip(two, three, strict=True))
        return None if all(kind is None for kind in kinds) else kinds
    if type(two) is int and two * 3 == three * 2 and two:
        return two // 2
    if type(two) is type(three) and two == three:
        return None
    raise _Unknown


def _refined(value: Any, kind: Kind, refinement: Refinement) -> Any:
    if kind is None:
        return value
    if isinstance(kind, int):
        return kind * len(refinement.grid)
    if isinstance(kind, tuple):
        return type(value)(_refined(*pair, refinement) for pair in zip(value, kind, strict=True))
    refined: Tensor = _Refine.apply(kind.rows(value), refinement)
    return kind.tensor(refined)
