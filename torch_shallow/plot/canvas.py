"""Drawing of polygons in matplotlib axes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.explain.features import Features
from torch_shallow.optional import require
from torch_shallow.plot.lettering import in_lines
from torch_shallow.plot.polygons import Polygons, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's "light" scheme for areas, and his "bright" and "muted" ones for classes (sronpersonalpages.nl/~pault).
AREAS = ("#77AADD", "#EEDD88", "#99DDFF", "#FFAABB", "#BBCC33", "#EE8866", "#44BB99", "#DDDDDD")
BRIGHT = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
MUTED = ("#332288", "#CC6677", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777")
BLANK, LINE = "#FFFFFF", "#222222"


def class_colours(count: int) -> Sequence[tuple[float, float, float, float]]:
    """Colours for a number of classes."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    if count <= len(MUTED):
        return [to_rgba(colour) for colour in (BRIGHT if count <= len(BRIGHT) else MUTED)[:count]]
    return [colormaps["viridis"](share) for share in np.linspace(0.0, 1.0, count)]


def pale(colours: Iterable[Any], share: float = 0.5) -> Float[np.ndarray, "colours 4"]:
    """Colours mixed with white; transparency would show where polygons touch."""
    from matplotlib.colors import to_rgba_array

    rgba = to_rgba_array(list(colours))
    rgba[:, :3] = share * rgba[:, :3] + (1.0 - share)
    return rgba


def distinct(count: int, pairs: Int[np.ndarray, "pairs 2"]) -> Int[np.ndarray, "items"]:
    """Assign a small number to each item such that paired items have different ones; six suffice in a plane.

    The item with the fewest neighbours is removed first and numbered last (Matula & Beck 1983).
    """
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs.tolist():
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    degree = [len(some) for some in neighbours]
    queue, order, taken = [(d, item) for item, d in enumerate(degree)], [], [False] * count
    heapq.heapify(queue)
    while queue:
        d, item = heapq.heappop(queue)
        if taken[item] or d != degree[item]:
            continue
        taken[item] = True
        order.append(item)
        for other in neighbours[item]:
            if not taken[other]:
                degree[other] -= 1
                heapq.heappush(queue, (degree[other], other))
    numbers = np.full(count, -1)
    for item in reversed(order):
        used = {int(numbers[other]) for other in neighbours[item]}
        numbers[item] = next(k for k in range(count) if k not in used)
    return numbers


def axes_for(ax: Any, **options: Any) -> Any:
    """The given axes, or those of a new pyplot figure."""
    require("matplotlib", "plot")
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained", **options)[1]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Axes in which polygons of a plane are drawn.

    Attributes:
        ax: matplotlib axes.
        scale: length of one unit of the plane on the axes, for both coordinates.
        shift: position of (0, 0) on the axes.
    """

    ax: Axes
    scale: Float[np.ndarray, "2"]
    shift: Float[np.ndarray, "2"]

    @staticmethod
    def of(ax: Axes, features: Features | None = None) -> Canvas:
        """Make a canvas for two features in their units, or for a plane."""
        if features is None:
            return Canvas(ax, np.ones(2), np.zeros(2))
        ax.set_xlabel(features.names[0])
        ax.set_ylabel(features.names[1])
        return Canvas(ax, features.scale, features.mean)

    def place(self, xy: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Positions on the axes."""
        return xy * self.scale + self.shift

    def fill(self, polygons: Polygons, colours: Any) -> None:
        """Fill all polygons; unexplored ones are hatched."""
        from matplotlib.collections import PolyCollection

        outlines = [self.place(outline) for outline in polygons.outlines()]
        known = polygons.known
        # The sides are drawn too; otherwise the background would shine through between two polygons.
        filled = PolyCollection(
            [outline for outline, keep in zip(outlines, known, strict=True) if keep],
            facecolors=colours[known],
            edgecolors="face",
            linewidths=0.5,
        )
        self.ax.add_collection(filled, autolim=False)
        self.hatch([outline for outline, keep in zip(outlines, known, strict=True) if not keep])

    def hatch(self, outlines: Sequence[Float[np.ndarray, "_ 2"]]) -> None:
        """Hatch unexplored parts."""
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
        """Draw points, with a light rim that is visible on any colour."""
        style: dict[str, Any] = {"c": colours, "s": 14.0, "edgecolors": "white", "linewidths": 0.4, "zorder": 3.0}
        places = self.place(xy)
        self.ax.scatter(places[:, 0], places[:, 1], **(style | options))

    def texts(self, xy: Float[np.ndarray, "points 2"], texts: Sequence[str], beside: float = 0.0) -> None:
        """Write texts at some positions, or `beside` points away from them, on a light background."""
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
        """Explain colours by a bar beside the axes; a label longer than the bar takes several lines."""
        figure = self.ax.get_figure(root=True)
        if figure is not None:
            high = self.ax.get_window_extent().height * 72.0 / figure.dpi
            bar = figure.colorbar(mappable, ax=self.ax, ticks=ticks)
            bar.set_label(in_lines(label, bar.ax.yaxis.label.get_fontproperties(), high))

    def frame(self, window: Window, *, equal: bool) -> None:
        """Limit the axes to the window."""
        (x0, y0), (x1, y1) = np.sort(self.place(np.stack([window.lower, window.upper])), axis=0)
        self.ax.set_xlim(x0, x1)
        self.ax.set_ylim(y0, y1)
        if equal:
            self.ax.set_aspect("equal")


def inside(window: Window, xy: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, "points"]:
    """Which points are in a window."""
    return np.all((window.lower <= xy) & (xy <= window.upper), axis=1)
