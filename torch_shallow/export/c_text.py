"""Write pieces of C: tables, comments, and the header of a function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from torch_shallow.export.tables import Tables
from torch_shallow.export.writing import wrapped
from torch_shallow.version import VERSION


def comment(text: str) -> str:
    """Make text safe for a C comment."""
    shown = text.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
    return shown.replace("*/", "* /").replace("/*", "/ *").replace("??/", "?? /")


def table(kind: str, name: str, rows: Sequence[Sequence[str]]) -> str:
    """Write a two-dimensional static table."""
    body = ",\n".join(wrapped(row, "     ").replace("     ", "    {", 1) + "}" for row in rows)
    return f"static const {kind} {name}[{len(rows)}][{len(rows[0])}] = {{\n{body}\n}};\n"


def texts(array: np.ndarray, suffix: str = "") -> list[list[str]]:
    """Write the numbers of a matrix in the fewest digits that identify them."""
    return [[f"{value!s}{suffix}" for value in row] for row in array]


def index_type(largest: int) -> str:
    """Return the integer type of indices up to `largest`."""
    return "int_least16_t" if largest < 1 << 15 else "int_least32_t"


def header_text(tables: Tables, name: str, given: str, result: str, about: Iterable[str]) -> str:
    """Return the header of a function.

    Args:
        tables: tables of the network.
        name: name of the function.
        given: type of the inputs.
        result: type of the outputs.
        about: further lines of the comment.
    """
    macro = name.upper()
    lines = [
        f"Written by torch_shallow {VERSION}: {tables.description}.",
        "",
        f"x: the {tables.num_inputs} entries of an input of shape {tables.in_shape}, row by row:",
        *wrapped((comment(label) for label in tables.features.names), "   ", 112).splitlines(),
        f"y: the {tables.num_outputs} entries of its output of shape {tables.out_shape}, row by row.",
        *about,
        "",
        "Many inputs, one after the other in memory:",
        "",
        "    for (i = 0; i < count; i++)",
        f"        status |= {name}(x + i * {macro}_INPUTS, y + i * {macro}_OUTPUTS);",
    ]
    told = "\n".join(f" * {line}".rstrip() for line in lines)
    return (
        f"/*\n{told}\n */\n#ifndef {macro}_H\n#define {macro}_H\n\n"
        + "#include <stdint.h>\n\n" * (given == "int32_t")
        + f"#define {macro}_INPUTS {tables.num_inputs}\n#define {macro}_OUTPUTS {tables.num_outputs}\n\n"
        f"int {name}(const {given} *x, {result} *y);\n\n#endif\n"
    )
