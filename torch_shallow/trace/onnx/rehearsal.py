"""Shapes of what a graph computes, found while it is written."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

BATCHES = (2, 3)
"""Two numbers of inputs. A size that is the same for both does not depend on the number of inputs."""


class Rehearsal:
    """Runs every node of a graph as it is written, on tensors without values, for two numbers of inputs.

    Args:
        root: has the constants and the modules of the graph.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.results: dict[Node, tuple[Any, ...]] = {}

    def begin(self, node: Node, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> None:
        """Set the value of a placeholder.

        Args:
            node: the placeholder.
            shapes: its shapes for the two numbers of inputs.
            dtype: its type.
        """
        self.results[node] = tuple(torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)

    def run(self, node: Node) -> None:
        """Run a node; nothing is known of it where this cannot be done without values."""
        if node.op in ("placeholder", "output") or any(used not in self.results for used in node.all_input_nodes):
            return
        try:
            self.results[node] = tuple(self._result(node, i) for i in range(len(BATCHES)))
        except (
            RuntimeError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            NotImplementedError,
            ZeroDivisionError,
        ):
            return

    def _result(self, node: Node, which: int) -> Any:
        args: Any
        kwargs: Any
        args, kwargs = map_arg((node.args, node.kwargs), lambda used: self.results[used][which])
        if node.op == "get_attr":
            return getattr(self.root, str(node.target)).detach().to("meta")
        if node.op == "call_module":
            return copy.deepcopy(self.root.get_submodule(str(node.target))).to("meta")(*args, **kwargs)
        if callable(node.target):
            with torch.device("meta"):
                return node.target(*args, **kwargs)
        return getattr(args[0], node.target)(*args[1:], **kwargs)

    def dimensions(self, node: Node) -> tuple[int | None, ...] | None:
        """Sizes of a tensor, None for one that depends on the number of inputs; None if nothing is known of it."""
        found = self.results.get(node, ())
        if not found or not all(isinstance(value, Tensor) for value in found) or found[0].ndim != found[1].ndim:
            return None
        return tuple(a if a == b else None for a, b in zip(found[0].shape, found[1].shape, strict=True))

    def kind(self, node: Node) -> torch.dtype | type | None:
        """Type of the entries of a tensor, or of a number; None if nothing is known of it."""
        found = self.results.get(node, (None,))[0]
        return found.dtype if isinstance(found, Tensor) else type(found) if isinstance(found, int | float) else None
