"""The operations that a graph in a file may have, each a pure function of tensors and numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket

_PREFIX = "aten."
# Of sizes, and of results that are tuples.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{f.__name__}": f for f in (operator.getitem, operator.add, operator.sub, operator.mul, operator.neg)},
    **{f"operator.{f.__name__}": f for f in (operator.floordiv, operator.mod)},
    **{f"torch.{f.__name__}": f for f in (torch.sym_max, torch.sym_min)},
}
# What torch.export does not decompose into core operations.
_BESIDES_CORE = frozenset(
    {
        *("aten.linalg_vector_norm.default", "aten.cumprod.default", "aten.logcumsumexp.default", "aten.median.dim"),
        *("aten.kthvalue.default", "aten.erfinv.default", "aten.lgamma.default", "aten.digamma.default"),
    }
)
# These read memory that nothing was written to, or that is not that of their argument alone.
_UNSAFE = frozenset({"aten.empty.memory_format", "aten.empty_strided.default", "aten.as_strided.default"})


def name_of(target: object) -> str | None:
    """How a file calls the operation of a node; None if files may not have it."""
    if isinstance(target, OpOverload):
        name = str(target)
        return name if operation(name) is target else None
    return next((name for name, function in _FUNCTIONS.items() if function is target), None)


def argument_names(target: Callable[..., Any]) -> set[str]:
    """The names that arguments of an operation can be given by."""
    return {argument.name for argument in target._schema.arguments} if isinstance(target, OpOverload) else set()


def operation(name: str) -> Callable[..., Any] | None:
    """The operation of a name; None if there is none that files may have.

    Of ATen, these are the core operations that are functions: that change no argument and draw no random numbers.
    """
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    packet_name, _, overload_name = name.removeprefix(_PREFIX).partition(".")
    if not name.startswith(_PREFIX) or not packet_name.isidentifier() or not overload_name.isidentifier():
        return None
    packet = getattr(torch.ops.aten, packet_name, None)
    overload = getattr(packet, overload_name, None) if isinstance(packet, OpOverloadPacket) else None
    if not isinstance(overload, OpOverload) or name in _UNSAFE or overload._schema.is_mutable:
        return None
    if torch.Tag.nondeterministic_seeded in overload.tags:
        return None
    return overload if torch.Tag.core in overload.tags or name in _BESIDES_CORE else None
