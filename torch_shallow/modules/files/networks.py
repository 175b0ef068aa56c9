"""Convert networks to fields of a description, and tensors back to networks, for trees and for visited regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from math import prod
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.tree import FreeTree, Tree
from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import (
    ACTIVATION,
    FREE,
    HEAD,
    TRUNK,
    VISITED,
    Description,
    WrittenGraph,
    below,
)
from torch_shallow.modules.files.graph_code import FromGraph, attach, module_of
from torch_shallow.program.model import Model
from torch_shallow.program.relu_program import ReLUProgram, Stage, WholeNetwork
from torch_shallow.program.rewriting.rewrite import STAGE
from torch_shallow.program.traced import TracedModel
from torch_shallow.search.affine_maps import AffineMaps
from torch_shallow.search.partition import Partition, Search


def describe_tree(function: TreeFunction) -> dict[str, Any]:
    """Return the fields that describe a network with a tree of cuts.

    Raises:
        TransformError: the network has another kind of tree, or has been given one that differs from its partition.
    """
    tree, half, chart = function.tree, function.half_spaces, function.tree.chart
    if not np.array_equal(function.indicator.tree[:, :2].cpu().numpy(), tree.children):
        raise TransformError(
            "path: expected a network that runs on the tree of its partition, found a changed indicator.tree; make a "
            "network from the changed tree, and save that."
        )
    if isinstance(function.selection, ComposedSelection):
        function.selection.require_program("path", tree, half.projection)
    fields: dict[str, Any] = {
        "kind": FREE,
        "num_regions": tree.num_regions,
        "open_cells": len(tree.open_cells),
        "dense": function.dense,
        "half_spaces": function.num_half_spaces,
        "coordinates": None if half.projection is None else len(half.projection),
        "skip": function.selection.skip is not None,
        "maps_on_demand": isinstance(function.selection, ComposedSelection),
        "chart": chart.num_coordinates,
        "walls": len(chart.inequalities),
        "chart_is_box": chart.is_box,
    }
    if isinstance(tree, FreeTree):
        return fields
    if not isinstance(tree, Partition):
        raise TransformError(
            f"path: expected a network of a Partition or a FreeTree, found a {type(tree).__name__}, which files cannot "
            "hold; save the network that it was made from."
        )
    stages, whole = tree.program.stages, tree.program.whole
    return fields | {
        "kind": ACTIVATION,
        "method": {name: int(count) for name, count in tree.method.items()},
        **asdict(tree.search),
        "merged": tree.mixed is not None,
        "stages": tuple(stage.name for stage in stages),
        "neurons": tuple(stage.num_neurons for stage in stages),
        "whole": None if whole is None else tuple(map(int, whole.sizes)),
    }


def make_tree_network(
    make: Callable[..., Any],
    described: Description,
    tensors: Mapping[str, Tensor],
    domain: Domain,
    head: nn.Module | None,
) -> Any:
    """Build the network of a file that has a tree of cuts; `make` takes a tree and maps, as `ShallowReLU` does.

    Raises:
        Damaged: the tensors do not form such a network.
    """
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith(HEAD)}
    of_tree, half, selection = (below(f"{part}.", arrays) for part in ("tree", "half_spaces", "selection"))
    half_spaces = of_tree.pop("half_spaces", None)
    _check_tree(of_tree["children"], described.num_regions)
    of_tree |= {"domain": domain, "chart": Chart(**below("chart.", arrays), is_box=described.chart_is_box)}
    tree: Tree
    if described.kind == FREE:
        tree = FreeTree(in_shape=described.in_shape, out_shape=described.trunk_shape, **of_tree)
    else:
        program = _make_program(described, arrays)
        _check_choice("the neuron of each cut", of_tree["cut_neurons"], program.num_neurons)
        search = Search(*(getattr(described, name.name) for name in fields(Search)))
        tree = Partition(program=program, method=described.method, search=search, **of_tree)
    outputs, coordinates = prod(described.trunk_shape), half["normals"].shape[1]
    rows = np.column_stack([half["normals"], half["offsets"]])
    if half_spaces is not None:
        _check_choice("the half-space of each cut", half_spaces, len(rows))
        rows = rows[half_spaces]
    maps = AffineMaps(
        projection=half.get("projection"),
        rows=rows,
        weights=selection.get("weights", np.zeros((0, outputs, coordinates))),
        biases=selection.get("biases", np.zeros((0, outputs))),
        skip=selection.get("skip"),
    )
    return make(tree, maps, dense=described.dense, head=head, store_maps=not described.maps_on_demand)


def _make_program(described: Description, arrays: Mapping[str, Any]) -> ReLUProgram:
    stages = (Stage(name, **below(f"program.{number}.", arrays)) for number, name in enumerate(described.stages))
    out, whole = (arrays["program.out.weight"], arrays["program.out.bias"]), None
    if described.whole is not None:
        whole = WholeNetwork(described.whole, **below("program.whole.", arrays))
        _check_choice("the place of each neuron in the whole network", whole.neurons, len(whole.active))
    return ReLUProgram(described.in_shape, described.trunk_shape, tuple(stages), *out, whole)


def _check_tree(children: Int[np.ndarray, "cuts 2"], num_regions: int) -> None:
    """Check that each cut and each region has one place in a tree, with cuts after their parents.

    All other places are open cells, and no cut may have only open cells below it.

    Raises:
        Damaged: the tree is invalid.
    """
    cuts = len(children)
    known, nodes = np.sort(children[children != ~num_regions]), np.arange(-num_regions, cuts)
    expected = nodes[nodes != (0 if cuts else -1)]  # the root is no child
    if num_regions < 1 or not np.array_equal(known, expected):
        found, wanted = Counter(known.tolist()), Counter(expected.tolist())
        raise Damaged(
            f"a tree with one place for each of {cuts} cuts and {num_regions} regions",
            f"children {[*(found - wanted)][:9]} too many and {[*(wanted - found)][:9]} missing",
        )
    early = np.argwhere((children >= 0) & (children <= np.arange(cuts)[:, None]))
    if len(early):
        raise Damaged("a tree, each cut after its parent", f"cut {early[0, 0]} above an earlier one or itself: a cycle")
    if len(known) < children.size:
        # Imported here because numba takes a while.
        from torch_shallow.search.compose_maps import first_regions

        first = np.empty(cuts, dtype=np.int64)
        first_regions(children, first)
        if first.max() == num_regions:
            raise Damaged("a region below each cut", f"only open cells below cut {int(first.argmax())}")


def _check_choice(what: str, chosen: Int[np.ndarray, "some"], count: int) -> None:
    """Check that all numbers are at least 0 and below `count`."""
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if len(wrong):
        raise Damaged(f"{what} to be one of {count}", f"number {int(wrong[0])}")


def describe_visited(function: VisitedFunction) -> dict[str, Any]:
    """Return the fields that describe a network of visited regions, without its deep network."""
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
    """Build the network of a file with a traced model; `make` takes that and a domain, as `VisitedReLU` does.

    Raises:
        Damaged: the tensors do not form such a network, or the graph lacks the neurons whose patterns are stored.
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
        raise Damaged("the graph of a piecewise-linear network", f"another graph ({error})") from error
    if traced.head is not None or len(stages) != len(names):
        raise Damaged(f"a graph of {len(names)} stages of ReLUs", f"{len(stages)} stages, or operations after them")
    root = FromGraph(_with_head(traced.graph, head))
    attach(root, written, tensors)
    # Tensors renamed by reading, and further ones that the head uses.
    used = [(str(node.target), traced.root) for node in traced.graph.find_nodes(op="get_attr")]
    if isinstance(head, GraphModule):
        used += [(str(node.target), head) for node in head.graph.find_nodes(op="get_attr")]
    others = {name: attrgetter(name)(module) for name, module in used if name not in written.tensors}
    attach(root, WrittenGraph([], 0, {name: [] for name in others}, {}, []), others)
    return TracedModel(root, traced.graph, described.in_shape, head)


def _with_head(trunk: Graph, head: nn.Module | None) -> Graph:
    """Join the graphs of the trunk and the head."""
    graph = Graph()
    result: Any = graph.graph_copy(trunk, {})
    if isinstance(head, GraphModule):
        result = graph.graph_copy(head.graph, dict.fromkeys(head.graph.find_nodes(op="placeholder"), result))
    graph.output(result)
    return graph


@torch.no_grad()
def _check_patterns(function: VisitedFunction) -> None:
    """Check that every stored point has its stored pattern, up to rounding."""
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
