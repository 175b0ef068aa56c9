"""Breakpoints and gradients of segments through a deep network, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_shallow.explain.segments.grid import Grid, TooLong, refine
from torch_shallow.explain.segments.kinetic import Kinetic
from torch_shallow.explain.segments.sweep import Sweep
from torch_shallow.functions.deep_function import DeepFunction, local_maps


class _Arrived(BaseException):
    """Raised to end a run at the stage in question."""


@dataclass(frozen=True, eq=False)
class Stepwise:
    """Breakpoints and gradients as of `Sweep`, for any network: each stage is computed again from the inputs.

    Attributes:
        neurons: the network.
    """

    neurons: DeepFunction

    @torch.no_grad()
    def breakpoints(
        self, start: Float[Tensor, "segments inputs"], end: Float[Tensor, "segments inputs"], most: int
    ) -> Grid:
        """Find where segments cross from one activation region to another, including their ends.

        Raises:
            TooLong: there are more than `most` breakpoints.
        """
        grid = Grid.of_ends(len(start), start.device)
        for stage in range(len(self.neurons.traced.layouts)):
            z = self._entering(stage, grid.points(start, end))
            grid = refine(grid, z).grid
            if len(grid) > most:
                raise TooLong(grid)
        return grid

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
        grid = self.breakpoints(start, end, most)
        segment = grid.segment[grid.starts_piece]
        active = self.neurons.signs(grid.midpoints(start, end))
        weights = outputs[segment] * grid.lengths[grid.starts_piece, None]
        if self.neurons.differentiates:
            with torch.inference_mode(False), torch.enable_grad():
                x = torch.zeros(len(segment), start.shape[1], dtype=start.dtype, device=start.device)
                _, y = self.neurons.frozen(x.requires_grad_(), active.clone())
                found = torch.autograd.grad(y, x, weights.clone(), allow_unused=True)[0] if y.requires_grad else None
            gradient = torch.zeros_like(x) if found is None else found
        else:
            gradient = torch.einsum("po,poi->pi", weights, local_maps(self.neurons, active)[0])
        return torch.zeros_like(start).index_add_(0, segment, gradient.detach()), grid

    def _entering(self, stage: int, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points neurons"]:
        """Pre-activations of a stage."""
        found: list[Tensor] = []

        def rule(number: int, z: Tensor) -> Tensor:
            if number == stage:
                found.append(z.clone())
                raise _Arrived
            return z.relu()

        with suppress(_Arrived):
            self.neurons.run(x, rule)
        return found[0]


VALUES_AT_ONCE = 1 << 21  # inputs, neurons and outputs at all breakpoints of a run: 16 MB, and several times that
FEWEST = 16  # breakpoints in one run, however large the network is
EXPECTED = 256  # breakpoints of a segment, before any has been computed
GROWTH = 3.0  # expected factor by which later stages increase the number of breakpoints


@dataclass(frozen=True, eq=False)
class SegmentParts:
    """Parts of segments.

    Attributes:
        segment: number of the segment to which each part belongs.
        lower: start of each part, where 0 is the start of the segment and 1 its end.
        upper: end of each part.
    """

    segment: Int64[Tensor, "parts"]
    lower: Float[Tensor, "parts"]
    upper: Float[Tensor, "parts"]

    def __len__(self) -> int:
        return len(self.segment)

    def __getitem__(self, some: slice) -> SegmentParts:
        return SegmentParts(self.segment[some], self.lower[some], self.upper[some])

    def before(self, others: SegmentParts) -> SegmentParts:
        """These parts, followed by others."""
        pairs = zip((self.segment, self.lower, self.upper), (others.segment, others.lower, others.upper), strict=True)
        return SegmentParts(*map(torch.cat, pairs))

    def ends(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Starts and ends of the parts, given those of the segments."""
        first, last = start[self.segment], end[self.segment]
        return torch.lerp(first, last, self.lower[:, None]), torch.lerp(first, last, self.upper[:, None])


