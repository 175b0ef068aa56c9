"""A checkpoint gives back the pieces that were written, in order, or says why not."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import examples
from tests.search.programs import mlp
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.program.relu_program import ReLUProgram, WholeNetwork
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.runs import checkpoint as checkpoint_module
from torch_shallow.search.runs import fingerprint
from torch_shallow.search.runs.checkpoint import PIECES, Checkpoint
from torch_shallow.search.runs.fingerprint import Setting

PROGRAM, DOMAIN = mlp(2, 3, 1), Box(-1.0, 1.0)
CHART = make_chart(PROGRAM, DOMAIN)
SETTINGS = {"method": "auto", "solver": None, "tolerance": 1e-10, "max_rays": 1024}


def opened(
    path: str | os.PathLike[str],
    program: ReLUProgram = PROGRAM,
    domain: Domain = DOMAIN,
    **changes: Setting,
) -> AbstractContextManager[Checkpoint[Piece]]:
    chart = CHART if program is PROGRAM and domain is DOMAIN else make_chart(program, domain)
    values: dict[str, Setting] = {**SETTINGS, **changes}
    return Checkpoint.open(path, fingerprint.fingerprint_of(program, chart, domain, values), PIECES)


def random_piece(seed: int, most: int = 40) -> Piece:
    rng = np.random.default_rng(seed)
    starts, cuts, regions, left = (int(rng.choice([0, 1, 2, most])) for _ in range(4))

    def codes(count: int) -> np.ndarray:
        return rng.integers(-(2**40), 2**40, count)

    return Piece(
        codes(starts),
        codes(cuts),
        codes(cuts),
        codes(regions),
        rng.integers(0, 256, (regions, 3), dtype=np.uint8),
        rng.standard_normal((regions, 2)),
        codes(left),
        {name: int(rng.integers(0, 99)) for name in ("lp", "double-description") if rng.random() < 0.7},
    )


def assert_same(found: list[Piece], expected: list[Piece]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        *arrays, method = vars(one).values()
        *others, method_of_other = vars(other).values()
        assert method == method_of_other
        for array, like in zip(arrays, others, strict=True):
            assert array.dtype == like.dtype
            np.testing.assert_array_equal(array, like)
            assert array.flags.writeable


def written(path: Path, pieces: list[Piece]) -> None:
    with opened(path) as checkpoint:
        for piece in pieces:
            checkpoint.append(piece)


def killed(path: Path, pieces: list[Piece]) -> list[int]:
    """Write what a kill leaves: two files; and say where a new run and each piece end in the second one."""
    with opened(path.with_name("living")) as checkpoint:
        living = second(checkpoint.path)
        positions = [living.stat().st_size]
        for piece in pieces:
            checkpoint.append(piece)
            positions.append(living.stat().st_size)
        second(path).write_bytes(living.read_bytes())
        path.write_bytes(checkpoint.path.read_bytes())
    checkpoint.path.unlink()
    return positions


def second(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def read(path: Path, **changes: Any) -> list[Piece]:
    with opened(path, **changes) as checkpoint:
        pieces = list(checkpoint.pieces)
        assert checkpoint.num_pieces == len(pieces)
    return pieces


def refusal(path: Any, **changes: Any) -> str:
    with pytest.raises(TransformError) as caught, opened(path, **changes):
        pass
    message = str(caught.value)
    assert message.startswith("checkpoint: ")
    assert "expected" in message
    assert "found" in message
    assert ";" in message  # and what to do
    return message


@pytest.mark.parametrize(("pages", "part"), [(1, 100), (checkpoint_module.PAGES, checkpoint_module.PART)])
@given(seeds=st.lists(st.integers(0, 2**32), max_size=5), stop=st.integers(0, 5))
def test_what_was_written_comes_back(pages: int, part: int, seeds: list[int], stop: int) -> None:
    pieces = [random_piece(seed) for seed in seeds]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_module, "PAGES", pages)
        patch.setattr(checkpoint_module, "PART", part)
        path = Path(folder, "run")
        for some in (pieces[:stop], pieces[stop:]):
            with opened(path) as checkpoint:
                for piece in some:
                    checkpoint.append(piece)
                list(checkpoint.pieces)
        assert_same(read(path), pieces)
        assert os.listdir(folder) == ["run"]


def test_pieces_are_read_one_by_one_while_others_are_appended(tmp_path: Path) -> None:
    pieces = [random_piece(seed) for seed in range(4)]
    with opened(tmp_path / "run") as checkpoint:
        assert list(checkpoint.pieces) == []
        for number, piece in enumerate(pieces):
            checkpoint.append(piece)
            found = checkpoint.pieces
            assert_same([next(found)], pieces[:1])
            assert_same(list(found), pieces[1 : number + 1])


@pytest.fixture
def same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint, computed once."""
    same = fingerprint.fingerprint_of(PROGRAM, CHART, DOMAIN, SETTINGS)
    monkeypatch.setattr(fingerprint, "fingerprint_of", lambda *_: same)


