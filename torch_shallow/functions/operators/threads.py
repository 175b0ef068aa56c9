"""Divide rows among as many threads as torch uses: torch's own threads where that is possible, else new ones.

After each of its operations, torch's threads keep their cores busy for some milliseconds, in case another operation
follows. During that time new threads get no core, whereas torch's own begin within microseconds. The price is that of
torch's operations: all threads of the team are waited for, which takes milliseconds where others use their cores.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import torch

FEWEST_ROWS = 1024  # fewer take about as long on two threads, and longer where other processes keep all cores busy
ROWS_AT_ONCE = 256  # a thread of torch takes as many again and again
ROWS_IN_A_CALL = 1 << 16  # for each of torch's threads; an interrupt waits for them, some milliseconds
ROWS_OF_A_NEW_THREAD = 4096  # to start a new thread takes as long as about a thousand rows


class Share(NamedTuple):
    """Rows for one call of a compiled loop, and who shares them: the first arguments of `compiled.team.share`.

    Attributes:
        team: address of the function by which a team of threads is called; 0 if the calling thread works alone.
        threads: most threads that take part.
        size: number of rows that a thread takes at once.
        start: first row.
        stop: end of the rows.
    """

    team: int
    threads: int
    size: int
    start: int
    stop: int


def share_rows(rows: int, work: Callable[[Share], object]) -> None:
    """Process rows on as many threads as torch uses.

    Whichever thread is free takes the next rows. When the call ends, the other threads have ended their work, or hold
    nothing of it.

    Args:
        rows: the number of rows.
        work: calls a compiled loop, which releases the GIL.
    """
    if rows <= FEWEST_ROWS:
        if rows:
            work(Share(0, 1, rows, 0, rows))
        return
    threads = torch.get_num_threads()
    team = TEAM if threads > 1 and os.getpid() == PROCESS else 0
    if threads > 1 and not team:
        _share_with_new_threads(rows, work, threads)
        return
    step = threads * ROWS_IN_A_CALL
    for start in range(0, rows, step):
        work(Share(team, threads, ROWS_AT_ONCE, start, min(start + step, rows)))


def _team_of_torch() -> int:
    """Return the address of `GOMP_parallel`, by which torch's threads are called; 0 where that is not possible.

    Where torch is built with OpenMP, on Linux, it has made the symbols of its own OpenMP runtime those of the whole
    process. If they are nevertheless another runtime's, its threads are as good, but not those that keep cores busy.

    The threads do not exist in a process forked by one that has used them, and the runtime would wait for them forever.
    A process that was forked before this module was imported cannot know. So in a forked process, the team is not used.
    """
    if sys.platform != "linux" or not torch.backends.openmp.is_available() or _is_forked():
        return 0
    symbols = ctypes.CDLL(None)
    if not hasattr(symbols, "GOMP_parallel"):
        return 0
    return ctypes.cast(symbols.GOMP_parallel, ctypes.c_void_p).value or 0


def _is_forked() -> bool:
    """Tell whether Linux has forked this process from another, and it has executed no program since then."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return True
    return bool(int(fields[6]) & 0x40)  # PF_FORKNOEXEC


PROCESS = os.getpid()  # a process that is forked later has another one
TEAM = _team_of_torch()


def _share_with_new_threads(rows: int, work: Callable[[Share], object], threads: int) -> None:
    """Process rows on threads that end with the call.

    A thread that starts too late is not waited for, as `threading` would wait. A thread that ends later, perhaps while
    the interpreter shuts down, holds nothing of the call: freeing a tensor then would end the process.
    """
    size = ROWS_OF_A_NEW_THREAD
    starts = range(0, rows, size)
    taken, left = iter(starts), len(starts)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    shared = [work]  # shared with all threads during the call

    def process(start: int) -> None:
        shared[0](Share(0, 1, size, start, min(start + size, rows)))

    def help_out() -> None:
        for start in taken:
            try:
                process(start)
            except BaseException as error:  # to be raised in the waiting thread
                done.put(error)
            else:
                done.put(None)

    with suppress(RuntimeError):  # if the system allows no more threads, this one works alone
        for _ in range(min(threads, left) - 1):
            start_new_thread(help_out, ())
    try:
        for start in taken:
            process(start)
            left -= 1
        for _ in range(left):
            error = done.get()
            if error is not None:
                raise error
    finally:  # after an interrupt, the other threads find nothing left
        deque(taken, maxlen=0)
        shared.clear()
