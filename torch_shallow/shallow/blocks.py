"""Rows in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator


def blocks(rows: int, entries: int, values_at_once: int) -> Iterator[slice]:
    """Slices of all rows, in order, each of one row or more.

    Args:
        rows: how many there are.
        entries: how many values one row takes.
        values_at_once: how many values a block may take, unless it is a single row.
    """
    size = max(1, values_at_once // max(1, entries))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
