"""The open cells that no task has been given, by their weight: 1 / 2 to the number of cuts above them."""

from __future__ import annotations

from bisect import insort

MOST_CELLS = 64  # of one task
MANY = 4096  # open cells: from here on, deep ones first


class Frontier:
    """Open cells, shallow ones first: what is below them is large, so tasks are few.

    Args:
        cells: how many cuts are above each cell, by its code.
    """

    def __init__(self, cells: dict[int, int]) -> None:
        self._cells = sorted((depth, code) for code, depth in cells.items())
        self._weight = sum(0.5**depth for depth, _ in self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def put(self, cells: dict[int, int]) -> None:
        """Add some cells."""
        for code, depth in cells.items():
            insort(self._cells, (depth, code))
            self._weight += 0.5**depth

    def take(self, share: float) -> list[int]:
        """Remove cells of a share of the weight, or one cell that has more; return their codes."""
        if len(self._cells) > MANY:  # those deep down are soon done, so that the list gets shorter
            taken, self._cells = self._cells[-MOST_CELLS:], self._cells[:-MOST_CELLS]
        else:
            wanted, weight, end = share * self._weight, 0.0, 0
            while end < min(len(self._cells), MOST_CELLS) and (end == 0 or weight < wanted):
                weight += 0.5 ** self._cells[end][0]
                end += 1
            taken, self._cells = self._cells[:end], self._cells[end:]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]
