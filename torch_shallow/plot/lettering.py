"""How wide a text is, and how it is broken into lines that have room."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

HINTING = 1.1  # by how much letters that are fitted to pixels are wider than their outlines, at most


def width_of(text: str, font: FontProperties) -> float:
    """How wide a line of text is, in points, at most: a few pixels an inch move letters apart."""
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return HINTING * float(width)


def in_lines(text: str, font: FontProperties, most: float) -> str:
    """A text with line breaks between words, so that no line is wider than this, unless a single word is.

    Args:
        text: one line.
        font: what it is written in.
        most: so many points.
    """
    lines: list[list[str]] = [[]]
    used, space = 0.0, width_of(" ", font)
    for word in text.split(" "):
        width = width_of(word, font)
        if lines[-1] and used + space + width > most:
            lines.append([])
            used = 0.0
        used += width + space * bool(lines[-1])
        lines[-1].append(word)
    return "\n".join(map(" ".join, lines))
