"""Distribution of work among threads; compiled code and NumPy release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from typing import TypeVar

import torch


def blocks(rows: int, entries: int, values_at_once: int) -> Iterator[slice]:
    """Yield slices that cover all rows in order, each of at least one row.

    Args:
        rows: Number of rows.
        entries: Number of values in each row.
        values_at_once: Greatest number of values in a block, unless it is a single row.
    """
    size = max(1, values_at_once // max(1, entries))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


PARTS = 8  # per thread, so that all are busy until the end
LEAST = 1024  # handing over a smaller part takes longer than doing it

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def threads_of(workers: int | Executor) -> int:
    """Return the number of threads for this process's own work: the number asked for, or torch's for an executor."""
    return torch.get_num_threads() if isinstance(workers, Executor) else int(workers)


def part_size(count: int, threads: int) -> int:
    """Return how many of `count` items make up a part for one of the threads."""
    return max(LEAST, -(-count // (PARTS * threads))) if threads > 1 else max(count, 1)


def share(threads: int, count: int, work: Callable[[int, int], object]) -> None:
    """Process `count` items, part by part.

    Args:
        threads: Number of threads.
        count: Number of items.
        work: Function that is called with the first item of a part and the one after its last.
    """
    starts = range(0, count, part_size(count, threads))
    share_tree(min(threads, len(starts)), starts, lambda start: (work(start, min(start + starts.step, count)), []))


def share_tree(
    threads: int, cells: Sequence[Cell], work: Callable[[Cell], tuple[Result, Sequence[Cell]]]
) -> list[Result]:
    """Process cells, and the cells that result from them.

    Args:
        threads: Number of threads.
        cells: Cells to start from.
        work: Function that returns the result for a cell, and cells still to be processed.

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
    finally:  # after an interrupt, leave nothing to the other threads
        pool.shutdown(cancel_futures=True)
    return results
