"""Picture of the graph of neighbouring regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.explain.adjacency import adjacency as graph_of
from torch_shallow.explain.function import known_network
from torch_shallow.functions import TreeFunction
from torch_shallow.optional import require
from torch_shallow.plot.canvas import LINE, Canvas, axes_for, class_colours, inside
from torch_shallow.plot.drawn import read_subject
from torch_shallow.plot.polygons import Plane, Window, tree_polygons
from torch_shallow.plot.scene import around, choose_window
from torch_shallow.search.partition import Partition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXTS = 100  # largest number of regions that are labelled by default


def adjacency(shallow: object, *, numbers: bool | None = None, seed: int = 0, ax: Axes | None = None) -> Axes:
    """Draw the graph of regions that share a facet.

    For a network of two inputs, each region is drawn at the centre of its part of the window, with the sides of the
    regions; the window is the domain if it is bounded, else a part of the plane large enough to meet all regions. For
    other networks, neighbours are drawn near each other. The colour of a line is the stage of the neuron that changes
    there.

    Args:
        shallow: a complete `ShallowReLU`, or a model, which is transformed first.
        numbers: whether to write the numbers of the regions; if None, only up to 100 regions.
        seed: seed for the initial layout, for networks of other than two inputs.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        TransformError: not all regions are known, or one has too many vertices and rays.
        ImportError: matplotlib or networkx is not installed.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.plot import adjacency
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> adjacency(model, ax=Figure().subplots()).get_title()
        ''
    """
    networkx = require("networkx", "plot")
    network = known_network(shallow)
    graph = graph_of(network)
    ax = axes_for(ax)
    from matplotlib.collections import LineCollection

    places = network.tree.interior_points()
    flat = places.shape[1] == 2
    if flat:
        places = _sides(ax, network, places)
    else:
        at = networkx.spring_layout(graph, seed=seed)
        places = np.array([at[region] for region in range(len(graph))])
    ends = np.array(list(graph.edges), dtype=np.int64).reshape(-1, 2)
    stages = np.array([_stage(network.tree, neuron) for *_, neuron in graph.edges(data="neuron")], dtype=np.int64)
    colours = class_colours(max(1, int(stages.max(initial=0))))
    for stage in np.unique(stages):
        label, colour = (f"stage {stage}", colours[stage - 1]) if stage else ("no neuron", "#888888")
        lines: Any = list(places[ends[stages == stage]])
        ax.add_collection(LineCollection(lines, colors=[colour], linewidths=1.2, label=label, zorder=1.0))
    many = len(graph) > TEXTS if numbers is None else not numbers
    style: dict[str, Any] = {"s": 12.0, "c": LINE} if many else {"s": 160.0, "c": "#EEEEEE", "edgecolors": LINE}
    ax.scatter(places[:, 0], places[:, 1], zorder=2.0, **style)
    if not many:
        for region, place in enumerate(places):
            ax.annotate(str(region), tuple(place), ha="center", va="center", fontsize="x-small")
    if len(stages):
        ax.legend(loc="upper right", fontsize="small")
    if not flat:
        ax.set_axis_off()
    return ax


def _sides(ax: Any, network: TreeFunction, points: Float[np.ndarray, "regions 2"]) -> Float[np.ndarray, "regions 2"]:
    """Draw the sides of the regions in a window that meets all of them.

    Returns the centre of each region's part of the window, or the interior points of the regions if there is no window.
    """
    plane = Plane.all_of_it()
    try:
        window = choose_window(read_subject(network), plane)
        polygons = tree_polygons(network, plane, window)
    except TransformError:  # one region, or an input that does not vary, so there is no window
        if not (np.ptp(points, axis=0) > 0.0).all():
            return points
        window = around(points)
        polygons = tree_polygons(network, plane, window)
    # Regions without a corner, and those with distant corners only, are met by a larger window.
    while len(np.unique(polygons.regions)) < len(points) and not inside(window, points).all():
        window = Window(window.centre - 2.0 * window.half, window.centre + 2.0 * window.half)
        polygons = tree_polygons(network, plane, window)
    canvas = Canvas.of(ax)
    canvas.lines(polygons.between(polygons.regions), 0.8, "#BBBBBB")
    canvas.frame(window, equal=False)
    places = points.copy()
    places[polygons.regions] = polygons.centres
    return places


def _stage(tree: object, neuron: int) -> int:
    """Stage of a neuron, from 1; 0 if no neuron makes the cut."""
    if neuron < 0 or not isinstance(tree, Partition):
        return 0
    return int(np.searchsorted(np.cumsum(tree.program.network.sizes), neuron, side="right")) + 1
