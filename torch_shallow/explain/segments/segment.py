"""Restriction of a network to a straight line: its breakpoints, and the affine map on each piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.errors import TransformError
from torch_shallow.explain.function import Function, input_rows, outputs_at, read_function
from torch_shallow.explain.segments.deep_segments import deep_breakpoints
from torch_shallow.explain.segments.grid import Grid
from torch_shallow.explain.segments.tree_segments import tree_breakpoints
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.deep_function import local_maps
from torch_shallow.functions.points import rounding_of
from torch_shallow.modes import outside_modes

SHORTEST = 1e-12  # share of a segment below which pieces count as rounding
EPSILON = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False, repr=False)
class Segment:
    """A piecewise-linear network along a straight line. All tensors are float64, on the network's device.

    Piece k is between breakpoints k and k + 1; there the network is a single affine map.

    Attributes:
        function: the network.
        start: start of the segment.
        end: end of the segment.
        t: the breakpoints, from 0 at the start to 1 at the end.
        regions: for a network with a tree, number of the region of each piece, as returned by `locate`; else None.
        patterns: for a deep network, which of its neurons are active on each piece; else None.
    """

    function: Function
    start: Float[Tensor, "*in_shape"]
    end: Float[Tensor, "*in_shape"]
    t: Float[Tensor, "breakpoints"]
    regions: Int64[Tensor, "pieces"] | None
    patterns: Bool[Tensor, "pieces neurons"] | None

    def __len__(self) -> int:
        return len(self.t) - 1

    def __repr__(self) -> str:
        piece = "piece" if len(self) == 1 else "pieces"
        return f"Segment({len(self)} {piece}, {self.function.in_shape} -> {self.function.out_shape})"

    def points_at(self, t: Float[Tensor, "some"]) -> Float[Tensor, "some *in_shape"]:
        """Compute inputs on the segment.

        Args:
            t: positions, from 0 at the start to 1 at the end.

        Returns:
            The inputs, of shape `(len(t), *in_shape)`.
        """
        weight = t.to(self.start).reshape(-1, *[1] * self.start.dim())
        return torch.lerp(self.start[None], self.end[None], weight)

    @property
    def points(self) -> Float[Tensor, "breakpoints *in_shape"]:
        """Inputs at the breakpoints."""
        return self.points_at(self.t)

    @property
    def midpoints(self) -> Float[Tensor, "pieces *in_shape"]:
        """Inputs at the middle of each piece."""
        return self.points_at(0.5 * (self.t[:-1] + self.t[1:]))

    @property
    def values(self) -> Float[Tensor, "breakpoints *out_shape"]:
        """Outputs at the breakpoints, between which they are linear in t; at a jump, the output after it."""
        ends = self.ends
        return torch.cat([ends[:, 0], ends[-1:, 1]])

    @property
    def ends(self) -> Float[Tensor, "pieces 2 *out_shape"]:
        """Outputs at both ends of each piece; those of neighbours agree unless the network was trained and jumps."""
        points, function = self.points.reshape(-1, self.function.num_inputs), self.function
        if self.regions is None:
            y = outputs_at(function, points)
            return torch.stack([y[:-1], y[1:]], 1).reshape(len(self), 2, *function.out_shape)
        x = torch.stack([points[:-1], points[1:]], 1)
        weight, bias = self.maps()
        weight = weight.detach().reshape(len(self), function.num_outputs, function.num_inputs)
        y = x @ weight.mT + bias.detach().reshape(len(self), 1, function.num_outputs)
        return y.reshape(len(self), 2, *function.out_shape)

    def maps(
        self, pieces: slice = slice(None)
    ) -> tuple[Float[Tensor, "some *out_and_in_shape"], Float[Tensor, "some *out_shape"]]:
        """Compute weight and bias of the network's affine map on each piece.

        Args:
            pieces: the pieces to compute. For large networks ask for a few at a time: each weight has inputs times
                outputs entries.

        Returns:
            The weights, of shape `(pieces, *out_shape, *in_shape)`, which are the gradients of all outputs, and the
            biases, of shape `(pieces, *out_shape)`.
        """
        function = self.function
        if isinstance(function, TreeFunction):
            assert self.regions is not None
            weight, bias = function.affine_maps(self.regions[pieces])
        else:
            assert self.patterns is not None
            patterns = self.patterns[pieces]
            found = [local_maps(function, patterns[block]) for block in function.blocks(len(patterns))]
            none = (
                self.t.new_zeros(0, function.num_outputs, function.num_inputs),
                self.t.new_zeros(0, function.num_outputs),
            )
            weight, bias = (torch.cat(parts) for parts in zip(none, *found, strict=True))
        shape = (len(bias), *function.out_shape)
        return weight.reshape(*shape, *function.in_shape), bias.reshape(shape)

    @property
    def gradients(self) -> Float[Tensor, "pieces *out_and_in_shape"]:
        """Gradients of all outputs on each piece, of shape `(pieces, *out_shape, *in_shape)`."""
        return self.maps()[0]

    def _kept(self, pieces: Bool[Tensor, "pieces"]) -> Segment:
        """Keep some pieces, each extended by the dropped pieces after it, and the first also by those before it."""
        t = torch.cat([self.t[:1], self.t[:-1][pieces][1:], self.t[-1:]])
        regions = None if self.regions is None else self.regions[pieces]
        return replace(self, t=t, regions=regions, patterns=None if self.patterns is None else self.patterns[pieces])


@outside_modes
def segment(
    f: nn.Module | ExportedProgram | Callable[..., Tensor],
    start: Float[Tensor, "*in_shape"],
    end: Float[Tensor, "*in_shape"],
    *,
    shortest: float = SHORTEST,
) -> Segment:
    """Cut the straight line between two inputs exactly where it crosses from one region to another.

    For a deep network of any size, regions are activation regions: stage by stage, breakpoints are added where a neuron
    changes sign between two of them, as in ExactLine (Sotoudeh and Thakur, NeurIPS 2019, arXiv 1908.06214). For a
    shallow network, which may be merged or trained, they are the regions of its tree. The result is complete up to
    rounding. A neuron is active where it is positive at the middle of a piece, in agreement with autograd, also on a
    segment along its boundary.

    Args:
        f: an `nn.Module` or an exported program of any size, a `ShallowReLU`, or `shallow.trunk` of one with a head.
        start: an input, floating point, of shape `in_shape`.
        end: another input of the same shape.
        shortest: share of the segment below which pieces count as rounding, as where several boundaries meet in a
            point; they are joined to the piece before them, or at the start to the piece after them.

    Returns:
        A `Segment`, with breakpoints, values, gradients and regions.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has the wrong shape or value, or `f` is not known on the whole segment.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import segment
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> _ = torch.nn.init.constant_(model[0].weight, 1.0), torch.nn.init.constant_(model[0].bias, -0.25)
        >>> found = segment(model, torch.zeros(1), torch.ones(1))
        >>> found.t.tolist(), found.values.flatten().tolist(), found.gradients.flatten().tolist()
        ([0.0, 0.25, 1.0], [0.0, 0.0, 0.75], [0.0, 1.0])
    """
    if not 0.0 <= shortest < 1.0:
        raise TransformError(f"shortest: expected a share from 0 to below 1, found {shortest}; leave it out.")
    batch = start[None] if isinstance(start, Tensor) and start.is_floating_point() else None
    function = read_function(f, batch, x_name="start")
    first, last = (_one_input(name, x, function) for name, x in (("start", start), ("end", end)))
    grid, regions = pieces(function, first, last, rounding=max(rounding_of(start), rounding_of(end)))
    lengths = grid.lengths[:-1]
    kept = lengths >= shortest
    kept[lengths.argmax()] = True
    begin, finish = (x[0].reshape(function.in_shape) for x in (first, last))
    found = Segment(function, begin, finish, grid.t, regions, None)._kept(kept)
    if isinstance(function, TreeFunction):
        assert found.regions is not None
        return found._kept(_differs(found.regions))
    middle = found.midpoints.reshape(len(found), function.num_inputs)
    patterns = torch.cat([function.signs(middle[block]) for block in function.blocks(len(middle))])
    return replace(found, patterns=patterns)._kept(_differs(patterns))


def pieces(
    function: Function,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    *,
    rounding: float = EPSILON,
) -> tuple[Grid, Int64[Tensor, "pieces"] | None]:
    """Find where segments cross from one region to another, including their ends; and the regions, if there is a tree.

    The ends may lie outside a domain by `rounding`, the precision of the dtype in which they were given.

    Raises:
        TransformError: the network is not known on the whole of each segment.
    """
    if isinstance(function, TreeFunction):
        return tree_breakpoints(function, start, end, rounding=rounding)
    return deep_breakpoints(function, start, end), None


def _differs(rows: Tensor) -> Bool[Tensor, "rows"]:
    """Whether each row differs from the previous one."""
    differs = rows[1:] != rows[:-1]
    return torch.cat([differs.new_ones(1), differs if differs.dim() == 1 else differs.any(1)])


def _one_input(name: str, x: Tensor, function: Function) -> Float[Tensor, "1 inputs"]:
    rows = input_rows(function, name, x)
    if x.shape != function.in_shape:
        raise TransformError(
            f"{name}: expected one input, of shape {function.in_shape}, found {tuple(x.shape)}; pass one row."
        )
    return rows
