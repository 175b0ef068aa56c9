"""Rewrite every piecewise-linear node of a graph into affine nodes and ReLUs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from inspect import Parameter, signature
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Proxy
from torch.fx.node import map_arg
from torch.fx.proxy import GraphAppendingTracer, TraceError

from torch_shallow.errors import TransformError
from torch_shallow.program.graph.accounting import Accounts, Refusal
from torch_shallow.program.graph.identify import Operation, first_argument, identify
from torch_shallow.program.graph.operations import PIECEWISE_MODULES, PIECEWISE_RULES, Rule
from torch_shallow.program.graph.symbolic import PLACE, value_of
from torch_shallow.program.model_copy import is_finite
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.rewriting.piecewise import WRITTEN, Bound
from torch_shallow.program.rewriting.shapes import KnownShapes, NotRewritable, Shapes

STAGE = "torch_shallow_stage"
"""Key in `node.meta` of a ReLU: the name of its stage."""


def rewrite(writer: Writer, behind: set[Node]) -> None:
    """Rewrite the piecewise-linear nodes of a graph in place; its ReLUs are then the nodes with a `meta[STAGE]`.

    Args:
        writer: the writer of the graph. What cannot be rewritten is added to the refusals of its accounts, and new
            nodes to the dependent ones.
        behind: nodes that are left unchanged because they follow a head.

    Raises:
        TransformError: the shape of the input is needed but not known.
    """
    accounts = writer.accounts
    for node, operation in accounts.piecewise:
        if node in behind:
            continue
        try:
            writer.replace(node, operation)
        except NotRewritable as reason:
            accounts.refusals.append(Refusal(node, operation.name, str(reason)))
    accounts.piecewise = [(node, operation) for node, operation in accounts.piecewise if node in behind]
    order = {node: i for i, node in enumerate(writer.graph.nodes)}
    accounts.refusals.sort(key=lambda refusal: order[refusal.node])


def attribute_of(root: nn.Module, node: Node) -> Any:
    """Return the value of a node that gets an attribute of the root or of one of its parts."""
    return attrgetter(str(node.target))(root)


class Writer(GraphAppendingTracer):
    """Write the replacement of a node in front of it.

    Args:
        root: the module from which `graph` was traced.
        graph: the graph.
        accounts: the classification of its nodes.
        known: shapes of the tensors in the graph.
    """

    def __init__(self, root: nn.Module, graph: Graph, accounts: Accounts, known: KnownShapes) -> None:
        super().__init__(graph)
        self.root, self.accounts, self.known = root, accounts, known
        self.shapes = Shapes(lambda x: known(x.node), self._constant_value)
        self.written: list[Node] = []

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Create a node, and record whether it depends on the input."""
        node = super().create_node(*args, **kwargs)
        self.written.append(node)
        if not self.accounts.dependent.isdisjoint(node.all_input_nodes):
            self.accounts.dependent.add(node)
        return node

    def replace(self, node: Node, operation: Operation, write: Callable[[], Any] | None = None) -> None:
        """Replace a node by the rewriting of its operation.

        Args:
            node: the node.
            operation: the operation of the node.
            write: function that writes the result, in place of the rewriting of the operation.

        Raises:
            NotRewritable: the operation cannot be rewritten for its arguments.
        """
        self.written = []
        try:
            with self.graph.inserting_before(node):
                result = self._write(node, operation) if write is None else self._kept(node, operation, write())
        except NotRewritable:
            self._erase_written()
            raise
        self._name_stages(node, operation)
        if isinstance(result, tuple) or _gives_indices(node, operation):
            self._replace_entries(node, operation, result if isinstance(result, tuple) else (result, None))
        else:
            self._replace_uses(node, result.node)
        if not node.users:
            self.graph.erase_node(node)

    def arguments(self, node: Node, operation: Operation) -> list[Any]:
        """Return the arguments of an operation in the order of its rule, including the attributes of a module.

        Raises:
            NotRewritable: there are unknown arguments.
        """
        given: dict[str, Any] = {**node.kwargs, **(self._attributes(node) if node.op == "call_module" else {})}
        return in_order(PIECEWISE_RULES[operation.name], WRITTEN[operation.name], node.args, given)

    def constant(self, value: Tensor) -> Proxy:
        """Add a tensor as a buffer of the root, in the precision of the model."""
        tensors = [*self.root.parameters(), *self.root.buffers()]
        like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
        number = 0
        while hasattr(self.root, name := f"torch_shallow_constant_{number}"):
            number += 1
        self.root.register_buffer(name, value.to(like))
        return Proxy(self.create_node("get_attr", name, (), {}), self)

    def _kept(self, node: Node, operation: Operation, result: Any) -> Any:
        """Return a result as the value of a node, written over its first argument if later nodes would see that."""
        if operation.in_place:
            first = first_argument(node)
            return Proxy(cast(Node, first), self).copy_(result) if self.accounts.seen_later(node) else result
        return self._own(result)

    def _write(self, node: Node, operation: Operation) -> Any:
        rule, function = PIECEWISE_RULES[operation.name], WRITTEN[operation.name]
        values = self.arguments(node, operation)
        for slot, kind in enumerate(rule.kinds):
            values[slot] = map_arg(values[slot], partial(self._value, constant=kind == "-"))
        try:
            result = function(self.shapes, *values)
        except TransformError:  # the shape of the input is not known, which is no fault of the operation
            raise
        except (IndexError, TypeError, ValueError, TraceError) as error:
            raise NotRewritable(
                f"has arguments that do not fit its input ({error}); run the model on an example to see"
            ) from error
        if operation.in_place:
            return values[0].copy_(result) if self.accounts.seen_later(node) else result
        return tuple(map(self._own, result)) if isinstance(result, tuple) else self._own(result)

    def _value(self, node: Node, constant: bool) -> Any:
        """Return an argument: a proxy, or a number if the code computes it from the shapes of tensors."""
        if node.op == "get_attr" and (bound := self._bound(node)) is not None:
            return bound
        computed = constant and node.op.startswith("call_") and node not in self.accounts.dependent
        number = self.known.number(node) if computed else None
        return Proxy(node, self) if number is None else number

    def _constant_value(self, x: Proxy) -> Tensor:
        with InFloat64(), torch.no_grad():
            return cast(Tensor, value_of(self.root, self.graph, x.node, torch.zeros(2, *self.known.in_shape)))

    def _bound(self, node: Node) -> Bound | None:
        """Return a constant with infinite entries as bounds, finite or not; None if all entries are finite."""
        value = attribute_of(self.root, node)
        if not isinstance(value, Tensor) or not value.is_floating_point() or is_finite(value.to_dense()):
            return None
        finite = value.isfinite()
        signs = {float(sign) for sign in value[~finite].sign().unique()}
        return Bound(self.constant(torch.where(finite, value, 0.0)), self.constant(finite.double()), signs)

    def _own(self, result: Proxy | None) -> Proxy | None:
        """Return a result in its own memory: the maximum of one entry is that entry, which may be overwritten later."""
        node = None if result is None else result.node
        while node in self.written and identify(self.root, node).may_share_memory:
            node = node.all_input_nodes[0]
        return result if result is None or node in self.written else result.clone()

    def _attributes(self, node: Node) -> dict[str, Any]:
        """Return the attributes of a called module that are arguments of its operation."""
        name, module = str(node.target), self.root.get_submodule(str(node.target))
        kind = next(kind for kind in type(module).__mro__ if kind in PIECEWISE_MODULES)
        found: dict[str, Any] = {}
        for attribute in PIECEWISE_MODULES[kind][1].split():
            value = getattr(module, attribute)
            found[attribute] = self.graph.get_attr(f"{name}.{attribute}") if isinstance(value, Tensor) else value
        if isinstance(module, nn.RNNBase):
            found["weights"] = [[self.graph.get_attr(f"{name}.{w}") for w in names] for names in module._all_weights]
        elif isinstance(module, nn.RNNCell):
            names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
            found["weights"] = [self.graph.get_attr(f"{name}.{w}") for w in names]
        return found

    def _name_stages(self, node: Node, operation: Operation) -> None:
        called = node.op == "call_module"
        name = str(node.target) if called else ".".join(filter(None, (module_path(node), operation.name)))
        relus = [written for written in self.written if written.target is torch.relu]
        for number, relu in enumerate(relus, start=1):
            relu.meta[STAGE] = name if len(relus) == 1 else f"{name} (part {number})"
        for written in self.written:
            written.meta[PLACE] = node.meta.get(PLACE, "")
            written.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})

    def _replace_uses(self, node: Node, by: Node) -> None:
        self.accounts.replace(node, by)
        self.known.replace(node, by)
        node.replace_all_uses_with(by)

    def _replace_entries(self, node: Node, operation: Operation, entries: tuple[Proxy | None, ...]) -> None:
        """Replace the uses of the entries of a result that is a tuple."""
        used = False
        for user in list(node.users):
            entry = _entry(user)
            proxy = entries[entry] if entry is not None and -len(entries) <= entry < len(entries) else None
            if proxy is not None:
                self._replace_uses(user, proxy.node)
                used = True
            if proxy is not None or (entry is not None and not user.users):
                self.graph.erase_node(user)
        if node.users:
            reason = "also returns positions of entries, which are not continuous; use only its values"
            self.accounts.refusals.append(Refusal(node, operation.name, reason, may_end=True))
        if not used:
            self._erase_written()

    def _erase_written(self) -> None:
        for written in reversed(self.written):
            self.graph.erase_node(written)
        self.written = []


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def in_order(rule: Rule, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments of an operation by position.

    Raises:
        NotRewritable: there are unknown arguments.
    """
    kwargs = {_NUMPY_NAMES.get(name, name): value for name, value in kwargs.items()}
    unknown = sorted(set(kwargs) - {*rule.parameters[len(args) :], "inplace"})
    if len(args) > len(rule.parameters) or unknown:
        found = ", ".join(unknown) or args[len(rule.parameters) :]
        raise NotRewritable(f"has unsupported arguments: {found}")
    values = list(args)
    for name, default in list(zip(rule.parameters, _defaults(function), strict=True))[len(args) :]:
        value = kwargs.get(name, default)
        if value is Parameter.empty:
            raise NotRewritable(f"is called without its argument {name!r}")
        values.append(value)
    return values


@cache
def _defaults(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return the defaults of the arguments by position of a function, after the first one."""
    parameters = signature(function).parameters.values()
    return tuple(p.default for p in parameters if p.kind is not Parameter.KEYWORD_ONLY)[1:]


def _gives_indices(node: Node, operation: Operation) -> bool:
    """Tell whether an operation returns values and indices by its name alone, without a requesting argument."""
    overload = isinstance(node.target, torch._ops.OpOverload) and len(node.target._schema.returns) == 2
    return overload or operation.name.endswith("_with_indices")


def _entry(user: Node) -> int | None:
    """Return the index of the entry of a tuple that a node takes."""
    if len(user.args) < 2:
        return None
    index = {"values": 0, "indices": 1}.get(str(user.args[1]), user.args[1])
    takes = getattr(user.target, "__name__", "") in ("getitem", "getattr")
    return index if takes and isinstance(index, int) else None


def module_path(node: Node) -> str:
    """Return the qualified name of the module whose forward() creates the node."""
    stack: dict[str, tuple[str, type]] = node.meta.get("nn_module_stack", {})
    return next(reversed(stack.values()))[0] if stack else ""
