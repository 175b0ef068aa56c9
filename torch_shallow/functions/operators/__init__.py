"""Define operators of torch, and what they share: nested batches, and the distribution of rows among threads."""

from __future__ import annotations

from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor


def vmap_over_rows(operator: Callable[..., Tensor], rows: tuple[int, ...]) -> Callable[..., tuple[Tensor, int]]:
    """Return the rule by which `torch.vmap` runs an operator: a batch of batches of points is treated as one batch.

    Args:
        operator: function that computes one row for each point, without keyword arguments.
        rows: indices of the arguments with one row for each point. If others are batched, the operator runs once for
            each.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        count = info.batch_size
        if any(dim is not None for i, dim in enumerate(in_dims) if i not in rows):
            return torch.stack([operator(*_pick(arguments, in_dims, k)) for k in range(count)]), 0
        flat = list(arguments)
        for i in rows:
            flat[i] = batch_first(arguments[i], in_dims[i], count).flatten(0, 1)
        y = operator(*flat)
        return y.reshape(count, len(y) // max(count, 1), *y.shape[1:]), 0

    return rule


def batch_first(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """Move the batch dimension of a tensor to the front; a tensor without one is repeated for the whole batch."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _pick(arguments: tuple[Any, ...], in_dims: tuple[int | None, ...], k: int) -> list[Any]:
    return [a if dim is None else a.select(dim, k) for a, dim in zip(arguments, in_dims, strict=True)]


ROWS_AT_ONCE = 4096  # starting a thread takes as long as about a thousand rows


def share_rows(rows: int, work: Callable[[int, int], object]) -> None:
    """Process rows on as many threads as torch uses.

    Whichever thread is free takes the next rows, and a thread that starts too late is not waited for: torch's own
    threads keep cores busy for some milliseconds after each of its operations. (`threading` would wait for each start.)
    Threads end with the call, so that nothing can go wrong in a forked process. A thread that ends later, perhaps while
    the interpreter shuts down, holds nothing of the call: freeing a tensor then would end the process.

    Args:
        rows: the number of rows.
        work: function called with the first row and the one after the last; it releases the GIL.
    """
    starts = range(0, rows, ROWS_AT_ONCE)
    taken, left = iter(starts), len(starts)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    shared = [work]  # shared with all threads during the call

    def help_out() -> None:
        for start in taken:
            try:
                shared[0](start, min(start + ROWS_AT_ONCE, rows))
            except BaseException as error:  # to be raised in the waiting thread
                done.put(error)
            else:
                done.put(None)

    with suppress(RuntimeError):  # if the system allows no more threads, this one works alone
        for _ in range(min(torch.get_num_threads(), left) - 1):
            start_new_thread(help_out, ())
    try:
        for start in taken:
            work(start, min(start + ROWS_AT_ONCE, rows))
            left -= 1
        for _ in range(left):
            error = done.get()
            if error is not None:
                raise error
    finally:  # after an interrupt, the other threads find nothing left
        deque(taken, maxlen=0)
        shared.clear()