def deep_breakpoints(
    neurons: DeepFunction, start: Float[Tensor, "segments inputs"], end: Float[Tensor, "segments inputs"]
) -> Grid:
    """Find where segments cross from one activation region of a deep network to another, including their ends.

    Complete up to rounding: a neuron that changes sign only by rounding may produce a breakpoint, and one that comes as
    close to zero without changing sign may not.
    """
    walk, most = Sweep.of(neurons) or Stepwise(neurons), _most(neurons)
    found = [Grid.of_ends(0, start.device)]

    def add(parts: SegmentParts, first: Tensor, last: Tensor, most: int) -> int:
        grid = walk.breakpoints(first, last, most)
        inner = grid.starts_piece  # the last breakpoint of a part is the first one of the next
        inner[~inner] = parts.upper[grid.segment[~inner]] == 1.0
        t = torch.lerp(parts.lower[grid.segment], parts.upper[grid.segment], grid.t)
        found.append(Grid(parts.segment[grid.segment[inner]], t[inner]))
        return len(grid)

    _in_parts(start, end, most, add)
    return Grid(torch.cat([grid.segment for grid in found]), torch.cat([grid.t for grid in found]))


def deep_average_gradients(
    neurons: DeepFunction,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    outputs: Float[Tensor, "segments outputs"],
) -> Float[Tensor, "segments inputs"]:
    """Gradients of weighted outputs of a deep network, averaged along segments."""
    kinetic, total = Kinetic.of(neurons), torch.zeros_like(start)
    if kinetic is None:
        return _averaged_over_pieces(neurons, start, end, outputs)
    for block in neurons.blocks(len(start)):
        total[block] = kinetic.gradients(start[block], end[block], outputs[block])
    left = total.isnan().any(1)
    if left.any():
        total[left] = _averaged_over_pieces(neurons, start[left], end[left], outputs[left])
    return total


def _averaged_over_pieces(
    neurons: DeepFunction,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    outputs: Float[Tensor, "segments outputs"],
) -> Float[Tensor, "segments inputs"]:
    """The same gradients, from the values at all breakpoints and the gradients of all pieces."""
    sweep = Sweep.of(neurons) if neurons.differentiates else None
    walk, total = sweep or Stepwise(neurons), torch.zeros_like(start)

    def add(parts: SegmentParts, first: Tensor, last: Tensor, most: int) -> int:
        average, grid = walk.gradients(first, last, outputs[parts.segment], most)
        total.index_add_(0, parts.segment, average * (parts.upper - parts.lower)[:, None])
        return len(grid)

    _in_parts(start, end, _most(neurons), add)
    return total


def _most(neurons: DeepFunction) -> int:
    return max(FEWEST, VALUES_AT_ONCE // (neurons.num_inputs + neurons.num_neurons + neurons.num_outputs))


def _in_parts(
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    most: int,
    run: Callable[[SegmentParts, Tensor, Tensor, int], int],
) -> None:
    """Call `run` for some parts of the segments at a time, in order, until none are left.

    `run` is given parts, their starts and ends, and the number of breakpoints above which it has to raise `TooLong`; it
    returns the number of breakpoints.
    """
    count = len(start)
    todo = SegmentParts(
        torch.arange(count, device=start.device), start.new_zeros(count), torch.ones_like(start.new_zeros(count))
    )
    together = max(1, most // EXPECTED)
    while len(todo):
        parts = todo[:together]
        alone = len(parts) == 1
        try:
            found = run(parts, *parts.ends(start, end), most)
        except TooLong as error:
            if not alone:
                together = max(1, len(parts) // 2)
                continue
            shorter = _cut(parts, error.grid.t, int(GROWTH * len(error.grid) / most) + 2)
            if len(shorter) == 1:  # there are no two numbers left between which to cut
                run(parts, *parts.ends(start, end), torch.iinfo(torch.int64).max)
                shorter = shorter[:0]
            todo = shorter.before(todo[1:])
            continue
        todo = todo[len(parts) :]
        together = max(1, min(2 * len(parts), int(0.8 * len(parts) * most / found)))


def _cut(part: SegmentParts, t: Float[Tensor, "breakpoints"], count: int) -> SegmentParts:
    """Cut a part into at most `count` parts with equal numbers of breakpoints."""
    chosen = torch.linspace(0, len(t) - 1, count + 1).round().long().unique().to(t.device)
    at = torch.lerp(part.lower, part.upper, t[chosen]).unique()
    return SegmentParts(part.segment.expand(len(at) - 1), at[:-1], at[1:])
