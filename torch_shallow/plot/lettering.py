"""How wide a text is, and how it is broken into lines that have room."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties


def width_of(text: str, font: FontProperties) -> float:
    """How wide a line of text is, in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0.0, 0.0), text, prop=font).get_extents().width) if text.strip() else 0.0


def in_lines(text: str, font: FontProperties, most: float) -> str:
    """A text with line breaks between words, so that no line is wider than this, unless a single word is.

    Args:
        text: one line.
        font: what it is written in.
        most: so many points.
    """
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, font) <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
