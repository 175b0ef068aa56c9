"""A file that keeps the pieces of a run while they are found, so that a killed run goes on from there.

A title, a record that says what the pieces are of, and a record for each piece. Records are only ever appended: a
process that is killed loses at most the record that it was writing, and a machine that crashes those of the last
interval.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from types import TracebackType

from torch_shallow.domain import Domain
from torch_shallow.errors import FileError
from torch_shallow.geometry.chart import Chart
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.runs.journal.encoding import decode, encode
from torch_shallow.search.runs.journal.fingerprint import Fingerprint, Setting
from torch_shallow.search.runs.journal.messages import damaged, explained, message
from torch_shallow.search.runs.journal.opening import check_fingerprint, create, lock
from torch_shallow.search.runs.journal.records import any_record_behind, read_record, record

_log = logging.getLogger(__name__)


class Checkpoint:
    """The pieces of a run in a file, of which this process has the lock; for one thread. See `open`.

    Attributes:
        path: of the file.
        num_pieces: how many pieces are in it.
    """

    def __init__(self, path: Path, file: FileIO, interval: float) -> None:
        self.path, self.num_pieces = path, 0
        self._file, self._interval, self._synced = file, interval, time.monotonic()
        self._first = self._end = 0  # where the pieces begin and end

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        program: ReLUProgram,
        chart: Chart,
        domain: Domain,
        settings: Mapping[str, Setting],
        *,
        interval: float = 30.0,
    ) -> Checkpoint:
        """The checkpoint in a file, which is made if there is none. A record that was being written is cut off.

        Args:
            path: of the file.
            program: the network.
            chart: of the domain.
            domain: where the regions are looked for.
            settings: of the enumeration.
            interval: seconds, after which what was appended is also written through to the disk.

        Returns:
            To be closed in the end, as by a `with` statement.

        Raises:
            FileError: the file is none of ours, damaged, in use, of another problem or made by another version, or
                cannot be written.
        """
        path = check_path(path, "checkpoint", "run.checkpoint")
        fingerprint = Fingerprint.of(program, chart, domain, settings)
        with explained(path):
            path = Path(os.path.realpath(path))
            if not path.exists():
                create(path, fingerprint)
            if not path.is_file():
                raise FileError(message(path, "the name of a file", what_it_is(path), "choose another"))
            file = FileIO(path, "r+")
            try:
                lock(path, file)
                checkpoint = cls(path, file, interval)
                checkpoint._read(fingerprint)
            except BaseException:
                file.close()
                raise
        return checkpoint

    @property
    def pieces(self) -> Iterator[Piece]:
        """The pieces in order, one at a time in memory.

        Yields:
            The next piece.

        Raises:
            FileError: the file cannot be read any more.
        """
        with explained(self.path), self.path.open("rb") as file:
            file.seek(self._first)
            for _ in range(self.num_pieces):
                content = read_record(file)
                if content is None:
                    raise FileError(damaged(self.path, file.tell()))
                yield decode(content)

    def append(self, piece: Piece) -> None:
        """Write a piece behind the others. If that fails, those are still there, and can be followed by another.

        Raises:
            TransformError: it cannot be written, as on a full disk.
        """
        content = memoryview(record(encode(piece)))
        with explained(self.path):
            self._file.seek(self._end)
            written = 0
            try:
                while written < len(content):
                    written += self._file.write(content[written:])
            except BaseException:
                with suppress(OSError):  # else what is behind the end is overwritten, or cut off when opened again
                    self._file.truncate(self._end)
                raise
            self._end += written
            self.num_pieces += 1
            if time.monotonic() - self._synced >= self._interval:
                self._sync()

    def close(self) -> None:
        """Write everything through to the disk, and let others have the file.

        Raises:
            TransformError: it cannot be written.
        """
        from filelock import unlock_descriptor

        if self._file.closed:
            return
        with explained(self.path):
            try:
                self._sync()
            finally:
                unlock_descriptor(self._file.fileno())
                self._file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _read(self, fingerprint: Fingerprint) -> None:
        """Look at all records, and cut off what is behind the last whole one.

        Raises:
            FileError: it is no checkpoint of the same regions, or damaged in the middle.
        """
        reader = BufferedReader(self._file)
        check_fingerprint(self.path, reader, fingerprint)
        self._first = self._end = reader.tell()
        while read_record(reader) is not None:
            self._end = reader.tell()
            self.num_pieces += 1
        reader.detach()
        size = os.fstat(self._file.fileno()).st_size
        if size > self._end:
            if any_record_behind(self._file, self._end):
                raise FileError(damaged(self.path, self._end))
            _log.warning(
                "checkpoint %s: cut off the last %d bytes, a record that was not whole", self.path, size - self._end
            )
            self._file.truncate(self._end)
