"""Networks of visited regions as arrays and a graph, and back."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.modules.files.checks import check_finite
from torch_shallow.modules.files.damage import Damaged
from torch_shallow.modules.files.description import VISITED, Description
from torch_shallow.modules.files.graph.decode import FromGraph, attach, function_of, module_of
from torch_shallow.modules.files.graph.written import WrittenGraph
from torch_shallow.modules.files.layout import TRUNK
from torch_shallow.modules.visited_relu import VisitedReLU
from torch_shallow.program.reading import trace_model
from torch_shallow.program.rewriting.rewrite import STAGE
from torch_shallow.program.traced import TracedModel


def describe_visited(shallow: VisitedReLU) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fields of the description of a network, and its tensors by name; the deep network apart."""
    layouts, maps = shallow.neurons.traced.layouts, shallow.local_models
    fields = {
        "kind": VISITED,
        "num_regions": shallow.num_regions,
        "stages": tuple(layout.name for layout in layouts),
        "neurons": tuple(layout.num_neurons for layout in layouts),
        "stored_maps": len(maps) > 0,
    }
    tensors = {
        "points": shallow.points,
        "known_patterns.packed": shallow.known_patterns.packed,
        "local_models.weights": maps.weights,
        "local_models.biases": maps.biases,
    }
    return fields, tensors


def make_visited_network(
    described: Description, tensors: Mapping[str, Tensor], domain: Domain, head: nn.Module | None
) -> VisitedReLU:
    """The network of a file, its graph read as the graph of a model is.

    Args:
        described: its description.
        tensors: as the layout of the description wants them.
        domain: of the network.
        head: of the network.

    Raises:
        Damaged: the tensors make no such network, or the graph has not the neurons whose patterns are stored.
    """
    if described.trunk is None:
        raise Damaged("the deep network of visited regions", "none")
    check_finite(tensors, ("points",))
    of_trunk = {name.removeprefix(TRUNK): tensor for name, tensor in tensors.items() if name.startswith(TRUNK)}
    shallow = VisitedReLU(_read_graph(described, described.trunk, of_trunk, head), domain)
    found = tuple(layout.num_neurons for layout in shallow.neurons.traced.layouts)
    if found != described.neurons or shallow.trunk_shape != described.trunk_shape:
        raise Damaged(
            f"a deep network with stages of {described.neurons} neurons and output {described.trunk_shape}",
            f"{found} and {shallow.trunk_shape}",
        )
    shallow.points = tensors["points"]
    shallow.known_patterns.add([bytes(row) for row in tensors["known_patterns.packed"].numpy()])
    shallow.local_models.weights, shallow.local_models.biases = (
        tensors[f"local_models.{name}"] for name in ("weights", "biases")
    )
    _check_patterns(shallow)
    return shallow


def _read_graph(
    described: Description, written: WrittenGraph, tensors: Mapping[str, Tensor], head: nn.Module | None
) -> TracedModel:
    try:
        traced = trace_model(module_of(function_of(written), written, tensors), in_shape=described.in_shape)
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
def _check_patterns(shallow: VisitedReLU) -> None:
    """Make sure that every stored point has its stored pattern, up to rounding.

    Raises:
        Damaged: one has not.
    """
    for block in shallow.neurons.blocks(shallow.num_regions):
        x, expected = shallow.points[block], shallow.patterns(torch.arange(block.start, block.stop))
        wrong = (shallow.neurons.signs(x) != expected).any(1).nonzero()[:, 0]
        if len(wrong):
            found = shallow.neurons.rounded(x[wrong])
            wrong = wrong[((found.positive != expected[wrong]) & ~found.undecided).any(1)]
        if len(wrong):
            raise Damaged(
                "each stored point to have its stored pattern in the stored network",
                f"another one in region {block.start + int(wrong[0])} and {len(wrong) - 1} more",
            )
