"""Handle forward hooks of the user: leave out those that only observe, and refuse those that change values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torch_shallow.errors import TransformError
from torch_shallow.program.model_copy import copy_with_parts, is_torch_made

_ROWS = (0.0, 1.0, -1.0, 1e3, -1e3)


def hooked_parts(model: nn.Module) -> list[str]:
    """List the parts of a model that have forward hooks of the user."""
    return [name or "(root)" for name, module in model.named_modules() if next(_hooks_of(module), None) is not None]


def refuse_hooks_that_change(model: nn.Module, in_shape: tuple[int, ...]) -> None:
    """Call each forward hook of a model once, on a copy of the model without gradients, if it has any.

    Args:
        model: a model that passed `check_model`.
        in_shape: shape of one input.

    Raises:
        TransformError: a hook returns another input or output, changes one in place, or fails.
    """
    if not hooked_parts(model):
        return
    (copy, parts), (plain, _) = (copy_with_parts(model, nullcontext()) for _ in range(2))
    for name, module in model.named_modules():
        for kind, hook, with_kwargs in _hooks_of(module) if module in parts else ():
            watched = _watched(
                hook, f"the forward {kind} {_name_of(hook)} of {name or 'the model'}", kind == "pre-hook"
            )
            register = (
                parts[module].register_forward_pre_hook if kind == "pre-hook" else parts[module].register_forward_hook
            )
            register(watched, with_kwargs=with_kwargs)
    tensor = next((t for t in (*copy.parameters(), *copy.buffers()) if t.is_floating_point()), torch.empty(0))
    x = torch.ones(len(_ROWS), *in_shape, dtype=tensor.dtype, device=tensor.device)
    x *= torch.tensor(_ROWS).to(x).reshape(-1, *(1 for _ in in_shape))
    with torch.enable_grad():  # hooks may ask for the gradients of the values that they see
        found, expected = (network(x.clone().requires_grad_().clone()) for network in (copy, plain))
    if not all(torch.allclose(a, b, equal_nan=True) for a, b in zip(*map(tree_leaves, (found, expected)), strict=True)):
        raise TransformError(
            "model: expected forward hooks that change nothing, found another output with those of "
            f"{', '.join(hooked_parts(model))}; {_WHAT_TO_DO}."
        )


_WHAT_TO_DO = "move its computation into forward(), or remove it with remove() of the handle from register_forward_hook"


def _hooks_of(module: nn.Module) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """Yield the kind of each hook, the hook, and whether it takes the keyword arguments."""
    for key, hook in module._forward_pre_hooks.items():
        if not is_torch_made(hook):
            yield "pre-hook", hook, key in module._forward_pre_hooks_with_kwargs
    for key, hook in module._forward_hooks.items():
        yield "hook", hook, key in module._forward_hooks_with_kwargs


def _name_of(hook: object) -> str:
    return getattr(hook, "__qualname__", type(hook).__qualname__)


def _watched(hook: Callable[..., Any], named: str, before: bool) -> Callable[..., Any]:
    """Wrap a hook so that it is refused when it changes a value; arguments are passed unchanged."""

    def call(module: nn.Module, *given: Any) -> None:
        subject = given if before else given[-1]
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in tensors]
        try:
            result = hook(module, *given)
        except Exception as error:
            raise TransformError(
                f"model: {named} fails on a batch of inputs ({type(error).__name__}: {error}), so it is unknown "
                f"whether it changes a value; {_WHAT_TO_DO}."
            ) from error
        same = result is None or [*map(id, tree_leaves(result))] == [*map(id, tree_leaves(subject))]
        if not same or [tensor._version for tensor in tensors] != versions:
            raise TransformError(f"model: {named} changes {'the input' if before else 'the output'}; {_WHAT_TO_DO}.")

    return call
