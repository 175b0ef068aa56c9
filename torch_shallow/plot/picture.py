"""Polygons in colours: what `regions`, `slice` and `animate` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.plot.canvas import AREAS, BLANK, Canvas, class_colours, distinct, pale
from torch_shallow.plot.polygons import Polygons

COLORS = ("region", "class", "output", "count", "none")
SHADES = 256


@dataclass(frozen=True, eq=False)
class Style:
    """How polygons are drawn.

    Attributes:
        color: what the colour says: "region", "class", "output", "count" or "none".
        output: of "output".
        threshold: of a single output, where its class changes.
        boundary: draw where the class changes.
        edges: draw the sides of regions.
        numbers: write the number of each region.
        class_names: of the classes, or None for their numbers.
        colorbar: explain colours beside the axes.
        output_name: what the output is called there.
    """

    color: str
    output: int
    threshold: float
    boundary: bool
    edges: bool
    numbers: bool
    class_names: Sequence[str] | None
    colorbar: bool
    output_name: str = ""

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise TransformError(f"color: expected one of {', '.join(map(repr, COLORS))}, found {self.color!r}.")

    @property
    def has_classes(self) -> bool:
        """Whether polygons have to be cut by class."""
        return self.boundary or self.color == "class"

    def check_classes(self, count: int) -> None:
        """Make sure that each class has a name.

        Raises:
            TransformError: there are more or fewer names.
        """
        if self.class_names is not None and len(self.class_names) != count:
            raise TransformError(
                f"class_names: expected a name for each of the {count} classes, found {len(self.class_names)}."
            )

    def name(self, number: int) -> str:
        """What a class is called."""
        return f"class {number}" if self.class_names is None else str(self.class_names[number])


def draw(
    canvas: Canvas,
    polygons: Polygons,
    style: Style,
    counts: Int[np.ndarray, "regions"] | None = None,
    labels: Int[np.ndarray, "points"] | None = None,
) -> None:
    """Draw polygons.

    Args:
        canvas: where.
        polygons: what; with outputs if the style has classes.
        style: how.
        counts: rows of data in each region of the network, for the colour "count".
        labels: classes of the points that are drawn on them, for the legend.
    """
    if style.color == "output":
        _shade(canvas, polygons, style)
    elif style.color == "count" and counts is not None:
        _count(canvas, polygons, style, counts)
    elif style.color == "class" and polygons.outputs is not None:
        canvas.fill(polygons, pale(class_colours(max(2, polygons.maps.shape[1])))[polygons.outputs])
    else:
        canvas.fill(polygons, by_region(polygons) if style.color == "region" else pale([BLANK] * len(polygons)))
    if style.edges:
        canvas.lines(polygons.between(polygons.regions), thin(len(polygons)))
    if style.boundary and polygons.outputs is not None:
        segments = polygons.between(polygons.outputs, known=True)
        canvas.lines(segments, 1.8, "#000000", "decision boundary")
    if style.numbers:
        first = np.unique(polygons.regions[polygons.known], return_index=True)[1]
        shown = np.flatnonzero(polygons.known)[first]
        canvas.texts(polygons.centres[shown], [str(region) for region in polygons.regions[shown]])
    if style.colorbar:
        _legend(canvas, polygons, style, labels)


def thin(count: int) -> float:
    """How wide a line is drawn around so many polygons."""
    return min(0.5, 15.0 / count**0.5)


def by_region(polygons: Polygons) -> Float[np.ndarray, "polygons 4"]:
    """A colour for each polygon, by its region: regions that touch have different ones."""
    regions, number = np.unique(polygons.regions, return_inverse=True)
    chosen = distinct(len(regions), number[polygons.neighbours()].reshape(-1, 2))
    return pale(AREAS, 0.7)[chosen % len(AREAS)][number]


def _legend(canvas: Canvas, polygons: Polygons, style: Style, labels: Int[np.ndarray, "points"] | None) -> None:
    """Explain the colours of classes: of the areas that have them, and of points whose class no area has."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = class_colours(max(2, polygons.maps.shape[1]))
    areas, light = np.zeros(0, dtype=np.int64), pale(colours)
    if style.color == "class" and polygons.outputs is not None:
        areas = np.unique(polygons.outputs[polygons.known])
    handles: list[Any] = [Patch(facecolor=light[k], edgecolor="none", label=style.name(int(k))) for k in areas]
    for k in np.setdiff1d([] if labels is None else labels, areas).astype(np.int64):
        dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.0, "markeredgewidth": 0.0}
        handles.append(Line2D([], [], color=colours[k], label=style.name(int(k)), **dot))
    if handles:
        canvas.ax.legend(handles=handles, loc="upper right", fontsize="small")


def _shade(canvas: Canvas, polygons: Polygons, style: Style) -> None:
    """Colour by value: on each polygon the value is affine, so its levels are cut exactly, by straight lines."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator
    from matplotlib.tri import Triangulation

    known = np.flatnonzero(polygons.known)
    if not len(known):
        canvas.fill(polygons, pale([BLANK] * len(polygons)))
        return
    triangles, owner = polygons.triangles()
    middle = (polygons.centres * polygons.maps[:, style.output, :2]).sum(axis=1) + polygons.maps[:, style.output, 2]
    values = np.concatenate([polygons.values(style.output), middle])
    places = canvas.place(np.concatenate([polygons.vertices[polygons.corners], polygons.centres]))
    kept = np.isin(owner, known)
    low, high = np.nanmin(values), np.nanmax(values)
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        shade = ScalarMappable(Normalize(low - (abs(low) or 1.0), low + (abs(low) or 1.0)), colormaps["viridis"])
        canvas.fill(polygons, shade.to_rgba(np.full(len(polygons), low)))
        if style.colorbar:
            canvas.colorbar(shade, style.output_name, [low])
        return
    canvas.hatch([canvas.place(polygons.outline(int(p))) for p in np.flatnonzero(~polygons.known)])
    shown = Triangulation(places[:, 0], places[:, 1], triangles[kept])
    filled = canvas.ax.tricontourf(
        shown, np.nan_to_num(values), levels=np.linspace(low, high, SHADES + 1), cmap="viridis", antialiased=False
    )
    if style.colorbar:
        canvas.colorbar(filled, style.output_name, MaxNLocator(7))


def _count(canvas: Canvas, polygons: Polygons, style: Style, counts: Int[np.ndarray, "regions"]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows = np.where(polygons.known, counts[polygons.regions], 0)
    shade = ScalarMappable(Normalize(0, max(1, int(rows.max()))), colormaps["viridis_r"])
    colours = shade.to_rgba(rows)
    colours[rows == 0] = 1.0
    canvas.fill(polygons, colours)
    if style.colorbar:
        canvas.colorbar(shade, "rows of data (white: none)")
