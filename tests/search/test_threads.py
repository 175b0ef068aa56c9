"""Work that is shared among threads: all of it is done, once, and errors are heard of."""

from __future__ import annotations

import threading

import pytest

from torch_shallow.geometry import sharing as sharing
from torch_shallow.geometry.sharing import share, share_tree


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_every_part_is_done_once(threads: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LEAST", 3)
    done: list[int] = []
    share(threads, count, lambda start, stop: done.extend(range(start, stop)))
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_cells_of_cells_are_done_too(threads: int) -> None:
    def halve(cell: tuple[int, int]) -> tuple[int, list[tuple[int, int]]]:
        start, stop = cell
        middle = (start + stop) // 2
        return (start, []) if stop - start == 1 else (-1, [(start, middle), (middle, stop)])

    results = share_tree(threads, [(0, 40), (40, 64)], halve)
    assert sorted(result for result in results if result >= 0) == list(range(64))
    assert results.count(-1) == 62


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_ends_the_work(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LEAST", 1)

    def work(start: int, stop: int) -> None:
        if stop > 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        share(threads, 1000, work)


def test_one_part_needs_no_thread() -> None:
    names: list[str] = []
    share(4, 10, lambda start, stop: names.append(threading.current_thread().name))
    assert names == [threading.current_thread().name]
