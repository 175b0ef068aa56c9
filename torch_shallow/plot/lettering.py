"""Width of texts, and line breaks that make them fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

HINTING = 1.1  # largest factor by which letters fitted to pixels are wider than their outlines


def width_of(text: str, font: FontProperties) -> float:
    """Upper bound on the width of a line of text, in points; at low resolutions letters are spaced further apart."""
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return HINTING * float(width)


def in_lines(text: str, font: FontProperties, most: float) -> str:
    """Break a text into lines between words, so that no line is wider than a limit unless a single word is.

    Args:
        text: one line of text.
        font: font of the text.
        most: largest width of a line, in points.
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
