"""Write text to files, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from torch_shallow.errors import FileError
from torch_shallow.paths import beside, check_path


def write(path: str | os.PathLike[str], content: str | bytes, example: str) -> Path:
    """Write a file, replacing an existing one.

    Args:
        path: path of the file.
        content: content of the file.
        example: example of such a file's name, for error messages.

    Raises:
        FileError: the file cannot be written.
    """
    target = check_path(path, example=example)
    try:
        with beside(target) as fresh:
            fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
            fresh.replace(target)
    except OSError as error:
        raise FileError(
            f"path: {path}: expected a file in a writable folder, found an error ({error.strerror}); choose another "
            "path."
        ) from error
    return target


def wrapped(parts: Iterable[str], indent: str, width: int = 118) -> str:
    """Join parts with commas, on lines of at most `width` characters unless a single part is longer."""
    lines, line = list[str](), indent
    for part in parts:
        if len(line) + len(part) + 2 > width and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{part}, "
    return "\n".join([*lines, line.rstrip().removesuffix(",")])
