"""The beginning of a checkpoint: a file of ours, of this problem, for this process alone."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import BinaryIO
from weakref import ref

from torch_shallow.errors import FileError
from torch_shallow.paths import beside
from torch_shallow.search.runs.journal.fingerprint import Fingerprint
from torch_shallow.search.runs.journal.messages import message
from torch_shallow.search.runs.journal.records import read_record, record

FORMAT = 1
_TITLE = b"torch_shallow checkpoint\n"
_ANOTHER = "choose another path, or delete the file to begin anew"


def create(path: Path, fingerprint: Fingerprint) -> None:
    """Make a file without pieces, whole or not at all; none if there is one by now."""
    header = json.dumps({"format": FORMAT, **asdict(fingerprint)})
    with beside(path) as fresh:
        with fresh.open("xb") as file:
            file.write(_TITLE + record(header.encode()))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(fresh, path)  # which, unlike a change of its name, replaces no file


def check_fingerprint(path: Path, file: BinaryIO, fingerprint: Fingerprint) -> None:
    """Make sure that a file is a checkpoint of a problem, and leave its position behind what says so.

    Raises:
        FileError: it is not.
    """
    start = file.read(len(_TITLE))
    if start != _TITLE:
        found = f"another file, which begins with {start[:8]!r}" if start else "an empty file"
        raise FileError(message(path, "a checkpoint", found, _ANOTHER))
    header = read_record(file)
    if header is None:
        raise FileError(message(path, "a checkpoint", "one whose first record is damaged", _ANOTHER))
    fields = json.loads(header)
    number = fields.pop("format")
    if number != FORMAT:
        remedy = f"use the version of torch_shallow that wrote it, {_ANOTHER}"
        raise FileError(message(path, f"format {FORMAT}", f"format {number}", remedy))
    written = Fingerprint(**fields)
    differences = fingerprint.differences(written)
    if differences:
        found = f"one with {', '.join(differences)}"
        raise FileError(message(path, "a checkpoint of the same regions", found, _ANOTHER))
    if written.processor != fingerprint.processor:
        warnings.warn(
            f"checkpoint: {path}: begun on a processor {written.processor}, goes on with {fingerprint.processor}: "
            "numbers may differ in their last digits from those of an uninterrupted run.",
            stacklevel=2,
        )


def lock(path: Path, file: FileIO) -> None:
    """Take the lock of a file, until it is closed or the process ends.

    Raises:
        FileError: it is taken.
    """
    from filelock import lock_descriptor

    if not lock_descriptor(file.fileno(), blocking=False):
        remedy = "wait until that has ended, or choose another path"
        raise FileError(message(path, "a file of this process alone", "one that another run writes", remedy))
    if hasattr(os, "register_at_fork"):  # or a process forked from this one would keep the lock when this is killed
        weak = ref(file)
        os.register_at_fork(after_in_child=lambda: _close(weak()))


def _close(file: FileIO | None) -> None:
    if file is not None:
        file.close()
