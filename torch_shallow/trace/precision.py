"""Running a model's own code in float64, whatever precisions that code names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LOWER = frozenset({torch.float32, torch.float16, torch.bfloat16})
_CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16})


class InFloat64(TorchFunctionMode):
    """Inside this context every floating-point tensor that torch makes, copies or casts is float64.

    A value of lower precision is raised exactly; a cast to a lower precision keeps the value as it is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func` in float64."""
        if func is Tensor.__deepcopy__:
            return _deepcopy(*args)
        if func in _CASTS:
            func = Tensor.double
        if not _writes(getattr(func, "__name__", "")):
            args = tuple(_raised(value) for value in args)
            kwargs = {name: _raised(value) for name, value in kwargs.items()} if kwargs else {}
        return _raised(func(*args, **(kwargs or {})))


def _writes(name: str) -> bool:
    """Whether the function called `name` changes its first argument, which must then stay the tensor it is."""
    name = name.split(".")[0]  # of an overload, such as "relu_.default"
    return name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))


def _raised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _LOWER else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _LOWER else value
    if type(value) in (list, tuple) and any(isinstance(item, Tensor) for item in value):
        return type(value)(_raised(item) for item in value)
    return value


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    # torch itself refuses to copy tensors that have a gradient history, such as the weight of old weight_norm.
    if id(tensor) not in memo:
        memo[id(tensor)] = _raised(tensor.detach().clone())
    return memo[id(tensor)]
