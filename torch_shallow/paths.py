"""Check paths given by a caller, and write files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch_shallow.errors import argument_error


def check_path(path: object, argument: str = "path", example: str = "network.safetensors") -> Path:
    """Check that a value is a path, and return it as one.

    Args:
        path: the value given by the caller.
        argument: name of the argument, for the message.
        example: example of a file name, for the message.

    Raises:
        TransformError: the value is not a path.
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
    """Describe in words what a path that is not a regular file refers to."""
    return "a folder" if path.is_dir() else "a device or a pipe"


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Provide a temporary path in the same folder, to write and then rename; a remaining file is removed."""
    fresh = path.with_name(f".{secrets.token_hex(16)}")
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
