"""File that keeps the pieces of a run as they are found, so that a killed run can continue.

It is an SQLite database with one table. Record 0 identifies the run; each further record is a piece, written in one
transaction. SQLite first writes a transaction to a second file, whose name ends with `-wal`; this exists while the run
goes on, and after a kill. A killed process loses at most the piece that it was writing; a machine that crashes loses
the pieces that were not on its disk yet.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from torch_shallow.errors import FileError
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.runs.fingerprint import ANOTHER, Setting, check_fingerprint, message

Record = TypeVar("Record")

PART = 1 << 24  # bytes per row; SQLite allows less than 10^9
PAGES = 1 << 14  # of 4 KiB in the second file before SQLite moves them to the first: 64 MiB
_TABLE = "CREATE TABLE records (number INTEGER, part INTEGER, content BLOB, digest BLOB, PRIMARY KEY (number, part))"
_COPY = "use another copy of the file, or delete it to start over"
_NOT_OURS = ("a checkpoint of this version", "another file, or the checkpoint of another version", ANOTHER)
_DAMAGED = ("a whole file", "a damaged one", _COPY)
_FAULTS = {  # texts of SQLite, each with what was expected, what was found, and what to do
    "is locked": (
        "a file of this run alone",
        "one that another run uses, or whose file system has no locks",
        "wait until that run has ended, or choose another path",
    ),
    "not a database": _NOT_OURS,
    "no such": _NOT_OURS,  # table or column
    "malformed": _DAMAGED,
    "file format": _DAMAGED,
    "too big": _DAMAGED,  # no row of ours is
    "decode": _DAMAGED,  # a message of SQLite that quotes a damaged table
}
_METHOD = "method."
_ARRAYS = tuple(each.name for each in fields(Piece) if each.name != "method")


@dataclass(frozen=True)
class Codec(Generic[Record]):
    """Conversion of records to named arrays and back."""

    encode: Callable[[Record], dict[str, np.ndarray]]
    decode: Callable[[dict[str, np.ndarray]], Record]


class Checkpoint(Generic[Record]):
    """Pieces of a run in a file that no other run can open meanwhile; made by `open`, and for one thread only.

    Attributes:
        path: Path of the file.
        num_pieces: Number of pieces in the file.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, codec: Codec[Record]) -> None:
        self.path, self.num_pieces, self._codec = path, 0, codec
        self._database, self._last = database, b""  # and the digest of the last record

    @classmethod
    @contextmanager
    def open(
        cls,
        path: str | os.PathLike[str],
        fingerprint: Mapping[str, Setting],
        codec: Codec[Record],
    ) -> Iterator[Checkpoint[Record]]:
        """Open the checkpoint in a file, for a `with` statement; a missing or empty file is initialised.

        Args:
            path: Path of the file.
            fingerprint: Identity of the search, as `fingerprint_of` returns it.
            codec: Conversion of the pieces.

        Yields:
            The checkpoint, to read from and append to.

        Raises:
            FileError: The file is not a checkpoint, is damaged, in use, of another problem or written by another
                version, or cannot be written.
        """
        path = check_path(path, "checkpoint", "run.checkpoint")
        with _explained(path):
            path = Path(os.path.realpath(path))
            if not path.exists():
                path.touch()  # its errors are clearer than those of SQLite
            elif not path.is_file():
                raise FileError(message(path, "the name of a file", what_it_is(path), "choose another"))
            if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK)):
                expected = "a file that can be written, in a folder that can be written"
                raise FileError(message(path, expected, "no permission", "grant it, or choose another path"))
            database = sqlite3.connect(path, timeout=0.0)
        with closing(database):
            checkpoint = cls(path, database, codec)
            with _explained(path):
                checkpoint._begin(fingerprint)
            yield checkpoint

    def _begin(self, fingerprint: Mapping[str, Setting]) -> None:
        """Take the lock, initialise the file if it is empty, and check that it is intact and of the same regions."""
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA wal_autocheckpoint = {PAGES}")
        is_new = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new:
            execute("PRAGMA journal_mode = WAL")
        with self._database:
            execute("BEGIN EXCLUSIVE")
            if is_new:
                execute(_TABLE)
                self._write(0, json.dumps(fingerprint).encode())
        self.num_pieces = max(0, execute("SELECT count(DISTINCT number) FROM records").fetchone()[0] - 1)
        records = self._records()
        content, self._last = next(records)
        check_fingerprint(json.loads(content), fingerprint, self.path)
        if execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise FileError(message(self.path, *_DAMAGED))
        for _, self._last in records:
            pass

    @property
    def pieces(self) -> Iterator[Record]:
        """Read the pieces in order, holding one at a time in memory.

        Yields:
            The next piece.

        Raises:
            FileError: A piece is damaged, or can no longer be read.
        """
        from safetensors.numpy import load

        with _explained(self.path):
            for content, _ in islice(self._records(), 1, None):
                yield self._codec.decode(load(content))

    def append(self, piece: Record) -> None:
        """Append a piece. If that fails, the earlier pieces remain, and another one can be appended.

        Raises:
            FileError: The piece cannot be written, as on a full disk.
        """
        from safetensors.numpy import save

        arrays = {name: np.asarray(array, order="C") for name, array in self._codec.encode(piece).items()}
        content = save(arrays)
        with _explained(self.path), self._database:
            digest = self._write(self.num_pieces + 1, content)
        self.num_pieces, self._last = self.num_pieces + 1, digest

    def _write(self, number: int, content: bytes) -> bytes:
        """Write a record in rows, and return its digest."""
        digest, view = _digest(content, self._last), memoryview(content)
        rows = ((number, at, view[at : at + PART], digest) for at in range(0, len(view), PART))
        self._database.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
        return digest

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        """Read each record with its digest, in order; raise at one that differs from what was written."""
        query = "SELECT content, digest FROM records WHERE number = ? AND typeof(content) = 'blob' ORDER BY part"
        digest = b""
        for number in range(self.num_pieces + 1):
            rows = self._database.execute(query, (number,)).fetchall()
            content = b"".join(part for part, _ in rows)
            digest = _digest(content, digest)
            if not rows or rows[0][1] != digest:
                remedy = f"keep the earlier ones by the SQL `DELETE FROM records WHERE number >= {number}`, {_COPY}"
                found = f"a damaged one, number {number}"
                raise FileError(message(self.path, "whole pieces", found, remedy if number else _COPY))
            yield content, digest


def _digest(content: bytes, before: bytes) -> bytes:
    """Return the digest of a record and, since it includes the previous digest, of all records before it."""
    return blake2b(content, key=before, digest_size=16).digest()


def _encode(piece: Piece) -> dict[str, np.ndarray]:
    arrays = {name: getattr(piece, name) for name in _ARRAYS}
    return arrays | {f"{_METHOD}{name}": np.array(regions) for name, regions in piece.method.items()}


def _decode(found: dict[str, np.ndarray]) -> Piece:
    method = {name.removeprefix(_METHOD): int(found[name]) for name in sorted(found) if name.startswith(_METHOD)}
    return Piece(**{name: found[name] for name in _ARRAYS}, method=method)


PIECES = Codec(_encode, _decode)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise errors of SQLite and of the operating system as `FileError`; pass on errors that are one already."""
    try:
        yield
    except FileError:
        raise
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        said = str(error.strerror if isinstance(error, OSError) else error)
        other = (
            "a file that can be written, with room for more",
            f"an error ({said})",
            "solve this and run again with this file, which keeps what was written before, or choose another path",
        )
        fault = next((fault for words, fault in _FAULTS.items() if words in said), other)
        raise FileError(message(path, *fault)) from error
