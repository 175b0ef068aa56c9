"""Run exact computations outside the torch modes that would change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def outside_modes(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run outside inference mode, autocast and default devices other than the CPU.

    In inference mode, tensors cannot take part in gradients; autocast rounds; and tensors created on another default
    device do not match those on the CPU, or have no values at all. A function that follows a device follows that of its
    arguments. Arguments that are inference tensors are copied.
    """

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _in_some_mode():
            return function(*args, **kwargs)
        with _ordinary_modes():
            return function(*map(_ordinary, args), **{name: _ordinary(value) for name, value in kwargs.items()})

    return outside


def _in_some_mode() -> bool:
    elsewhere = torch.get_default_device().type != "cpu"
    return elsewhere or torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu")


@contextmanager
def _ordinary_modes() -> Iterator[None]:
    gradients = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        yield


def _ordinary(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
