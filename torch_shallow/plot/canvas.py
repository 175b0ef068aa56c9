"""Axes of matplotlib, and how polygons are drawn in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.explain.features import Features
from torch_shallow.explain.optional import require
from torch_shallow.plot.colours import BLANK, LINE
from torch_shallow.plot.polygons import Polygons, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes_for(ax: Any, **options: Any) -> Any:
    """The axes that are given, or those of a new figure of pyplot."""
    require("matplotlib", "plot")
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained", **options)[1]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where polygons of a plane are drawn.

    Attributes:
        ax: axes of matplotlib.
        scale: how much one unit of the plane is on the axes.
        shift: where (0, 0) is.
    """

    ax: Axes
    scale: Float[np.ndarray, "2"]
    shift: Float[np.ndarray, "2"]

    @staticmethod
    def of(ax: Axes, features: Features | None = None) -> Canvas:
        """A canvas for two features, in their units; or for a plane."""
        if features is None:
            return Canvas(ax, np.ones(2), np.zeros(2))
        ax.set_xlabel(features.names[0])
        ax.set_ylabel(features.names[1])
        return Canvas(ax, features.scale, features.mean)

    def place(self, xy: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Places on the axes."""
        return xy * self.scale + self.shift

    def fill(self, polygons: Polygons, colours: Any, **options: Any) -> Any:
        """Fill all polygons; those that are not explored are hatched. Returns the collection of matplotlib."""
        from matplotlib.collections import PolyCollection

        outlines = [self.place(outline) for outline in polygons.outlines()]
        known = polygons.known
        # The sides are drawn too, or the background would shine through between two polygons.
        filled = PolyCollection(
            [outline for outline, keep in zip(outlines, known, strict=True) if keep],
            facecolors=colours[known],
            edgecolors="face",
            linewidths=0.5,
            **options,
        )
        self.ax.add_collection(filled, autolim=False)
        self.hatch([outline for outline, keep in zip(outlines, known, strict=True) if not keep])
        return filled

    def hatch(self, outlines: Sequence[Float[np.ndarray, "_ 2"]]) -> None:
        """Draw what is not explored."""
        from matplotlib.collections import PolyCollection

        if outlines:
            hatched = PolyCollection(outlines, facecolors=BLANK, edgecolors="#888888", hatch="///", linewidths=0.5)
            hatched.set_label("not explored")
            self.ax.add_collection(hatched, autolim=False)

    def lines(
        self, segments: Float[np.ndarray, "segments 2 2"], width: float, colour: str = LINE, label: str = ""
    ) -> None:
        """Draw lines."""
        from matplotlib.collections import LineCollection

        style: dict[str, Any] = {"colors": colour, "linewidths": width, "capstyle": "round"}
        self.ax.add_collection(LineCollection(list(self.place(segments)), label=label or None, **style), autolim=False)

    def points(self, xy: Float[np.ndarray, "points 2"], colours: Any = LINE, **options: Any) -> None:
        """Draw points, with a light rim that is seen on any colour."""
        style: dict[str, Any] = {"c": colours, "s": 14.0, "edgecolors": "white", "linewidths": 0.4, "zorder": 3.0}
        places = self.place(xy)
        self.ax.scatter(places[:, 0], places[:, 1], **(style | options))

    def texts(self, xy: Float[np.ndarray, "points 2"], texts: Sequence[str], beside: float = 0.0) -> None:
        """Write something at some places, or so many points beside them, on a light ground."""
        ground = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
        for place, text in zip(self.place(xy), texts, strict=True):
            self.ax.annotate(
                text,
                tuple(place),
                xytext=(beside, beside),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize="small",
                bbox=ground,
                annotation_clip=True,
            )

    def colorbar(self, mappable: Any, label: str, ticks: Any = None) -> None:
        """Explain colours by a bar beside the axes."""
        figure = self.ax.get_figure(root=True)
        if figure is not None:
            figure.colorbar(mappable, ax=self.ax, label=label, ticks=ticks)

    def frame(self, window: Window, *, equal: bool) -> None:
        """Show the window and no more."""
        (x0, y0), (x1, y1) = np.sort(self.place(np.stack([window.lower, window.upper])), axis=0)
        self.ax.set_xlim(x0, x1)
        self.ax.set_ylim(y0, y1)
        if equal:
            self.ax.set_aspect("equal")


def inside(window: Window, xy: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, "points"]:
    """Which places are in a window."""
    return np.all((window.lower <= xy) & (xy <= window.upper), axis=1)