@pytest.mark.usefixtures("same")
def test_what_a_kill_leaves_may_end_early_and_keeps_the_pieces_before(tmp_path: Path) -> None:
    path, pieces, another = tmp_path / "run", [random_piece(seed, 3) for seed in (1, 2)], random_piece(3)
    positions = killed(path, pieces)
    files = path.read_bytes(), second(path).read_bytes()
    for length in {*range(0, positions[-1] + 1, 500), *positions, *(position - 1 for position in positions)}:
        path.write_bytes(files[0])
        second(path).write_bytes(files[1][:length])
        kept = sum(position <= length for position in positions[1:])
        with opened(path) as checkpoint:
            assert_same(list(checkpoint.pieces), pieces[:kept])
            checkpoint.append(another)
        assert_same(read(path), [*pieces[:kept], another])
        assert os.listdir(tmp_path) == ["run"]


@pytest.mark.usefixtures("same")
def test_no_file_that_ends_early_is_taken_for_a_whole_one(tmp_path: Path) -> None:
    path, pieces = tmp_path / "run", [random_piece(seed) for seed in (1, 2)]
    written(path, pieces)
    whole = path.read_bytes()
    for length in {*range(2, len(whole) - 4095, 501), *range(4096, len(whole), 4096)}:  # without a page or more
        path.write_bytes(whole[:length])
        refusal(path)
        assert path.read_bytes() == whole[:length]


@given(st.data())
@examples(300)
def test_no_byte_can_change_unnoticed(data: st.DataObject) -> None:
    pieces = [random_piece(seed) for seed in (1, 2, 3)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "run")
        after_kill = data.draw(st.booleans(), "after a kill")
        (killed if after_kill else written)(path, pieces)
        file = second(path) if after_kill else path
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1), "place")
        content[place] ^= data.draw(st.integers(1, 255), "mask")
        file.write_bytes(content)
        if after_kill:  # what is whole of the second file is taken, up to the change
            found = read(path)
            assert_same(found, pieces[: len(found)])
            return
        try:
            found = read(path)
        except TransformError:
            refusal(path)
            assert path.read_bytes() == bytes(content)
        else:  # a byte that says nothing
            assert_same(found, pieces)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


def test_damage_in_the_middle_says_what_to_remove(tmp_path: Path) -> None:
    path, pieces = tmp_path / "run", [random_piece(seed) for seed in (1, 2, 3)]
    written(path, pieces)
    change(path, "UPDATE records SET content = CAST(content || 'x' AS BLOB) WHERE number = 2")
    message = refusal(path)
    assert "a damaged one, number 2" in message
    change(path, message.split("`")[1])
    assert_same(read(path), pieces[:1])


