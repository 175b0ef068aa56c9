"""Breakpoints of segments through a tree of cuts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_shallow.domain import inside
from torch_shallow.errors import TransformError
from torch_shallow.explain.segments.grid import Grid
from torch_shallow.functions import TreeFunction

ENTRIES_AT_ONCE = 1 << 22  # gathered half-space entries in one block: 32 MB


@dataclass(frozen=True, eq=False)
class _Level:
    """Parts of segments at one level of the tree: their segment, node, and where they start and end."""

    segment: Int64[Tensor, "parts"]
    node: Int64[Tensor, "parts"]
    lower: Float[Tensor, "parts"]
    upper: Float[Tensor, "parts"]

    def __getitem__(self, some: Tensor) -> _Level:
        return _Level(self.segment[some], self.node[some], self.lower[some], self.upper[some])

    @staticmethod
    def joined(levels: list[_Level]) -> _Level:
        names = ("segment", "node", "lower", "upper")
        return _Level(*(torch.cat([getattr(level, name) for level in levels]) for name in names))


@torch.no_grad()
def tree_breakpoints(
    shallow: TreeFunction,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    *,
    rounding: float = torch.finfo(torch.float64).eps,
) -> tuple[Grid, Int64[Tensor, "pieces"]]:
    """Find where segments cross from one region of a shallow network to another, including their ends; and the regions.

    Ends may lie outside the domain by `rounding`, the precision of the dtype in which they were given.

    Raises:
        TransformError: an end lies outside the domain, or a part of a segment in an unexplored cell.
    """
    for which, x in (("start", start), ("end", end)):
        within = inside(x, shallow.limits, rounding=rounding)
        if not within.all():
            raise TransformError(
                f"f: expected a network whose domain contains both ends of each segment, found the {which} of "
                f"{int((~within).sum())} of {len(within)} outside, first in segment {int((~within).nonzero()[0])}; "
                "transform the model in a larger domain, or pass the deep network itself."
            )
    u, v = shallow.half_spaces.coordinates(start), shallow.half_spaces.coordinates(end)
    rows, tree = shallow.half_spaces.rows, shallow.indicator.tree
    count = len(start)
    zeros = start.new_zeros(count)
    root = 0 if len(tree) else ~0
    level = _Level(
        torch.arange(count, device=start.device), torch.full_like(zeros, root, dtype=torch.int64), zeros, zeros + 1.0
    )
    leaves = [level[level.node < 0]]
    level = level[level.node >= 0]
    while len(level.node):
        below = _descend(level, u, v, rows, tree)
        leaves.append(below[below.node < 0])
        level = below[below.node >= 0]
    found = _Level.joined(leaves)
    order = found.lower.argsort(stable=True)
    found = found[order[found.segment[order].argsort(stable=True)]]
    _check_explored(shallow, found)
    return _grid(found), ~found.node


def _descend(level: _Level, u: Tensor, v: Tensor, rows: Tensor, tree: Tensor) -> _Level:
    """Parts one level lower, each divided where the cut of its node crosses it."""
    steps = tree[level.node]
    ends = [_at_ends(level, u, v, rows, steps[:, 2], block) for block in _blocks(len(level.node), rows.shape[1])]
    z_start, z_end = (torch.cat(z) for z in zip(*ends, strict=True))
    z_lower, z_upper = torch.lerp(z_start, z_end, level.lower), torch.lerp(z_start, z_end, level.upper)
    share = z_lower / (z_lower - z_upper)
    middle = torch.lerp(level.lower, level.upper, share)
    crosses = ((z_lower > 0.0) & (z_upper < 0.0)) | ((z_lower < 0.0) & (z_upper > 0.0))
    crosses &= (middle > level.lower) & (middle < level.upper)
    active = torch.where(crosses, z_lower > 0.0, 0.5 * z_lower + 0.5 * z_upper > 0.0)
    near = torch.where(active, steps[:, 1], steps[:, 0])
    far = torch.where(active, steps[:, 0], steps[:, 1])
    first = _Level(level.segment, near, level.lower, torch.where(crosses, middle, level.upper))
    second = _Level(level.segment, far, middle, level.upper)[crosses]
    return _Level.joined([first, second])


def _at_ends(
    level: _Level, u: Tensor, v: Tensor, rows: Tensor, half_spaces: Int64[Tensor, "parts"], block: slice
) -> tuple[Tensor, Tensor]:
    row, segment = rows[half_spaces[block]], level.segment[block]
    z_start, z_end = ((row[:, :-1] * x[segment]).sum(1) + row[:, -1] for x in (u, v))
    return z_start, z_end


def _blocks(count: int, width: int) -> list[slice]:
    size = max(1, ENTRIES_AT_ONCE // width)
    return [slice(start, start + size) for start in range(0, count, size)]


def _check_explored(shallow: TreeFunction, found: _Level) -> None:
    unknown = found.node == ~shallow.num_regions
    if unknown.any():
        first = int(unknown.nonzero()[0])
        raise TransformError(
            f"f: expected a network that is known on the whole of each segment, found {int(unknown.sum())} parts "
            f"in unexplored cells, first in segment {int(found.segment[first])} from "
            f"t = {float(found.lower[first]):.6g} to {float(found.upper[first]):.6g}: {shallow.missing}; or pass the "
            "deep network itself."
        )


def _grid(found: _Level) -> Grid:
    """Breakpoints where the parts start, and 1 after the last part of each segment."""
    last = torch.ones_like(found.segment, dtype=torch.bool)
    last[:-1] = found.segment[1:] != found.segment[:-1]
    segment = torch.cat([found.segment, found.segment[last]])
    t = torch.cat([found.lower, torch.ones_like(found.lower[last])])
    order = segment.argsort(stable=True)
    return Grid(segment[order], t[order])
