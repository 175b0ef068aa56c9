"""Classify every node of a graph as constant, affine in the input, or piecewise linear; refuse the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from torch_shallow.errors import TransformError
from torch_shallow.program.graph.identify import Operation, argument, first_argument, identify, refuse_dependent
from torch_shallow.program.graph.operations import Rule, is_decision, may_end, way_out

NORMS = {"norm": "p", "normalize": "p", "vector_norm": "ord", "linalg_vector_norm": "ord", "linalg_norm": "ord"}
"""The argument that selects the norm of an operation; it is the first one after the value."""


@dataclass(frozen=True)
class Refusal:
    """Describe a node that is not on the allow-list.

    Attributes:
        node: the node.
        operation: its operation, as the user would name it.
        reason: why it is refused, and what to do instead.
        may_end: whether it is a known operation that may end a model, such as a softmax.
        may_follow: whether it treats each input separately, so that it may follow an operation that may end a model.
    """

    node: Node
    operation: str
    reason: str
    may_end: bool = False
    may_follow: bool = False

    @property
    def is_product(self) -> bool:
        """Whether it multiplies or divides values that depend on the input."""
        return self.may_end and not may_end(self.operation)


@dataclass
class Accounts:
    """Hold the classification of the nodes of a graph; a node in neither list is affine in the input or constant.

    Attributes:
        dependent: the nodes whose values depend on the input.
        piecewise: the piecewise-linear operations on such values, in order.
        refusals: the nodes that are not on the allow-list, in order.
        owner: for each node, the node whose memory it may share.
    """

    dependent: set[Node] = field(default_factory=set)
    piecewise: list[tuple[Node, Operation]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    owner: dict[Node, Node] = field(default_factory=dict)

    def replace(self, node: Node, by: Node) -> None:
        """Record that another node has replaced a node."""
        self.owner[by] = self.owner.get(node, node)

    def behind_heads(self) -> set[Node]:
        """Return the operations that may end a model, except comparisons, and all nodes after them."""
        found = {r.node for r in self.refusals if r.may_end and not (r.is_product or is_decision(r.operation))}
        graph = next((node.graph for node in found), None)
        for node in graph.nodes if graph is not None else ():
            if not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    def seen_later(self, node: Node) -> bool:
        """Tell whether a later node reads what a node writes into its first argument, other than through its result."""
        return next(self.later_uses(node), None) is not None

    def later_uses(self, node: Node) -> Iterator[tuple[Node, Node]]:
        """Yield later nodes that read memory overwritten by a node, other than its result, and the values read."""
        first = cast(Node, first_argument(node))
        owner = self.owner.get(first, first)
        shared = {other for other, its_owner in self.owner.items() if its_owner is owner and other is not node}
        later = node.next
        while later.op != "root":
            yield from ((later, used) for used in later.all_input_nodes if used in shared)
            later = later.next


def account(root: nn.Module, graph: Graph) -> Accounts:
    """Classify all nodes in order.

    Raises:
        TransformError: the output is not one tensor.
    """
    overwritten: frozenset[Node] = frozenset()
    while True:
        ledger = _Ledger(root, set(overwritten))
        for node in graph.nodes:
            ledger.enter(node)
        if ledger.overwritten == overwritten:
            return ledger.accounts
        # A constant was overwritten by a value that depends on the input, so everything that shares its memory does,
        # too.
        overwritten = frozenset(ledger.overwritten)


class _Ledger:
    """Make one pass over the nodes of a graph."""

    def __init__(self, root: nn.Module, overwritten: set[Node]) -> None:
        self.root = root
        self.accounts = Accounts()
        self.overwritten = overwritten
        self.dependent = self.accounts.dependent
        self.owner = self.accounts.owner

    def enter(self, node: Node) -> None:
        self.owner[node] = node
        if node.op == "output":
            _check_output(node)
        elif node.op == "placeholder":
            self.dependent.add(node)
        elif node.op != "get_attr":
            self._enter_call(node)
        if self.owner[node] in self.overwritten:
            self.dependent.add(node)

    def _enter_call(self, node: Node) -> None:
        operation = identify(self.root, node)
        first = first_argument(node)
        if isinstance(first, Node) and operation.may_share_memory:
            self.owner[node] = self.owner[first]
        slots: list[tuple[int | str, Any]] = [*enumerate(node.args), *node.kwargs.items()]
        used = [slot for slot, value in slots if self._depends(value) and not _by_shape(operation.rule, slot)]
        reason, ends, follows = operation.refusal, False, False
        if isinstance(first, Node) and operation.in_place:
            reason = reason or self._overwrite(self.owner[first], bool(used))
        if used:
            self.dependent.add(node)
            follows = not reason and node.kwargs.get("out") is None
            ends = follows and (may_end(operation.name) or _is_product(operation, used))
            order = NORMS.get(operation.name)
            if order is not None and argument(node, 1, order, 2) not in (2, None, "fro"):
                reason, ends = (
                    reason or "can end a model for p=2 only; write x.abs().sum(dim) or x.abs().amax(dim)",
                    False,
                )
            reason = reason or refuse_dependent(node, operation) or _refuse_slots(operation, used)
        if reason:
            self.accounts.refusals.append(Refusal(node, operation.name, reason, ends, follows))
        elif used and operation.is_piecewise:
            self.accounts.piecewise.append((node, operation))

    def _depends(self, value: Any) -> bool:
        nodes: list[Node] = []
        map_arg(value, nodes.append)
        return any(node in self.dependent for node in nodes)

    def _overwrite(self, owner: Node, by_dependent: bool) -> str:
        if owner.op == "get_attr":
            return "changes an attribute of the model in its forward pass; use the operation that is not in place"
        if by_dependent and owner not in self.dependent:
            self.overwritten.add(owner)
        return ""


def _by_shape(rule: Rule | None, slot: int | str) -> bool:
    return rule is not None and rule.kind(slot) == "#"


def _is_product(operation: Operation, used: list[int | str]) -> bool:
    """Tell whether an operation multiplies two values that depend on the input, or divides by one."""
    if operation.rule is None:
        return operation.name in ("prod", "cumprod")
    kinds = [operation.rule.kind(slot) for slot in used]
    return kinds.count("*") > 1 or (operation.name in ("div", "divide", "true_divide", "truediv") and "-" in kinds)


def _refuse_slots(operation: Operation, used: list[int | str]) -> str:
    if operation.rule is None:
        return way_out(operation.name)
    kinds = [operation.rule.kind(slot) for slot in used]
    if "-" in kinds:
        slot = used[kinds.index("-")]
        place = f"argument {slot + 1}" if isinstance(slot, int) else f"argument {slot!r}"
        return f"depends on the input in {place}, where only a constant is affine (a divisor, an index, ...)"
    if kinds.count("*") > 1:
        return "multiplies two values that both depend on the input, which is not piecewise linear"
    return ""


def _check_output(node: Node) -> None:
    value = node.args[0]
    # torch.fx writes a NamedTuple as a call of its class.
    kind = value.target if isinstance(value, Node) and isinstance(value.target, type) else type(value)
    if not issubclass(kind, Node):
        raise TransformError(
            f"model: expected one tensor as its output, found {kind.__name__}; wrap the model in one whose forward() "
            "returns only the tensor you want."
        )
