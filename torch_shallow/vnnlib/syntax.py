"""Read the text of a VNN-LIB file as nested lists of words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch_shallow.errors import FileError

Expression: TypeAlias = str | list[Any]
"""A word, or a list of expressions."""

# A comment, a bracket, a quoted text, a shape or indices that belong to the preceding word, or a word.
_TOKEN = re.compile(r""";[^\n]*|[()]|"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s()\[";]+|\S""")


@dataclass(frozen=True)
class Statement:
    """Hold a list at the top level of a file.

    Attributes:
        parts: words and nested lists. Shapes and indices are part of the preceding word: `Real[1,5]`, `X[0,2]`.
        line: line where it begins, counted from 1.
    """

    parts: list[Expression]
    line: int

    def wrong(self, expected: str, found: object) -> FileError:
        """Return the error for an unexpected part of this statement."""
        return FileError(f"path: line {self.line}: expected {expected}, found {written(found)}.")


def statements(text: str) -> Iterator[Statement]:
    """Split the text of a file into statements.

    Yields:
        The statements, in order.

    Raises:
        FileError: brackets do not match, or there are words outside them.
    """
    open_lists: list[list[Expression]] = []
    begun = 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word[0] == ";":
            continue
        if word == "(":
            if not open_lists:
                begun = token.start()
            open_lists.append([])
        elif not open_lists:
            raise FileError(f"path: line {_line(text, token.start())}: expected an opening bracket, found {word!r}.")
        elif word == ")":
            closed = open_lists.pop()
            if open_lists:
                open_lists[-1].append(closed)
            else:
                yield Statement(closed, _line(text, begun))
        elif word[0] == "[" and open_lists[-1] and isinstance(open_lists[-1][-1], str):
            open_lists[-1][-1] += "".join(word.split())
        else:
            open_lists[-1].append(word)
    if open_lists:
        raise FileError(f"path: line {_line(text, begun)}: expected a closing bracket, found the end of the file.")


def written(expression: object, most: int = 80) -> str:
    """Write an expression as it stands in a file, shortened."""
    text = _text(expression)
    return text if len(text) <= most else f"{text[:most]}..."


def _text(expression: object) -> str:
    if isinstance(expression, list):
        return f"({' '.join(map(_text, expression))})"
    return str(expression)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
