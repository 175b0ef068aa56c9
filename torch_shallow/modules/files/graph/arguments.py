"""Arguments of operations as JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from torch_shallow.modules.files.damage import Damaged

_KINDS: dict[str, type] = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}


def to_json(value: Any, number: Callable[[Node], int]) -> Any:
    """An argument as JSON: numbers, texts, None and lists as they are, anything else as an object of one entry.

    A device becomes that of the input, since all of a graph runs on one.

    Args:
        value: the argument.
        number: gives the number of a node.

    Raises:
        TypeError: it cannot be written.
    """
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, Node):
        return {"node": number(value)}
    if isinstance(value, torch.device):
        return {"device": "of the input"}
    if isinstance(value, list | tuple):
        return [to_json(item, number) for item in value]
    for kind, cls in _KINDS.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    raise TypeError(f"an argument of type {type(value).__name__}")


def of_json(value: Any, nodes: Sequence[Any], device: Callable[[], Any]) -> Any:
    """The argument that `to_json` wrote.

    Args:
        value: what it wrote.
        nodes: the nodes before the one that has the argument.
        device: makes the device of the input.

    Raises:
        Damaged: it is nothing that `to_json` writes.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [of_json(item, nodes, device) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, told),) = value.items()
        if kind == "node" and type(told) is int and 0 <= told < len(nodes):
            return nodes[told]
        if kind == "float" and told in ("inf", "-inf", "nan"):
            return float(told)
        if kind == "device":
            return device()
        found = getattr(torch, str(told), None) if kind in _KINDS and str(told).isidentifier() else None
        if found is not None and isinstance(found, _KINDS[kind]):
            return found
    raise Damaged("a graph whose arguments are numbers and the nodes before", f"{str(value)[:80]!r}")