REMOVED = [
    "DELETE FROM records WHERE number = 2 AND part = 100",
    "DELETE FROM records WHERE number = 2",
    "DELETE FROM records",
    "UPDATE records SET (content, digest) = (SELECT content, digest FROM records WHERE number = 3) WHERE number = 2",
    "UPDATE records SET content = 3.5 WHERE number = 2",
    "UPDATE records SET digest = NULL",
    "DROP TABLE records",
    "ALTER TABLE records RENAME content TO contents",
]


@pytest.mark.parametrize("statement", REMOVED)
def test_pieces_that_are_gone_or_have_changed_places(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "PART", 100)
    written(tmp_path / "run", [random_piece(seed) for seed in (1, 2, 3, 4)])
    change(tmp_path / "run", "CREATE TABLE others (content)")
    change(tmp_path / "run", statement)
    refusal(tmp_path / "run")


@pytest.mark.parametrize("name", [b"records ", b"number ", b"content ", b"PRIMARY "])
@pytest.mark.parametrize("byte", [b"\xff", b"x"])
def test_a_damaged_table(name: bytes, byte: bytes, tmp_path: Path) -> None:
    written(tmp_path / "run", [random_piece(1)])
    content = (tmp_path / "run").read_bytes()
    assert name in content
    (tmp_path / "run").write_bytes(content.replace(name, byte + name[1:], 1))
    refusal(tmp_path / "run")


def test_the_second_file_of_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    here, there = ([random_piece(10 * seed + number) for number in range(5)] for seed in (1, 2))
    path = tmp_path / "run"
    killed(path, here)
    left = second(path).read_bytes()
    second(path).unlink()
    path.unlink()
    second(path).write_bytes(left)
    assert read(path) == []  # deleted to begin anew, but for the second file
    written(path, there)
    second(path).write_bytes(left)
    try:
        found = read(path)
    except TransformError:
        return
    assert_same(found, here if found[0].method == here[0].method else there)


def test_zeros_behind_the_end_do_not_matter(tmp_path: Path) -> None:
    written(tmp_path / "run", [random_piece(1)])
    os.truncate(tmp_path / "run", (tmp_path / "run").stat().st_size + 10_000)
    assert_same(read(tmp_path / "run"), [random_piece(1)])


def changed_bias(program: ReLUProgram) -> ReLUProgram:
    return replace(program, out_bias=np.nextafter(program.out_bias, 1.0))


