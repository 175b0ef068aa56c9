"""Identify the operation of a node of a graph."""

from __future__ import annotations

import builtins
import math
import operator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.utils.parametrize import is_parametrized

from torch_shallow.program.graph.operations import (
    AFFINE_MODULES,
    ATEN_RULES,
    DROPOUTS,
    PIECEWISE_MODULES,
    PIECEWISE_RULES,
    RULES,
    RUNNING_NORMS,
    VIEW_MODULES,
    Rule,
)

_NAMESPACES = (
    torch,
    nn.functional,
    operator,
    Tensor,
    builtins,
    math,
    torch._C._nn,
    *(torch.linalg, torch.sparse, torch.special),
)
_INPUT, _VIEW = Rule.parse("input"), Rule.parse("=input")
_AUGMENTED = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv})
_RANDOM = "is in train mode, where its result is random; call model.eval() first"
# Position and default of the argument that puts a function into train mode.
_TRAINING_ARGUMENT = {
    **dict.fromkeys(["dropout", "dropout1d", "dropout2d", "dropout3d"], (2, True)),
    **dict.fromkeys(["alpha_dropout", "feature_alpha_dropout", "feature_dropout"], (2, False)),
    "batch_norm": (5, False),
    "instance_norm": (5, True),
    "rrelu": (3, False),
}


@dataclass(frozen=True)
class Operation:
    """Describe what a node does.

    Attributes:
        name: name of the operation in `operations.RULES`, or the class of the called module.
        rule: how it may depend on the input; None if it is not on the allow-list.
        is_piecewise: whether `operations.PIECEWISE_RULES` contains its name.
        in_place: whether it overwrites its first argument.
        refusal: why it is refused even for values that do not depend on the input; empty if it is not.
    """

    name: str
    rule: Rule | None
    is_piecewise: bool = False
    in_place: bool = False
    refusal: str = ""

    @property
    def may_share_memory(self) -> bool:
        """Whether the result may be a view of the first argument, or that argument itself."""
        return self.in_place or (self.rule is not None and self.rule.kinds[0] == "=")


def _not_looked_into(function: object) -> str:
    """Explain why a function of a graph that is not torch's is refused."""
    if str(getattr(function, "__module__", "")).startswith("torch_shallow"):
        return "belongs to a network of this package, which cannot be read; use the deep model in its place"
    return "is a function that torch.fx cannot trace into; write it with functions of torch"


def identify(root: nn.Module, node: Node) -> Operation:
    """Return the operation of a node that calls a module, a function or a method."""
    if node.op == "call_module":
        return _identify_module(root.get_submodule(str(node.target)))
    if isinstance(node.target, str):
        name = node.target.strip("_") if node.target.startswith("__") else node.target
    elif isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
        name = node.target._schema.name.removeprefix("aten::")
    else:
        name = getattr(node.target, "__name__", str(node.target))
        spellings = {name, *(name.removeprefix(prefix) for prefix in ("_sparse_", "linalg_", "special_"))}
        if not any(getattr(space, one, None) is node.target for space in _NAMESPACES for one in spellings):
            return Operation(name, None, refusal=_not_looked_into(node.target))
        if node.target is getattr:
            name = f".{node.args[1]}"
    augmented = node.target in _AUGMENTED
    in_place = augmented or node.target is operator.setitem or name.endswith("_") or bool(node.kwargs.get("inplace"))
    in_place = in_place and node.target not in (operator.and_, operator.or_, operator.not_)
    name = name[1:] if augmented else name.rstrip("_")
    name = "threshold" if name == "_threshold" else name  # the function behind nn.functional.threshold
    if name == "where" and node.op == "call_method":
        name = ".where"  # the method takes its arguments in another order
    if name == "relu":
        in_place = in_place or bool(argument(node, 1, "inplace"))
    if name in ("max", "min") and ("other" in node.kwargs or isinstance(argument(node, 1, "dim"), Node)):
        name += "imum"
    if name in PIECEWISE_RULES:
        refusal = _refuse_random(node, name)
        return Operation(name, PIECEWISE_RULES[name], is_piecewise=True, in_place=in_place, refusal=refusal)
    return Operation(
        name, RULES.get(name) or ATEN_RULES.get(name), in_place=in_place, refusal=_refuse_random(node, name)
    )


