"""Breakpoints of segments, refined where a neuron changes sign."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """Breakpoints of some segments, one segment after the other, each from its start to its end.

    Attributes:
        segment: number of the segment of each breakpoint, ascending.
        t: position of each breakpoint: 0 at the start of the segment, 1 at its end; ascending within a segment.
    """

    segment: Int64[Tensor, "breakpoints"]
    t: Float[Tensor, "breakpoints"]

    @staticmethod
    def of_ends(segments: int, device: torch.device) -> Grid:
        """The ends of a given number of segments."""
        numbers = torch.arange(2 * segments, device=device)
        return Grid(numbers // 2, (numbers % 2).double())

    def __len__(self) -> int:
        return len(self.t)

    @property
    def starts_piece(self) -> Bool[Tensor, "breakpoints"]:
        """Whether a piece begins at each breakpoint, as it does at all but the last of a segment."""
        follows = self.segment[1:] == self.segment[:-1]
        return torch.cat([follows, follows.new_zeros(len(self) - len(follows))])

    @property
    def lengths(self) -> Float[Tensor, "breakpoints"]:
        """Length of the piece that begins at each breakpoint, as a share of its segment; 0 if none does."""
        return torch.where(self.starts_piece, self.t.roll(-1) - self.t, 0.0)

    def points(
        self, start: Float[Tensor, "segments inputs"], end: Float[Tensor, "segments inputs"]
    ) -> Float[Tensor, "breakpoints inputs"]:
        """Inputs at the breakpoints of segments with these ends."""
        return torch.lerp(start[self.segment], end[self.segment], self.t[:, None])

    def midpoints(
        self, start: Float[Tensor, "segments inputs"], end: Float[Tensor, "segments inputs"]
    ) -> Float[Tensor, "pieces inputs"]:
        """Inputs at the middle of each piece of segments with these ends."""
        middle, begins = self.t + 0.5 * self.lengths, self.starts_piece
        return Grid(self.segment[begins], middle[begins]).points(start, end)


class TooLong(Exception):
    """Raised when there are more breakpoints than can be kept at once.

    Attributes:
        grid: the breakpoints found so far.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(f"{len(grid)} breakpoints")
        self.grid = grid


@dataclass(frozen=True, eq=False)
class Refinement:
    """A grid with breakpoints added.

    Attributes:
        grid: the new grid.
        left: for each of its breakpoints, the last old one at or before it.
        share: position of each between that old breakpoint and the next, from 0 to 1.
    """

    grid: Grid
    left: Int64[Tensor, "breakpoints"]
    share: Float[Tensor, "breakpoints"]

    @property
    def is_trivial(self) -> bool:
        """Whether no breakpoint was added."""
        return bool(len(self.left) == 0 or int(self.left[-1]) == len(self.left) - 1)

    def values(self, rows: Float[Tensor, "old values"]) -> Float[Tensor, "breakpoints values"]:
        """Values at the new breakpoints, interpolated from those at the old ones."""
        if self.is_trivial:
            return rows
        right = (self.left + 1).clamp(max=len(rows) - 1)
        return torch.lerp(rows[self.left], rows[right], self.share[:, None])


def refine(grid: Grid, z: Float[Tensor, "breakpoints neurons"]) -> Refinement:
    """Add a breakpoint wherever a neuron changes sign between two breakpoints."""
    positive, negative = z > 0.0, z < 0.0
    changes = (positive[:-1] & negative[1:]) | (negative[:-1] & positive[1:])
    changes &= grid.starts_piece[: len(changes), None]
    left, neuron = changes.nonzero(as_tuple=True)
    before, after = z[left, neuron], z[left + 1, neuron]
    share = before / (before - after)
    order = share.argsort()
    order = order[left[order].argsort(stable=True)]
    left, share = left[order], share[order]
    t = torch.lerp(grid.t[left], grid.t[left + 1], share)
    # Strictly between two breakpoints; otherwise rounding has put it at one of them.
    new = (t > grid.t[left]) & (t < grid.t[left + 1])
    new[1:] &= (left[1:] != left[:-1]) | (t[1:] > t[:-1])
    left, share, t = left[new], share[new], t[new]
    old = torch.arange(len(grid), device=left.device)
    all_left = torch.cat([old, left])
    order = all_left.argsort(stable=True)  # old breakpoints come before the new ones that follow them
    segment = torch.cat([grid.segment, grid.segment[left]])[order]
    refined = Grid(segment, torch.cat([grid.t, t])[order])
    return Refinement(refined, all_left[order], torch.cat([torch.zeros_like(grid.t), share])[order])
