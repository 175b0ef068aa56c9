"""Which regions are neighbours, as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_shallow.errors import TransformError
from torch_shallow.explain.function import known_network
from torch_shallow.geometry.tree import Tree
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require
from torch_shallow.search.partition import Partition

if TYPE_CHECKING:
    from networkx import Graph

MAX_RAYS = 100_000  # as for the vertices of a region


@outside_modes
def adjacency(shallow: object, *, max_rays: int = MAX_RAYS, tolerance: float = 1e-9) -> Graph[int]:
    """The graph of regions that share a facet, of one dimension less than the inputs that vary.

    Exact up to the tolerance: regions that touch in a corner only are no neighbours. Each region is a node, with
    `point`: a point inside, as a tuple of flattened inputs. Each edge has the `cut` of the tree between two regions,
    its `name` in words, and the `neuron` that makes it, numbered through the whole network (-1 if none does); other
    neurons with the same hyperplane change there too.

    Args:
        shallow: a complete `ShallowReLU`, or a model, which is transformed.
        max_rays: how many vertices and rays a region may have, on the way too.
        tolerance: a facet that is thinner than this, relative to its size, is none.

    Returns:
        A `networkx.Graph`; its nodes are the numbers of the regions, in order.

    Raises:
        TransformError: not all regions are known, or one has more than `max_rays` vertices and rays.

    Example:
        >>> from torch import nn
        >>> graph = adjacency(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
        >>> graph.number_of_nodes(), list(graph.edges(data="neuron"))
        (2, [(0, 1, 0)])
    """
    networkx = require("networkx", "explain")
    if max_rays < 1:
        raise TransformError(f"max_rays: expected 1 or more, found {max_rays}.")
    network = known_network(shallow)
    tree, contacts = network.tree, network.contacts(max_rays, tolerance)
    graph: Any = networkx.Graph()
    graph.add_nodes_from((k, {"point": tuple(point)}) for k, point in enumerate(tree.interior_points().tolist()))
    for region in range(tree.num_regions):
        for contact in contacts.of(region, both=False):
            cut = last_common_cut(tree, contact.region, contact.other)
            graph.add_edge(
                contact.region, contact.other, cut=cut, neuron=int(tree.neurons([cut])[0]), name=_name(tree, cut)
            )
    return graph


def last_common_cut(tree: Tree, one: int, other: int) -> int:
    """The cut at which the paths of two regions part."""
    return next(a[0] for a, b in zip(tree.path(one), tree.path(other), strict=False) if a != b)


def _name(tree: Tree, cut: int) -> str:
    """A cut in words, such as "stage 1 neuron 3"."""
    if isinstance(tree, Partition):
        return tree.program.neuron_name(int(tree.neurons([cut])[0]))
    return f"cut {cut}"
