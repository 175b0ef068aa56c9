"""Paths that a caller gives, and files that come into being whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch_shallow.errors import argument_error


def check_path(path: object, argument: str = "path", example: str = "network.safetensors") -> Path:
    """A path as such.

    Args:
        path: what the caller gave.
        argument: its name.
        example: of a file.

    Raises:
        TransformError: it is none.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if isinstance(text, str) and text and "\0" not in text and _has_bytes(text):
        return Path(text)
    raise argument_error(text, str)(
        f"{argument}: expected a path as text or pathlib.Path, found {path!r}; give the name of a file, such as "
        f"{example!r}."
    )


def _has_bytes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def what_it_is(path: Path) -> str:
    """What a path names that is no file, in words."""
    return "a folder" if path.is_dir() else "a device or a pipe"


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name for a new file in the same folder, to be filled and then given its name; removed if it is still there."""
    fresh = path.with_name(f".{secrets.token_hex(16)}")
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
