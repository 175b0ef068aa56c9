"""Sharing work among threads: compiled code and NumPy let go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from typing import TypeVar

import torch


def blocks(rows: int, entries: int, values_at_once: int) -> Iterator[slice]:
    """Slices of all rows, in order, each of one row or more.

    Args:
        rows: how many there are.
        entries: how many values one row takes.
        values_at_once: how many values a block may take, unless it is a single row.
    """
    size = max(1, values_at_once // max(1, entries))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


PARTS = 8  # for each thread, so that all are busy to the end
LEAST = 1024  # a smaller part takes no longer than handing it over

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def threads_of(workers: int | Executor) -> int:
    """How many threads to use for what this process does itself: as many as asked for, or torch's number."""
    return torch.get_num_threads() if isinstance(workers, Executor) else int(workers)


def part_size(count: int, threads: int) -> int:
    """How many of `count` things are a part for one of the threads."""
    return max(LEAST, -(-count // (PARTS * threads))) if threads > 1 else max(count, 1)


def share(threads: int, count: int, work: Callable[[int, int], object]) -> None:
    """Do the work for `count` things, part by part.

    Args:
        threads: how many to use.
        count: how many things there are.
        work: is told the first thing of a part and the one behind the last.
    """
    starts = range(0, count, part_size(count, threads))
    share_tree(min(threads, len(starts)), starts, lambda start: (work(start, min(start + starts.step, count)), []))


def share_tree(
    threads: int, cells: Sequence[Cell], work: Callable[[Cell], tuple[Result, Sequence[Cell]]]
) -> list[Result]:
    """Do the work for some cells, and for those that come of it.

    Args:
        threads: how many to use.
        cells: where to begin.
        work: gives the result for a cell, and cells that are left to be done.

    Returns:
        All results, in no particular order.
    """
    results: list[Result] = []
    if threads <= 1:
        left = list(cells)
        while left:
            result, more = work(left.pop())
            results.append(result)
            left += more
        return results
    pool = ThreadPoolExecutor(threads)
    try:
        running = {pool.submit(work, cell) for cell in cells}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result, more = future.result()
                results.append(result)
                running |= {pool.submit(work, cell) for cell in more}
    finally:  # after an interrupt, nothing is left for the others
        pool.shutdown(cancel_futures=True)
    return results
