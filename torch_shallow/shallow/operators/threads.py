"""Sharing the rows of a batch among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

ROWS_PER_THREAD = 4096  # starting a thread takes as long as about a thousand rows


def share_rows(rows: int, work: Callable[[int, int], object]) -> None:
    """Do the work for some rows, from a first one up to a last, on as many threads as torch uses.

    Threads are started for the call and end with it, so that nothing is left to go wrong in a forked process.

    Args:
        rows: how many there are.
        work: is told the first row and the one behind the last; releases the GIL.
    """
    count = max(1, min(torch.get_num_threads(), rows // ROWS_PER_THREAD))
    if count == 1:
        work(0, rows)
        return
    bounds = [rows * i // count for i in range(count + 1)]
    with ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(work, bounds[i], bounds[i + 1]) for i in range(1, count)]
        work(0, bounds[1])
        for other in others:
            other.result()
