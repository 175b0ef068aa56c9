"""Read ONNX operators on single entries: arithmetic, comparisons and activations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy
from torch.nn import functional

from torch_shallow.program.onnx.value import BOOL, FLOATS, TYPES, NotRead, Value, constant_or

_PRODUCTS = frozenset(
    {
        *(torch.matmul, torch.einsum, functional.linear),
        *(functional.conv1d, functional.conv2d, functional.conv3d),
        *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
    }
)


def unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the operator that applies a function to one tensor."""
    return lambda x: function(x.tensor)


def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return the operator that applies a function to two tensors or numbers."""
    return lambda a, b: function(a.operand, b.operand)


def many(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return the operator that joins any number of tensors by a function of two."""
    return lambda *values: reduce(function, [value.operand for value in values])


def add(a: Value, b: Value) -> Any:
    for product, bias in ((a, b), (b, a)):
        follows = isinstance(product.content, Proxy) and product.content.node.target in _PRODUCTS
        if follows and bias.is_constant and bias.array.dtype != object:
            return product.tensor + bias.weight
    return a.operand + b.operand


def divide(a: Value, b: Value) -> Any:
    if a.is_integer and b.is_integer:
        return torch.div(a.operand, b.operand, rounding_mode="trunc")
    return a.operand / b.operand


def where(condition: Value, a: Value, b: Value) -> Any:
    soft = _soft_threshold(condition, a, b)
    soft = _softplus(condition, a, b) if soft is None else soft
    return torch.where(condition.tensor, a.operand, b.operand) if soft is None else soft


def _soft_threshold(condition: Value, a: Value, b: Value) -> Any:
    """Return the soft threshold of x if torch wrote it as `where(|x| > c, x - sign(x) * c, x * 0)`; otherwise None."""
    shrunk = _call(a.content, operator.sub)
    outside, product = _call(condition.content, torch.gt), _call(shrunk and shrunk[1], operator.mul)
    inside = _call(b.content, operator.mul)
    if not (shrunk and outside and product and inside and isinstance(a.content, Proxy)):
        return None
    x, (signs, cut) = shrunk[0], product
    same = _call(outside[0], torch.abs) == (x,) == _call(signs, torch.sign) and outside[1] is cut and inside[0] is x
    if not same or _number(a, inside[1]) != 0.0 or (bound := _number(a, cut)) is None or bound < 0.0:
        return None
    tensor: Any = Proxy(x, a.writer)
    return functional.softshrink(tensor, bound)


def _softplus(condition: Value, a: Value, b: Value) -> Any:
    """Return the softplus of x if torch wrote it as `where(s * x > c, x, softplus(s * x) / s)`; otherwise None."""
    compared, quotient = _call(condition.content, torch.gt), _call(b.content, operator.truediv)
    if not compared or not isinstance(a.content, Proxy) or not isinstance(b.content, Proxy):
        return None
    (scaled, cut), x = compared, a.content.node
    plus, slope = quotient or (b.content.node, None)
    number, bound = 1.0 if slope is None else _number(a, slope), _number(a, cut)
    same = scaled is x if slope is None else _call(scaled, operator.mul) == (x, slope)
    if _call(plus, functional.softplus) != (scaled,) or not same or not number or bound is None:
        return None
    return functional.softplus(a.tensor, number, bound)


