"""A graph as it stands in a file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from torch_shallow.modules.files.damage import Damaged

Slot = tuple[torch.dtype, tuple[int, ...]]
"""Dtype and shape of a tensor."""


@dataclass(frozen=True)
class WrittenGraph:
    """A module of one tensor, as operations of ATen in the order in which they run.

    Attributes:
        nodes: each is `["input"]`, `["tensor", name]` or `[operation, arguments, keyword arguments]`. An argument that
            is the value of node 3 is `{"node": 3}`; see `arguments`.
        output: number of the node whose value is the result.
        tensors: dtype and shape of each tensor of the module; a tensor that is another one too has that one's name in
            their place.
        parameters: of the tensors that are parameters, whether they require gradients; the others are buffers.
        persistent: names of the tensors that are part of the module's state.
    """

    nodes: list[list[Any]]
    output: int
    tensors: dict[str, Any]
    parameters: dict[str, bool]
    persistent: list[str]

    def slots(self) -> dict[str, Slot]:
        """Dtype and shape of each tensor that is stored.

        Raises:
            Damaged: something else is in their place.
        """
        return {name: _slot(name, told) for name, told in self.tensors.items() if not isinstance(told, str)}

    def stored_name(self, name: str) -> str:
        """The name under which a tensor is stored.

        Raises:
            Damaged: there is no tensor of the name.
        """
        told = self.tensors.get(name)
        if isinstance(told, str):
            name, told = told, self.tensors.get(told)
        if not isinstance(told, list):
            raise Damaged("a graph whose tensors are in the file", f"one with {name!r}, which is not")
        return name

    @classmethod
    def of_json(cls, value: object) -> WrittenGraph:
        """The graph in a description.

        Raises:
            Damaged: it is none.
        """
        names = [field.name for field in fields(cls)]
        kinds = (list, int, dict, dict, list)
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise Damaged(f"a graph with {', '.join(names)}", "something else in its place")
        if not all(type(value[name]) is kind for name, kind in zip(names, kinds, strict=True)):
            raise Damaged("a graph of lists of nodes and names", "something else in their place")
        return cls(**value)


def _slot(name: str, told: object) -> Slot:
    match told:
        case [str(word), list(shape)] if all(type(n) is int and n >= 0 for n in shape):
            dtype = getattr(torch, word, None)
            if isinstance(dtype, torch.dtype):
                return dtype, tuple(shape)
    raise Damaged(f"dtype and shape of the graph's tensor {name!r}", f"{str(told)[:80]!r}")
