"""What is said where a checkpoint cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch_shallow.errors import FileError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the operating system as ours, and ours as they are.

    Raises:
        FileError: there was one.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            message(
                path,
                "a file that can be written, with room for more",
                f"an error ({error.strerror})",
                "see to that and run again with this file, which keeps what was written before, or choose another path",
            )
        ) from error


def damaged(path: Path, position: int) -> str:
    """A record at a position is damaged, in words."""
    return message(
        path,
        "whole records",
        f"a damaged one at byte {position}, with others behind it",
        f"use another copy of the file, cut it to its first {position} bytes to go on from what is before, or delete "
        "it to begin anew",
    )


def message(path: Path, expected: str, found: str, remedy: str) -> str:
    """All that an error says."""
    return f"checkpoint: {path}: expected {expected}, found {found}; {remedy}."
