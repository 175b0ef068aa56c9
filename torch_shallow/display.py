"""Display results: one line in a REPL, the full text by `str`, and tables in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

MOST_CHARACTERS = 120  # in one line of a REPL
LINE = 40  # a line of a cell with at most this many characters is not broken


@dataclass(frozen=True)
class TextTable:
    """Hold a table of text.

    Attributes:
        head: the names of the columns.
        rows: the cells; a cell may have several lines.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Displayed:
    """Give a result a `repr` of one line, however long its text, and tables in notebooks."""

    __slots__: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        line = self._line()
        return f"{type(self).__name__}({line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 3] + '...'})"

    def _line(self) -> str:
        """Return the result in one line: the first line of its text."""
        return str(self).partition("\n")[0]

    def _parts(self) -> Iterable[str | TextTable]:
        """Return what a notebook shows, from top to bottom: the text, unless a subclass has tables."""
        return [str(self)]

    def _repr_html_(self) -> str:
        return as_html(self._parts())


def counted(number: int, noun: str) -> str:
    """Write a number with its noun in the singular or the plural.

    Example:
        >>> counted(1, "cut"), counted(2, "cut")
        ('1 cut', '2 cuts')
    """
    return f"{number} {noun}{'s'[: number != 1]}"


def as_html(parts: Iterable[str | TextTable]) -> str:
    """Format texts and tables as HTML that sets no colours, so that it is readable in light and dark notebooks.

    Example:
        >>> as_html(["1 < 2"])
        '<p>1 &lt; 2</p>'
    """
    return "".join(_table(part) if isinstance(part, TextTable) else _text(part) for part in parts)


def _text(text: str) -> str:
    tag = "pre" if "\n" in text else "p"
    return f"<{tag}>{html.escape(text)}</{tag}>"


def _table(table: TextTable) -> str:
    numeric = [all(_is_number(cell) for cell in column) for column in zip(*table.rows, strict=True)]
    sides = ["right" if numbers else "left" for numbers in numeric] or ["left"] * len(table.head)

    def row(tag: str, cells: Sequence[str]) -> str:
        written = [_cell(tag, cell, side) for cell, side in zip(cells, sides, strict=True)]
        return f"<tr>{''.join(written)}</tr>"

    body = "".join(row("td", cells) for cells in table.rows)
    written = f"<table><thead>{row('th', table.head)}</thead><tbody>{body}</tbody></table>"
    return f"<div style='overflow-x: auto'>{written}</div>"


def _cell(tag: str, text: str, side: str) -> str:
    lines = text.split("\n")
    width = "white-space: nowrap" if max(map(len, lines)) <= LINE else "min-width: 16em"
    style = f"text-align: {side}; vertical-align: top; {width}"
    return f"<{tag} style='{style}'>{'<br>'.join(map(html.escape, lines))}</{tag}>"


def _is_number(text: str) -> bool:
    """Tell whether a cell is right-aligned: it holds a number, possibly with commas, or is empty."""
    try:
        return not text or float(text.replace(",", "")) is not None
    except ValueError:
        return False
