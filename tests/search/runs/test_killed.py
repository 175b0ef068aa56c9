"""A run that is killed at any instant goes on from its checkpoint, and ends as if it had not been killed."""

from __future__ import annotations

import itertools
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.search.programs import mlp
from tests.search.walks import assert_same
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.errors import IncompleteWarning
from torch_shallow.search.enumerate import enumerate_regions, resume
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.runs import schedule
from torch_shallow.search.runs.checkpoint import Checkpoint

PROGRAM = mlp(4, 8, 8, 1)


def run(path: str, pieces: int, workers: int, pipe: int) -> None:
    append, count = Checkpoint.append, itertools.count(1)

    def appended(checkpoint: Checkpoint, piece: Piece) -> None:
        append(checkpoint, piece)
        if next(count) == pieces:
            os.write(pipe, b".")

    Checkpoint.append, schedule.FIRST_SECONDS = appended, 0.0  # in this process alone
    enumerate_regions(PROGRAM, WholeSpace(), checkpoint=path, workers=workers, task_seconds=1e-9)


def killed(path: Path, pieces: int, workers: int) -> None:
    """A run in another process, which is killed soon after it has written so many pieces: anywhere in its work."""
    receive, send = os.pipe()
    process = get_context("fork").Process(target=run, args=(str(path), pieces, workers, send))
    process.start()
    os.close(send)
    assert os.read(receive, 1) == b"."  # nothing, if it had ended before
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    os.close(receive)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of any fork beside threads
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_ten_instants(tmp_path: Path, workers: int) -> None:
    expected = enumerate_regions(PROGRAM, WholeSpace())
    for pieces in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40):
        path = tmp_path / f"{pieces}.checkpoint"
        killed(path, pieces, workers)
        assert_same(enumerate_regions(PROGRAM, WholeSpace(), checkpoint=path), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    for _ in range(5):
        killed(path, 4, 1)
    assert_same(enumerate_regions(PROGRAM, WholeSpace(), checkpoint=path), enumerate_regions(PROGRAM, WholeSpace()))


def test_a_checkpoint_of_a_run_that_has_ended_is_the_result(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    expected = enumerate_regions(PROGRAM, Box(-1.0, 1.0), checkpoint=path)
    content = path.read_bytes()
    assert_same(enumerate_regions(PROGRAM, Box(-1.0, 1.0), checkpoint=path), expected)
    assert path.read_bytes() == content


def test_a_partition_that_goes_on_with_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    expected = enumerate_regions(PROGRAM, WholeSpace())
    with pytest.warns(IncompleteWarning):
        part = enumerate_regions(PROGRAM, WholeSpace(), max_regions=1000)
    with pytest.warns(IncompleteWarning):
        more = resume(part, max_regions=2000, checkpoint=path)
    assert more.num_regions == 2000
    assert_same(resume(part, checkpoint=path), expected)  # the file holds more than the partition
    assert_same(resume(more), expected)
