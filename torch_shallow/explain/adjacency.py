"""Graph of neighbouring regions."""

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

MAX_RAYS = 100_000  # the same limit as for the vertices of a region


@outside_modes
def adjacency(shallow: object, *, max_rays: int = MAX_RAYS, tolerance: float = 1e-9) -> Graph[int]:
    """Build the graph of regions that share a facet.

    A facet has one dimension less than the inputs that vary, so regions that touch only in a corner are not neighbours.
    The graph is exact up to the tolerance. Each node is a region, with the attribute `point`: a point inside, as a
    tuple of flattened inputs. Each edge has the attributes `cut`, the cut of the tree that separates the two regions;
    `name`, that cut in words; and `neuron`, the number of the neuron that makes the cut, counted through the whole
    network, or -1 if no neuron does. Other neurons with the same hyperplane change at this facet too.

    Args:
        shallow: a complete `ShallowReLU`, or a model, which is transformed first.
        max_rays: largest number of vertices and rays that a region may have, also in intermediate steps.
        tolerance: thickness, relative to its size, below which a facet does not count.

    Returns:
        A `networkx.Graph` whose nodes are the numbers of the regions, in order.

    Raises:
        TransformError: not all regions are known, or one has more than `max_rays` vertices and rays.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.explain import adjacency
        >>> from torch import nn
        >>> graph = adjacency(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
        >>> graph.number_of_nodes(), list(graph.edges(data="neuron"))
        (2, [(0, 1, 0)])
    """
    networkx = require("networkx", "explain")
    if max_rays < 1:
        raise TransformError(f"max_rays: expected 1 or more, found {max_rays}; pass such a number, or leave it out.")
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
    """Name of a cut, such as "stage 1 neuron 3"."""
    if isinstance(tree, Partition):
        return tree.program.neuron_name(int(tree.neurons([cut])[0]))
    return f"cut {cut}"