WHOLE = WholeNetwork((4,), np.array([True, False, False, False]), np.array([1, 2, 3]))
OTHERS = {
    "output": ({"program": changed_bias(PROGRAM)}, "another program"),
    "network": ({"program": mlp(2, 4, 1)}, "another program"),
    "shape": ({"program": replace(PROGRAM, in_shape=(2, 1))}, "another program"),
    "whole": ({"program": replace(PROGRAM, whole=WHOLE)}, "another program"),
    "domain": ({"domain": Box(-1.0, 1.0 + 1e-15)}, "another domain"),
    "number": ({"tolerance": 1e-9}, "tolerance 1e-10 (here 1e-09)"),
    "text": ({"solver": "SCS"}, "solver None (here SCS)"),
    "new setting": ({"depth": 1}, "depth not set (here 1)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_problem_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    written(path, [random_piece(1)])
    before = path.read_bytes()
    changes, said = OTHERS[name]
    message = refusal(path, **changes)
    assert said in message
    assert sum(message.count(words) for words in ("(here", "another program", "another domain")) == 1
    assert path.read_bytes() == before
    assert_same(read(path), [random_piece(1)])


def test_names_of_layers_do_not_matter(tmp_path: Path) -> None:
    written(tmp_path / "run", [random_piece(1)])
    stages = tuple(replace(stage, name="renamed") for stage in PROGRAM.stages)
    assert_same(read(tmp_path / "run", program=replace(PROGRAM, stages=stages)), [random_piece(1)])


def test_other_versions_machines_and_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    written(path, [random_piece(1)])
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_versions", lambda: (("numba", "0.1"),))
        assert "(here 0.1)" in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "FORMAT", 0)
        assert "expected format 0, found format 1" in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_processor", lambda: "abacus")
        with pytest.warns(UserWarning, match="continues on abacus"):
            assert_same(read(path), [random_piece(1)])


NOTHING = [b"torch", b"PK\x03\x04", b"torch_shallow checkpoint\n\xf3record\n", b"SQLite format 3\0", b"\0" * 1000]


@pytest.mark.parametrize("content", NOTHING, ids=range(len(NOTHING)))
def test_what_is_no_checkpoint_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_bytes(content)
    assert "another version; choose another path, or delete the file" in refusal(path)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    change(tmp_path / "run", "CREATE TABLE pieces (number)")
    content = (tmp_path / "run").read_bytes()
    assert "another file" in refusal(tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == content


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    written(tmp_path / "run", [random_piece(1)])
    assert_same(read(tmp_path / "run"), [random_piece(1)])


def test_where_no_file_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    assert "a folder" in refusal(tmp_path)
    assert "a pipe" in refusal(tmp_path / "pipe")
    assert "No such file or directory" in refusal(tmp_path / "none" / "run")
    assert "Not a directory" in refusal(tmp_path / "file" / "run")
    written(tmp_path / "run", [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda place, _: place != tmp_path)
        assert "no permission" in refusal(tmp_path / "run")
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for wrong in (3, None, "", b"run", "a\0b"):
        assert "run.checkpoint" in refusal(wrong)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe", "run"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond a size: writing it fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.floats(0.0, 1.0, exclude_max=True))
def test_a_full_disk_takes_no_piece_that_is_there(first: int, later: int, share: float) -> None:
    pieces = [random_piece(seed) for seed in (first, later)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "run")
        *_, before, end = killed(path, pieces)
        path.unlink()
        second(path).unlink()
        with opened(path) as checkpoint:
            checkpoint.append(pieces[0])
            with room_for(before + int(share * (end - before))):
                with pytest.raises(TransformError, match=r"with room for more, found an error \("):
                    checkpoint.append(pieces[1])
                assert_same(list(checkpoint.pieces), pieces[:1])
            checkpoint.append(pieces[1])
        assert_same(read(path), pieces)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with opened(path) as checkpoint:
        assert "another run" in refusal(path)
        checkpoint.append(random_piece(1))
        assert "another run" in refusal(path)
        os.symlink(path, tmp_path / "link")
        assert "another run" in refusal(tmp_path / "link")
        checkpoint.append(random_piece(2))
    assert_same(read(tmp_path / "link"), [random_piece(1), random_piece(2)])
    assert sorted(os.listdir(tmp_path)) == ["link", "run"]


APPENDING = """
import os, random, signal, sys
from pathlib import Path
from tests.search.runs.test_checkpoint import (
    assert_same, checkpoint_module, opened, random_piece, read, refusal
)

checkpoint_module.PAGES = 20  # so that some are killed while pages are moved between the files
path, chance, known = Path(sys.argv[1]), random.Random(0), 0
until_the_end, end = os.pipe()
pieces = [random_piece(seed) for seed in range(50)]
for _ in range(6):
    receive, send = os.pipe()
    writer = os.fork()
    if not writer:
        os.close(end)
        with opened(path) as checkpoint:
            if not os.fork():  # a worker that outlives the process which has the lock
                os.closerange(0, 3)
                os.read(until_the_end, 1)
                os._exit(0)
            while True:
                checkpoint.append(pieces[checkpoint.num_pieces % len(pieces)])
                os.write(send, b".")
    for _ in range(chance.randint(1, 30)):
        os.read(receive, 1)
    assert "another run" in refusal(path)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(receive)
    os.close(send)
    found = read(path)
    assert len(found) > known
    assert_same(found[known:], [pieces[number % len(pieces)] for number in range(known, len(found))])
    known = len(found)
print(known)
"""


def test_killed_at_any_instant(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDING, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert not done.returncode, done.stderr
    assert int(done.stdout) >= 6
