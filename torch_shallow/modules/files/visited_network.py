"""Networks of visited regions as fields of a description, and back out of tensors and a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import VisitedFunction
from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import TRUNK, VISITED, Description, WrittenGraph, below
from torch_shallow.modules.files.graph_code import FromGraph, attach, module_of
from torch_shallow.program.model import Model
from torch_shallow.program.rewriting.rewrite import STAGE
from torch_shallow.program.traced import TracedModel


def describe_visited(function: VisitedFunction) -> dict[str, Any]:
    """Fields of the description of a network; the deep network apart."""
    layouts = function.deep.traced.layouts
    return {
        "kind": VISITED,
        "num_regions": function.num_regions,
        "stages": tuple(layout.name for layout in layouts),
        "neurons": tuple(layout.num_neurons for layout in layouts),
        "stored_maps": len(function.local_models) > 0,
    }


def make_visited_network(
    make: Callable[..., Any],
    described: Description,
    tensors: Mapping[str, Tensor],
    domain: Domain,
    head: nn.Module | None,
) -> Any:
    """The network of a file, its graph read as the graph of a model is.

    Args:
        make: makes a network of a traced model and a domain, as `VisitedReLU` does.
        described: its description.
        tensors: as the layout of the description wants them.
        domain: of the network.
        head: of the network.

    Raises:
        Damaged: the tensors make no such network, or the graph has not the neurons whose patterns are stored.
    """
    if described.trunk is None:
        raise Damaged("the deep network of visited regions", "none")
    shallow = make(_read_graph(described, described.trunk, below(TRUNK, tensors), head), domain)
    found = tuple(layout.num_neurons for layout in shallow.neurons.traced.layouts)
    if found != described.neurons or shallow.trunk_shape != described.trunk_shape:
        raise Damaged(
            f"a deep network with stages of {described.neurons} neurons and output {described.trunk_shape}",
            f"{found} and {shallow.trunk_shape}",
        )
    shallow.points = tensors["points"]
    shallow.known_patterns.add([bytes(row) for row in tensors["known_patterns.packed"].numpy()])
    shallow.local_models.weights = tensors["local_models.weights"]
    shallow.local_models.biases = tensors["local_models.biases"]
    _check_patterns(shallow.function)
    return shallow


def _read_graph(
    described: Description, written: WrittenGraph, tensors: Mapping[str, Tensor], head: nn.Module | None
) -> TracedModel:
    try:
        traced = Model.of(module_of(written, tensors), in_shape=described.in_shape).traced
        names = list(described.stages)
        stages = [node for node in traced.graph.nodes if STAGE in node.meta]
        for node, name in zip(stages, names, strict=False):
            node.meta[STAGE] = name
    except TransformError as error:
        raise Damaged("the graph of a piecewise-linear network", f"one that is none ({error})") from error
    if traced.head is not None or len(stages) != len(names):
        raise Damaged(f"a graph of {len(names)} stages of ReLUs", f"{len(stages)} stages, or something behind them")
    root = FromGraph(_with_head(traced.graph, head))
    attach(root, written, tensors)
    # What reading gave other names, and what the head uses besides.
    used = [(str(node.target), traced.root) for node in traced.graph.find_nodes(op="get_attr")]
    if isinstance(head, GraphModule):
        used += [(str(node.target), head) for node in head.graph.find_nodes(op="get_attr")]
    others = {name: attrgetter(name)(module) for name, module in used if name not in written.tensors}
    attach(root, WrittenGraph([], 0, {name: [] for name in others}, {}, []), others)
    return TracedModel(root, traced.graph, described.in_shape, head)


def _with_head(trunk: Graph, head: nn.Module | None) -> Graph:
    """The graph of the whole model."""
    graph = Graph()
    result: Any = graph.graph_copy(trunk, {})
    if isinstance(head, GraphModule):
        result = graph.graph_copy(head.graph, dict.fromkeys(head.graph.find_nodes(op="placeholder"), result))
    graph.output(result)
    return graph


@torch.no_grad()
def _check_patterns(function: VisitedFunction) -> None:
    """Make sure that every stored point has its stored pattern, up to rounding."""
    for block in function.deep.blocks(function.num_regions):
        x, expected = function.points[block], function.patterns(torch.arange(block.start, block.stop))
        wrong = (function.deep.signs(x) != expected).any(1).nonzero()[:, 0]
        if len(wrong):
            found = function.deep.rounded(x[wrong])
            wrong = wrong[((found.positive != expected[wrong]) & ~found.undecided).any(1)]
        if len(wrong):
            raise Damaged(
                "each stored point to have its stored pattern in the stored network",
                f"another one in region {block.start + int(wrong[0])} and {len(wrong) - 1} more",
            )