def _identify_module(module: nn.Module) -> Operation:
    # A parametrised module (weight_norm, ...) has its own class, derived from the original one.
    kind = type(module).__mro__[1] if is_parametrized(module) else type(module)
    name = kind.__name__
    if ".quantized." in kind.__module__:
        refusal = "is quantised and rounds its values; pass the model as it was before quantisation"
        return Operation(f"{kind.__module__}.{name}", None, refusal=refusal)
    if issubclass(kind, tuple(PIECEWISE_MODULES)):
        random = module.training and (isinstance(module, nn.RReLU) or bool(getattr(module, "dropout", False)))
        operation = next(PIECEWISE_MODULES[parent][0] for parent in kind.__mro__ if parent in PIECEWISE_MODULES)
        return Operation(
            operation,
            PIECEWISE_RULES[operation],
            is_piecewise=True,
            in_place=bool(getattr(module, "inplace", False)),
            refusal=_RANDOM if random else "",
        )
    if issubclass(kind, (*VIEW_MODULES, *DROPOUTS)):
        random = issubclass(kind, DROPOUTS) and module.training and bool(module.p)
        return Operation(name, _VIEW, refusal=_RANDOM if random else "")
    if issubclass(kind, RUNNING_NORMS):
        refusal = ""
        if module.training:
            refusal = "is in train mode, where it divides by a statistic of its input; call model.eval() first"
        elif module.running_mean is None:
            refusal = "has no running statistics and divides by one of its input; set track_running_stats=True"
        return Operation(name, _INPUT, refusal=refusal)
    if issubclass(kind, nn.Bilinear):
        return Operation(name, RULES["bilinear"])
    return Operation(name, _INPUT if issubclass(kind, AFFINE_MODULES) else None)


def _refuse_random(node: Node, name: str) -> str:
    training = _TRAINING_ARGUMENT.get(name)
    if training is not None:
        position, default = training
        word = "use_input_stats" if name == "instance_norm" else "training"
        if argument(node, position, "train" if node.target is getattr(torch, name, None) else word, default):
            return f"has {word}=True; call model.eval() first and pass {word}=self.training"
        return ""
    if not _draws(name):
        return ""
    return "draws random numbers, so the model is not a function; draw them once and keep them in a buffer"


@cache
def _draws(name: str) -> bool:
    """Tell whether an operation of torch with this name draws random numbers."""
    packets = (getattr(torch.ops.aten, spelling, None) for spelling in (name, name + "_"))
    return any(
        torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags
        for packet in packets
        if packet is not None
        for overload in packet.overloads()
    )


def refuse_dependent(node: Node, operation: Operation) -> str:
    """Explain why an allowed operation is refused for values that depend on the input; empty if it is not."""
    if operation.name in ("div", "divide") and node.kwargs.get("rounding_mode") is not None:
        return "rounds its result, which is not continuous"
    if node.kwargs.get("reduce") == "multiply":
        return "multiplies values that depend on the input, which is not piecewise linear"
    if node.kwargs.get("out") is not None:
        return "writes into the tensor out=...; use its result instead"
    for value in (*node.args, *node.kwargs.values()):
        if isinstance(value, torch.dtype) and not value.is_floating_point:
            return f"casts to {value}, which rounds; stay in floating point"
    return ""


def first_argument(node: Node) -> object:
    """Return what a calling node works on, and overwrites if it is in place."""
    return argument(node, 0, "input", next(iter(node.kwargs.values()), None))


def argument(node: Node, position: int, name: str, default: object = None) -> object:
    """Return an argument of a node, given by position or by name, or the default if it is not given."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)
