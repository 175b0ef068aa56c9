"""Pictures of polygons in colours, shared by `regions`, `slice` and `animate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.function import check_output
from torch_shallow.plot.canvas import AREAS, BLANK, LINE, Canvas, class_colours, distinct, inside, pale
from torch_shallow.plot.drawn import Shown
from torch_shallow.plot.polygons import Polygons
from torch_shallow.plot.scene import Scene

COLORS = ("region", "class", "output", "count", "none")
SHADES = 256


@dataclass(frozen=True, eq=False)
class Style:
    """Style of a picture of polygons.

    Attributes:
        color: meaning of the colours: "region", "class", "output", "count" or "none"; None for "class" where there are
            classes, else "output".
        output: number of the output that "output" shows.
        threshold: for a single output, the value at which its class changes; None for 0.
        boundary: whether to draw where the class changes; None for where there are classes.
        edges: whether to draw the sides of regions.
        numbers: whether to write the number of each region.
        class_names: names of the classes, or None for their numbers.
        colorbar: whether to explain the colours beside the axes.
        output_name: name of the output in that explanation.
    """

    color: str | None
    output: int
    threshold: float | None
    boundary: bool | None
    edges: bool
    numbers: bool
    class_names: Sequence[str] | None
    colorbar: bool
    output_name: str = ""

    def __post_init__(self) -> None:
        if self.color is not None and self.color not in COLORS:
            raise TransformError(
                f"color: expected one of {', '.join(map(repr, COLORS))}, found {self.color!r}; pass one of these."
            )

    @property
    def has_classes(self) -> bool:
        """Whether polygons have to be cut by class."""
        return bool(self.boundary) or self.color == "class"

    def of(self, subject: Shown, labels: Tensor | None) -> Style:
        """The style for a network, with the defaults of `regions` that depend on whether it has classes.

        Raises:
            TransformError: there is no such output.
        """
        outputs = subject.network.num_outputs
        declared = self.color == "class" or not (self.threshold is None and self.class_names is None and labels is None)
        classes = declared or outputs > 1 or subject.makes_probability
        return replace(
            self,
            color=self.color or ("class" if classes else "output"),
            output=check_output(self.output, outputs),
            threshold=0.0 if self.threshold is None else self.threshold,
            boundary=classes if self.boundary is None else self.boundary,
            output_name=subject.output_name(self.output),
        )

    def name(self, number: int) -> str:
        """Name of a class."""
        return f"class {number}" if self.class_names is None else str(self.class_names[number])


def picture(scene: Scene, style: Style, labels: Tensor | None) -> Callable[[Canvas], None]:
    """Prepare a function that draws the polygons of a scene, and its data at the nearest points of the plane.

    All errors are found here, before there are axes, because later they would leave an empty figure behind.

    Raises:
        TransformError: the style, the data or the labels do not fit the network.
    """
    drawn, data, outputs = scene.drawn, scene.data, scene.subject.network.num_outputs
    classes = max(2, outputs)
    if style.class_names is not None and len(style.class_names) != classes:
        names = len(style.class_names)
        raise TransformError(
            f"class_names: expected a name for each of the {classes} classes, found {names}; pass {classes}."
        )
    style = style.of(scene.subject, labels)
    threshold = style.threshold if outputs == 1 else None
    counts = None
    if style.color == "count":
        if data is None:
            raise TransformError('data: expected a batch of inputs to count for color="count", found None; pass data.')
        found = drawn.locate(data)
        counts = np.bincount(found[found >= 0], minlength=drawn.function.num_regions)
    polygons = drawn.polygons(scene.window, by_largest=style.has_classes, threshold=threshold)
    if data is None and labels is not None:
        raise TransformError("labels: expected None without data, whose classes they are, found some; pass data too.")
    places = np.zeros((0, 2)) if data is None else drawn.plane.project(data)
    within = inside(scene.window, places)
    given = None if labels is None else read_labels(labels, len(places), classes)[within]

    def show(canvas: Canvas) -> None:
        draw(canvas, polygons, style, counts, given)
        if data is not None:
            canvas.points(places[within], LINE if given is None else np.array(class_colours(classes))[given])
        if scene.marks is not None:
            canvas.points(scene.marks, "#000000", s=60.0, marker="*", linewidths=0.8)
            if len(scene.marks) > 1:
                canvas.texts(scene.marks, [str(k) for k in range(len(scene.marks))], beside=8.0)

    return show


def read_labels(labels: Tensor, rows: int, classes: int) -> Int[np.ndarray, "rows"]:
    """Read the class of each row.

    Raises:
        TransformError: they are not one class for each row.
    """
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.shape == (rows,)
    if not whole or (rows and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        found: object = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        if whole:
            found = f"{rows} from {int(labels.min())} to {int(labels.max())}"
        raise argument_error(labels, Tensor)(
            f"labels: expected a class from 0 to {classes - 1} for each of the {rows} rows of data, as a tensor of "
            f"integers, found {found}; correct them."
        )
    numbers: np.ndarray = labels.to("cpu", torch.int64).numpy()
    return numbers


def draw(
    canvas: Canvas,
    polygons: Polygons,
    style: Style,
    counts: Int[np.ndarray, "regions"] | None = None,
    labels: Int[np.ndarray, "points"] | None = None,
) -> None:
    """Draw polygons.

    `counts` are the numbers of rows of data in each region of the network, for the colour "count". `labels` are the
    classes of the points that are drawn on the polygons, for the legend.
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
    """Width of the lines around a given number of polygons."""
    return min(0.5, 15.0 / count**0.5)


def by_region(polygons: Polygons) -> Float[np.ndarray, "polygons 4"]:
    """A colour for each polygon by its region, different for adjacent regions."""
    regions, number = np.unique(polygons.regions, return_inverse=True)
    chosen = distinct(len(regions), number[polygons.neighbours()].reshape(-1, 2))
    return pale(AREAS, 0.7)[chosen % len(AREAS)][number]


def _legend(canvas: Canvas, polygons: Polygons, style: Style, labels: Int[np.ndarray, "points"] | None) -> None:
    """Explain the colours of classes: of those that have areas, and of points whose class has no area."""
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
    """Colour by value: the value is affine on each polygon, so its levels are cut exactly, by straight lines."""
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
