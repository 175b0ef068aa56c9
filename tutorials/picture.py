"""A network of many inputs, seen on a plane: its activation regions as polygons, coloured by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

import torch_shallow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#4477aa", "#ddaa33", "#bb5566")


def plane_through(points: Float[Tensor, "3 features"]) -> nn.Linear:
    """The plane through three points, as an affine map: coordinates `(s, t)` on the plane to points in space.

    Distances are kept; `(0, 0)` is the centre of the three points.
    """
    centre = points.mean(0)
    directions, _ = torch.linalg.qr((points[1:] - points[0]).T)
    plane = nn.Linear(2, points.shape[1]).requires_grad_(False)
    plane.weight.copy_(directions)
    plane.bias.copy_(centre)
    return plane


def outline(region: torch_shallow.Region) -> Float[Tensor, "vertices 2"]:
    """The vertices of a bounded region of the plane, in the order in which they go round it."""
    corners = region.vertices()
    s, t = (corners - region.interior_point).T
    return corners[torch.atan2(t, s).argsort()]


def draw_regions(axes: Axes, model: nn.Module, domain: torch_shallow.Box) -> int:
    """Draw the activation regions of a classifier with two inputs and three classes, exactly.

    Args:
        axes: where to draw.
        model: the classifier.
        domain: which part of the plane; bounded.

    Returns:
        The number of regions.
    """
    compare = nn.Linear(3, 3, bias=False).requires_grad_(False)
    compare.weight.copy_(torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]))
    # Three more ReLUs compare the classes two by two, so that each region of this network has one class.
    of_one_class = torch_shallow.transform(nn.Sequential(model, compare, nn.ReLU()), domain=domain)
    for region in of_one_class.regions:
        winner = model(region.interior_point.float()).argmax()
        axes.fill(*outline(region).T, color=COLOURS[winner], alpha=0.35, linewidth=0)
    shallow = torch_shallow.transform(model, domain=domain)
    for region in shallow.regions:
        axes.fill(*outline(region).T, facecolor="none", edgecolor="black", linewidth=0.4)
    return shallow.num_regions
