"""Names of the API become links wherever a page has them in backticks: `transform`, `explain.rules`, `Box(-1, 1)`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_CODE = re.compile(r"(?<![`\[}])`([^`\n]+)`(?![`\]])")
_FENCE = re.compile(r"^\s*(`{3,}|:{3,}\{code)")


def names(documented: Iterable[str]) -> dict[str, str]:
    """What may be written for a public name, and the whole name.

    A function of `explain`, `plot` or `export`, or a member of a class, is known by its own name only if that is no
    common word, and not that of several.

    Args:
        documented: whole names, such as `torch_shallow.explain.output_range`.
    """
    whole_names = list(documented)
    often = Counter(whole.rpartition(".")[2] for whole in whole_names)
    known = {}
    for whole in whole_names:
        _, *middle, last = whole.split(".")
        known |= {whole: whole, ".".join([*middle, last]): whole}
        if not middle or (often[last] == 1 and ("_" in last or last[0].isupper())):
            known[last] = whole
    return known


def link(page: str, source: list[str], known: Mapping[str, str]) -> None:
    """Put links into the text of a page, outside of headings, code and links."""
    if source[0].lstrip().startswith("{") or page.startswith("reference/"):  # a notebook; names of torch
        return
    fence, lines = "", []
    for line in source[0].split("\n"):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif mark and "{" not in line:
            fence = mark[1]
        elif not line.startswith("#") and f"torch_shallow.{page.removeprefix('api/')}" not in line:
            line = _CODE.sub(lambda found: _linked(found, known), line)
        lines.append(line)
    source[0] = "\n".join(lines)


def _linked(found: re.Match[str], known: Mapping[str, str]) -> str:
    text: Any = found[1]
    name = text.partition("(")[0]
    if name not in known or "<" in text or ">" in text:
        return found[0]
    return f"{{py:obj}}`{text} <{known[name]}>`"
