"""A run that is killed at any instant goes on from its checkpoint, and ends as if it had not been killed."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.partition.programs import mlp
from tests.partition.walks import assert_same
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.errors import IncompleteWarning
from torch_shallow.partition.enumerate import enumerate_regions, resume

PROGRAM = mlp(5, 12, 12, 1)


def run(path: str, workers: int) -> None:
    enumerate_regions(PROGRAM, WholeSpace(), checkpoint=path, workers=workers, task_seconds=0.003)


def killed(path: Path, seconds: float, workers: int) -> None:
    """A run in another process, which is killed so many seconds after its checkpoint is there."""
    process = get_context("fork").Process(target=run, args=(str(path), workers))
    process.start()
    while not path.exists():
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of any fork beside threads
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_ten_instants(tmp_path: Path, workers: int) -> None:
    begun = time.monotonic()
    expected = enumerate_regions(PROGRAM, WholeSpace(), task_seconds=0.01)
    longest, rng, sizes = time.monotonic() - begun, random.Random(workers), []
    for attempt in range(10):
        path = tmp_path / f"{attempt}.checkpoint"
        killed(path, rng.random() * longest, workers)
        sizes.append(path.stat().st_size)
        assert_same(enumerate_regions(PROGRAM, WholeSpace(), checkpoint=path), expected)
    assert len(set(sizes)) > 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    for _ in range(5):
        killed(path, 0.02, 1)
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
