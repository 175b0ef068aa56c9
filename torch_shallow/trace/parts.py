"""Which parts of a model could be transformed on their own, when the whole cannot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from torch import nn
from torch.fx import Graph, Node

from torch_shallow.trace.rewriting.rewrite import STAGE


def transformable_parts(root: nn.Module, graph: Graph, refused: set[Node]) -> list[str]:
    """The largest submodules, and slices of an `nn.Sequential`, with ReLUs and without anything refused.

    Args:
        root: the module that `graph` was traced from.
        graph: its graph, rewritten.
        refused: the nodes that are not piecewise linear.

    Returns:
        Each as one would write it, such as `"model.encoder"` or `"model.body[2:5]"`.
    """
    wrong, used = set[str](), set[str]()
    for node in graph.nodes:
        modules = _modules(node)
        if node in refused:
            wrong.update(modules)
        elif STAGE in node.meta:
            used.update(modules)
    return list(_search(root, "", wrong, used))


def _search(module: nn.Module, name: str, wrong: set[str], used: set[str]) -> Iterator[str]:
    if name in used - wrong and next(module.children(), None) is not None:
        yield _written(name)
        return
    children = [(f"{name}.{child}".lstrip("."), part) for child, part in module.named_children()]
    if not isinstance(module, nn.Sequential):
        for child, part in children:
            yield from _search(part, child, wrong, used)
        return
    for clean, run in groupby(enumerate(children), key=lambda item: item[1][0] not in wrong):
        numbered = list(run)
        if not clean:
            for _, (child, part) in numbered:
                yield from _search(part, child, wrong, used)
        elif len(numbered) == 1:
            yield from _search(numbered[0][1][1], numbered[0][1][0], wrong, used)
        elif any(child in used for _, (child, _) in numbered):
            yield f"{_written(name)}[{numbered[0][0]}:{numbered[-1][0] + 1}]"


def _modules(node: Node) -> set[str]:
    """Qualified names of all modules in whose forward() a node is made."""
    stack: dict[str, tuple[str, type]] = node.meta.get("nn_module_stack", {})
    return {path for path, _ in stack.values()} | ({str(node.target)} if node.op == "call_module" else set())


def _written(name: str) -> str:
    """A submodule as code, an index for each number."""
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in filter(None, name.split(".")))
