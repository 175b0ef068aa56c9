"""Run a model's own code in float64, whatever precisions that code names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode

_LOWER = frozenset({torch.float32, torch.float16, torch.bfloat16})
_CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16})


class InFloat64(TorchFunctionMode):
    """A context in which every floating-point tensor that torch creates, copies or casts is float64.

    A value of lower precision is converted exactly; a cast to a lower precision keeps the value.

    Attributes:
        has_converted: whether it has changed anything; code for which it has not computes the same without it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_converted = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func` in float64."""
        if func is Tensor.__deepcopy__:
            return _deepcopy(*args)
        if func in _CASTS:
            func, self.has_converted = Tensor.double, True
        if not _writes(getattr(func, "__name__", "")):
            args = tuple([self._raised(value) for value in args])
            kwargs = {name: self._raised(value) for name, value in kwargs.items()} if kwargs else {}
        return self._raised(func(*args, **(kwargs or {})))

    def _raised(self, value: Any) -> Any:
        raised = _raised(value)
        self.has_converted |= raised is not value
        return raised


def write_in_float64(module: GraphModule, example: Tensor) -> None:
    """Rewrite a graph, in place, so that it computes on its own what it computes inside `InFloat64`.

    It can then be compiled and exported, which contexts would prevent.

    Args:
        module: the graph and its parts.
        example: an input, float64. Which results have a lower precision must not depend on the input's values.
    """
    module.double()
    for node in module.graph.nodes:
        node.type = None  # a string annotation in the code would keep the graph from being pickled
        node.args, node.kwargs = map_aggregate(node.args, _raised), map_aggregate(node.kwargs, _raised)
        if node.op == "call_method" and node.target in {cast.__name__ for cast in _CASTS}:
            node.target = "double"
    with torch.no_grad():
        _Raising(module).run(example)
    module.recompile()


class _Raising(Interpreter):
    """Add a cast after each node whose result has a lower precision."""

    def run_node(self, n: Node) -> Any:
        """Return the value of a node in float64."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.dtype in _LOWER:
            with n.graph.inserting_after(n):
                cast = n.graph.call_method("double")
            n.replace_all_uses_with(cast)
            cast.args = (n,)
        return _raised(value)


@cache
def _writes(name: str) -> bool:
    """Tell whether the function `name` changes its first argument, which must then remain the same tensor."""
    name = name.split(".")[0]  # without the overload, as in "relu_.default"
    return name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))


def _raised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _LOWER else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _LOWER else value
    if type(value) in (list, tuple) and any(isinstance(item, Tensor) for item in value):
        raised = type(value)(_raised(item) for item in value)
        return value if all(map(is_, raised, value)) else raised
    return value


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    # torch itself refuses to copy tensors that have a gradient history, such as the weight of old weight_norm.
    if id(tensor) not in memo:
        memo[id(tensor)] = _raised(tensor.detach().clone())
    return memo[id(tensor)]
