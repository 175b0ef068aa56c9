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

    def take_deepest(self, count: int) -> list[int]:
        """Remove the cells with most cuts above them; return their codes."""
        taken, self._cells = self._cells[-count:], self._cells[:-count]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]

    def take(self, parts: int, wanted: int) -> list[int]:
        """Remove the first of so many parts of about equal weight; return the codes of its cells.

        Args:
            parts: how many parts there should be.
            wanted: how many cells the part should have at least, but not more than half of them, so that there is
                something for others.
        """
        fair = min(MOST_CELLS, -(-len(self._cells) // min(parts, 2)))
        if len(self._cells) > MANY:  # those deep down are soon done, so that the list gets shorter
            return self.take_deepest(fair)
        weight, end = 0.0, 0
        while end < fair and (end < max(1, wanted) or weight * 2 * parts < self._weight):
            weight += 0.5 ** self._cells[end][0]
            end += 1
        taken, self._cells = self._cells[:end], self._cells[end:]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]
