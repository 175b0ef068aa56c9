"""Small things that the notebooks need for their pictures."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image as Pillow
from torch import Tensor

import torch_shallow


def outline(region: torch_shallow.Region) -> Float[Tensor, "vertices 2"]:
    """The vertices of a bounded region of the plane, in the order in which they go round it."""
    corners = region.vertices()
    s, t = (corners - region.interior_point).T
    return corners[torch.atan2(t, s).argsort()]


def show_small(figure: Figure) -> None:
    """Show a figure with 256 colours, so that a notebook stays a small file, and close it."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full)
    plt.close(figure)
    rgb = Pillow.open(full).convert("RGB")
    rgb.quantize(method=Pillow.Quantize.MAXCOVERAGE, kmeans=1).save(small, "PNG", optimize=True)
    display(Image(small.getvalue()))