def _call(of: Any, function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """Return the arguments of a call of a function, if a value is such a call."""
    node = of.node if isinstance(of, Proxy) else of
    return tuple(node.args) if getattr(node, "target", None) is function else None


def _number(value: Value, node: Any) -> float | None:
    """Return the only entry of a constant of the module, if a node is such a constant."""
    if getattr(node, "op", "") != "get_attr":
        return None
    tensor = getattr(value.writer.root, node.target)
    return tensor.item() if tensor.numel() == 1 else None


def cast_like(x: Value, like: Value, *, saturate: int = 1, round_mode: str = "up") -> Any:
    number = next((number for number, kind in TYPES.items() if kind == like.kind), 0)
    return _as_type(x, number)


def _as_type(x: Value, number: int) -> Any:
    if number == BOOL:
        return x.tensor if x.kind is torch.bool else torch.ne(x.tensor, 0)
    if number not in TYPES:
        raise NotRead(f"creates values of type number {number}, which is neither a floating-point nor an integer type")
    whole = x.is_integer or x.kind is torch.bool or number in FLOATS
    # Rounding towards zero is not piecewise linear, so it is a separate operation that can be refused.
    return (x.tensor if whole else torch.trunc(x.tensor)).to(TYPES[number])


def clip(x: Value, low: Value | None = None, high: Value | None = None) -> Any:
    if low is None and high is None:
        return x.tensor
    return torch.clamp(x.tensor, _bound(low), _bound(high))


def _bound(value: Value | None) -> Any:
    return None if value is None else value.number if value.is_constant else value.tensor


def shrink(x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    if bias == lambd:
        return functional.softshrink(x.tensor, lambd)
    if bias == 0.0:
        return functional.hardshrink(x.tensor, lambd)
    raise NotRead(f"jumps, as its bias {bias} differs from its lambd {lambd}; make both the same")


def hardmax(x: Value, *, axis: int = -1) -> Any:
    place = torch.argmax(x.tensor, axis, keepdim=True)
    return torch.zeros_like(x.tensor).scatter(axis, place, 1.0)


def dropout(x: Value, ratio: Value | None = None, training: Value | None = None, *, seed: int = 0) -> Any:
    if constant_or(training, False):
        raise NotRead("is in training mode; export the model in eval mode")
    return x.tensor


_SELU = (1.67326319217681884765625, 1.05070102214813232421875)  # alpha and gamma
_SAME_NAME = """
    Abs Neg Sigmoid Tanh Exp Log Sqrt Sign Floor Ceil Round Reciprocal Erf
    Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh
    """

ENTRYWISE: dict[str, Callable[..., Any]] = {
    **{name: unary(getattr(torch, name.lower())) for name in _SAME_NAME.split()},
    "Add": add,
    "And": binary(torch.logical_and),
    "Cast": lambda x, *, to, saturate=1, round_mode="up": _as_type(x, to),
    "CastLike": cast_like,
    "Celu": lambda x, *, alpha=1.0: functional.celu(x.tensor, alpha),
    "Clip": clip,
    "Div": divide,
    "Dropout": dropout,
    "Elu": lambda x, *, alpha=1.0: functional.elu(x.tensor, alpha),
    "Equal": binary(torch.eq),
    "Gelu": lambda x, *, approximate="none": functional.gelu(x.tensor, approximate=approximate),
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x.tensor + beta, 0.0, 1.0),
    "HardSwish": unary(functional.hardswish),
    "Hardmax": hardmax,
    "Identity": lambda x: x.content if isinstance(x.content, list) else x.tensor,
    "IsInf": unary(torch.isinf),
    "IsNaN": unary(torch.isnan),
    "LeakyRelu": lambda x, *, alpha=0.01: functional.leaky_relu(x.tensor, alpha),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "LogSoftmax": lambda x, *, axis=-1: torch.log_softmax(x.tensor, axis),
    "Max": many(torch.maximum),
    "Mean": lambda *values: many(operator.add)(*values) / len(values),
    "Min": many(torch.minimum),
    "Mish": unary(functional.mish),
    "Mod": lambda a, b, *, fmod=0: (torch.fmod if fmod else torch.remainder)(a.operand, b.operand),
    "Mul": binary(operator.mul),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "PRelu": lambda x, slope: slope.weight * x.tensor + (1 - slope.weight) * torch.relu(x.tensor),
    "Pow": binary(torch.pow),
    "Relu": lambda x: x.writer.call(nn.ReLU(), x.tensor),
    "Selu": lambda x, *, alpha=_SELU[0], gamma=_SELU[1]: gamma * functional.elu(x.tensor, alpha),
    "Shrink": shrink,
    "Softmax": lambda x, *, axis=-1: torch.softmax(x.tensor, axis),
    "Softplus": unary(functional.softplus),
    "Softsign": unary(functional.softsign),
    "Sub": binary(operator.sub),
    "Sum": many(operator.add),
    "Swish": lambda x, *, alpha=1.0: x.tensor * torch.sigmoid(alpha * x.tensor),
    "ThresholdedRelu": lambda x, *, alpha=1.0: functional.threshold(x.tensor, alpha, 0.0),
    "Where": where,
    "Xor": binary(torch.logical_xor),
}
