"""Rewrite choices such as `where(h > 0, a, b)` and `h * (h > 0)` with ReLUs if they are continuous."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node, Proxy

from torch_shallow.program.graph.identify import Operation, first_argument, identify
from torch_shallow.program.graph.operations import names_of
from torch_shallow.program.graph.symbolic import value_of
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.rewriting.piecewise import WRITTEN
from torch_shallow.program.rewriting.rewrite import Writer
from torch_shallow.program.rewriting.shapes import NotRewritable
from torch_shallow.program.rewriting.sliced import Sliced

_COMPARISONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(["gt", "greater"], lambda sign: sign > 0),
    **dict.fromkeys(["ge", "greater_equal"], lambda sign: sign >= 0),
    **dict.fromkeys(["lt", "less"], lambda sign: sign < 0),
    **dict.fromkeys(["le", "less_equal"], lambda sign: sign <= 0),
    "eq": lambda sign: sign == 0,
    **dict.fromkeys(["ne", "not_equal"], lambda sign: sign != 0),
}
_SAME = names_of(
    """
    clone detach contiguous positive pos float double half bfloat16 to type type_as int long bool
    _to_copy Identity
    """
)
_ELEMENTWISE = names_of(
    """
    relu relu6 hardtanh hardsigmoid leaky_relu softshrink abs absolute clamp clip clamp_min clamp_max
    maximum minimum
    """
)


def _compare(x: Sliced, y: Sliced, wanted: Callable[[Tensor], Tensor]) -> Sliced:
    return (x - y).is_sign(wanted)


_FUNCTIONS: dict[str, Callable[..., Sliced]] = {
    **{name: partial(_compare, wanted=wanted) for name, wanted in _COMPARISONS.items()},
    **dict.fromkeys(["sign", "sgn"], Sliced.sign),
    "heaviside": lambda x, values: x.is_sign(_COMPARISONS["eq"]).choose(
        values, x.is_sign(_COMPARISONS["gt"]).choose(1.0, 0.0)
    ),
    **dict.fromkeys(["isnan", "isinf"], lambda x: x.is_sign(torch.isnan)),
    "isfinite": lambda x: x.is_sign(torch.isfinite),
    **dict.fromkeys(["logical_not", "bitwise_not", "invert"], operator.invert),
    **dict.fromkeys(["logical_and", "bitwise_and", "and"], operator.and_),
    **dict.fromkeys(["logical_or", "bitwise_or", "or"], operator.or_),
    "add": operator.add,
    **dict.fromkeys(["sub", "subtract"], operator.sub),
    "rsub": lambda x, y: y - x,
    **dict.fromkeys(["mul", "multiply"], operator.mul),
    **dict.fromkeys(["div", "divide", "true_divide", "truediv"], operator.truediv),
    **dict.fromkeys(["neg", "negative"], operator.neg),
    "where": lambda condition, x, y: condition.choose(x, y),
    ".where": lambda x, condition, y: condition.choose(x, y),
    **dict.fromkeys(["masked_fill", "setitem", "index_put"], lambda x, mask, value: mask.choose(value, x)),
}
_STARTS = frozenset({*_COMPARISONS, "sign", "sgn", "heaviside", "isnan", "isinf", "isfinite"})


def rewrite_choices(writer: Writer, behind: set[Node]) -> None:
    """Rewrite continuous choices by comparisons in place; the refusals of all others say what they lack.

    Args:
        writer: the writer of the graph.
        behind: the nodes after a head, which are left unchanged.
    """
    calls = (node for node in writer.graph.nodes if node.op.startswith("call_"))
    if any(identify(writer.root, node).name in _STARTS for node in calls):
        for expands in (False, True):
            _Choices(writer, behind, expands).resolve()


class _Choices:
    """Make one pass over a graph.

    Args:
        writer: the writer of the graph.
        behind: the nodes after a head, which are left unchanged.
        expands: whether to expand piecewise-linear operations between choices, or treat their results as given values.
    """

    def __init__(self, writer: Writer, behind: set[Node], expands: bool) -> None:
        self.writer, self.behind, self.expands = writer, behind, expands
        root, graph, accounts = self.root, self.graph, self.accounts = writer.root, writer.graph, writer.accounts
        self.jumping: dict[Node, Sliced] = {}
        self.position = {node: i for i, node in enumerate(graph.nodes)}  # without nodes written later
        self.writes = [
            (self.position[node], self._owner(first))
            for node in graph.nodes
            if node.op.startswith("call_") and identify(root, node).in_place
            if isinstance(first := first_argument(node), Node)
        ]
        self.alike: dict[str, Node] = {}
        for node in graph.nodes:
            known = node.op.startswith("call_") and node in accounts.dependent and identify(root, node).rule is not None
            if known:
                self.alike.setdefault(_key(node), node)

    def resolve(self) -> None:
        """Rewrite what can be rewritten, and explain why the rest cannot."""
        reasons: dict[Node, str] = {}
        for node in list(self.graph.nodes):
            if not node.op.startswith("call_") or node in self.behind or node not in self.accounts.dependent:
                continue
            operation = identify(self.root, node)
            chooses = operation.name in _STARTS or any(used in self.jumping for used in node.all_input_nodes)
            if not chooses or operation.name not in {*_FUNCTIONS, *_SAME, *_ELEMENTWISE}:
                continue
            try:
                f = self._evaluate(node, operation)
            except NotRewritable as reason:
                if operation.name not in _STARTS:
                    reasons[node] = str(reason)
                continue
            try:
                if not f.boolean:
                    f.kinks()
                    self._replace(node, operation, f)
                    continue
            except NotRewritable as reason:
                reasons[node] = str(reason)
            self.jumping[node] = f
        self._explain(reasons)

    def _evaluate(self, node: Node, operation: Operation) -> Sliced:
        """Return the function that a node computes."""
        if operation.name in _SAME:
            first = first_argument(node)
            whole = {torch.int32, torch.int64, torch.bool}.intersection(_dtypes(node))
            f = self._value(first, node)
            whole_name = operation.name in ("int", "long", "bool")
            if (whole or whole_name) and not f.boolean:
                raise NotRewritable("casts a value that depends on the input to integers, which rounds")
            boolean = torch.bool in whole or operation.name in ("bool", "clone", "detach", "contiguous", "Identity")
            return replace(f, boolean=f.boolean and boolean)
        if operation.name in WRITTEN:
            function = WRITTEN[operation.name]
            values = self.writer.arguments(node, operation)
            result = function(self.writer.shapes, *(self._argument(value, node) for value in values))
            return result if isinstance(result, Sliced) else Sliced.of_constant(result)
        named = [k for k in node.kwargs if k not in ("inplace", "alpha", "rounding_mode")]
        if len(named) > 1:
            raise NotRewritable("has several arguments by name; pass them by position")
        values = [*node.args, *(node.kwargs[k] for k in named)]
        if operation.name == "index_put":
            values[1] = values[1][0] if len(values[1]) == 1 else None
        found = [self._value(value, node) for value in values]
        if node.kwargs.get("alpha", 1) != 1:
            found[1] = found[1] * self._value(node.kwargs["alpha"], node)
        if node.kwargs.get("rounding_mode") is not None:
            raise NotRewritable("rounds its result, which is not continuous")
        if operation.name in ("setitem", "index_put") and not found[1].boolean:
            raise NotRewritable("writes to positions that depend on the input")
        try:
            return _FUNCTIONS[operation.name](*found)
        except TypeError as error:
            raise NotRewritable(f"has unsupported arguments ({error})") from error

    def _argument(self, value: Any, reader: Node) -> Any:
        return self._value(value, reader) if isinstance(value, Node) else value

    def _value(self, value: Any, reader: Node) -> Sliced:
        if not isinstance(value, Node):
            if not isinstance(value, bool | int | float):
                raise NotRewritable("has unsupported arguments")
            return Sliced.of_constant(value)
        if value in self.jumping:
            f = self.jumping[value]
            if any(self._overwritten(node, value, reader) for node in (*f.terms, *f.direction)):
                raise NotRewritable("reads a value that has meanwhile been overwritten in place; make a copy first")
            return f
        if value not in self.accounts.dependent:
            return Sliced.of_constant(self._constant(value))
        return self._expanded(value, reader)

    def _expanded(self, node: Node, reader: Node) -> Sliced:
        """Return a value as a function of other nodes, if it can be expanded, and otherwise as itself."""
        itself = Sliced.of_node(self._first_alike(node), len(self.writer.known(node)[0]))
        if not node.op.startswith("call_") or self._jumps_before(node):
            return itself
        operation = identify(self.root, node)
        affine = operation.name in {*_FUNCTIONS, *_SAME} - _STARTS and operation.rule is not None
        looked_into = affine or (self.expands and operation.name in _ELEMENTWISE)
        if not looked_into or operation.in_place:
            return itself
        if any(self._overwritten(used, node, reader) for used in node.all_input_nodes):
            return itself
        try:
            f = self._evaluate(node, operation)
        except NotRewritable:
            return itself
        return itself if any(self._overwritten(used, node, reader) for used in f.terms) else f

    def _first_alike(self, node: Node) -> Node:
        """Return the first node that computes the same, such as another slice of the same value."""
        first = self.alike.get(_key(node), node)
        return node if self.writes or first._erased else first

    def _jumps_before(self, node: Node) -> bool:
        return any(used in self.jumping for used in node.all_input_nodes)

    def _owner(self, node: Node) -> Node:
        return self.accounts.owner.get(node, node)

    def _overwritten(self, node: Node, since: Node, until: Node) -> bool:
        """Tell whether a value is overwritten by or after one node, and before another."""
        start, stop, owner = self.position.get(since, 0), self.position.get(until, 0), self._owner(node)
        return any(start <= place < stop and written is owner for place, written in self.writes)

    def _constant(self, node: Node) -> Any:
        """Return the value of a node that does not depend on the input, and is the same for any number of inputs."""
        shape = self.writer.known.in_shape
        with InFloat64(), torch.no_grad():
            two, three = (value_of(self.root, self.graph, node, torch.zeros(n, *shape)) for n in (2, 3))
        if isinstance(two, Tensor) and two.ndim == three.ndim:
            for axis in range(two.ndim):
                if two.shape[axis] != three.shape[axis]:
                    first, second = two.narrow(axis, 0, 1), three.narrow(axis, 0, 1)
                    if (two == first).all() and (three == second).all():
                        two, three = first, second
            if two.equal(three):
                return two
        elif isinstance(two, bool | int | float) and two == three:
            return two
        raise NotRewritable("depends on the number of inputs")

    def _replace(self, node: Node, operation: Operation, f: Sliced) -> None:
        before = node.all_input_nodes
        self.writer.replace(node, operation, partial(self._write, node, f))
        self._forget(node)
        for used in before:
            self._erase_unused(used)

    def _write(self, node: Node, f: Sliced) -> Proxy:
        """Write the function with ReLUs."""
        # A node that writes has no separate result.
        whole = node.all_input_nodes[0] if node.target is operator.setitem else node
        shape = self.writer.known(whole)[0]
        used = dict.fromkeys(
            [*(n for n, term in f.terms.items() if term[0].any()), *(f.direction if len(f.cuts) else {})]
        )
        shapes = [self.writer.known(n)[0] for n in used]
        plain = bool(shapes) and torch.broadcast_shapes(*shapes) == shape
        constant = partial(self._written_constant, plain=plain)
        base = f._slot(0)
        result = self._sum({n: base[n] for n in base if n is not None}, constant)
        if result is None:
            first = next(iter(used or f.terms or f.direction), None) or node.all_input_nodes[0]
            zero: Any = Proxy(first, self.writer)
            result = zero * 0.0
        if base[None].any() or not plain:
            result = result + constant(base[None])
        for kink in f.kinks():
            kept = (kink.slope != 0.0).double()
            u = self._sum({n: part[0] * kept for n, part in f.direction.items()}, constant)
            cut = kink.cut * kept
            z = torch.relu(u - constant(cut) if cut.any() else u)
            result = result + (z if bool((kink.slope == 1.0).all()) else constant(kink.slope) * z)
        return result

    def _sum(self, terms: dict[Any, Tensor], constant: Callable[[Tensor], Any]) -> Any:
        result: Any = None
        for node, term in terms.items():
            if term.any():
                value = Proxy(node, self.writer)
                part = value if bool((term == 1.0).all()) else value * constant(term)
                result = part if result is None else result + part
        return result

    def _written_constant(self, value: Tensor, plain: bool) -> Any:
        if value.numel() == 1 or (plain and bool((value == value.flatten()[0]).all())):
            return float(value.flatten()[0])
        return self.writer.constant(value)

    def _forget(self, node: Node) -> None:
        accounts = self.accounts
        accounts.refusals = [refusal for refusal in accounts.refusals if refusal.node is not node]
        accounts.piecewise = [(other, operation) for other, operation in accounts.piecewise if other is not node]

    def _erase_unused(self, node: Node) -> None:
        """Erase a node that is no longer needed, and the nodes that only it needed."""
        if node.users or not node.op.startswith("call_") or self._writes(node):
            return
        before = node.all_input_nodes
        self.graph.erase_node(node)
        self._forget(node)
        for used in before:
            self._erase_unused(used)

    def _writes(self, node: Node) -> bool:
        return node.op.startswith("call_") and identify(self.root, node).in_place

    def _explain(self, reasons: dict[Node, str]) -> None:
        """Record why the last nodes that choose are not rewritten."""
        ends = {node: reason for node, reason in reasons.items() if not any(user in reasons for user in node.users)}
        self.accounts.refusals = [
            replace(refusal, reason=ends.get(refusal.node, refusal.reason)) for refusal in self.accounts.refusals
        ]


def _key(node: Node) -> str:
    return f"{node.op} {node.target} {node.args} {node.kwargs}"


def _dtypes(node: Node) -> set[torch.dtype]:
    return {value for value in (*node.args, *node.kwargs.values()) if isinstance(value, torch.dtype)}
