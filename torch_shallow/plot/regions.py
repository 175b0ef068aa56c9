"""A picture of the regions of a network of two inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features, read_features
from torch_shallow.plot.canvas import LINE, Canvas, axes_for, class_colours, inside
from torch_shallow.plot.drawn import Drawn, Shown, read_subject
from torch_shallow.plot.picture import Style, draw
from torch_shallow.plot.plane import Plane
from torch_shallow.plot.polygons import Window
from torch_shallow.plot.window import choose_window, read_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SQUARE = 3.0  # windows that are not longer than this are drawn with equal units


def regions(
    f: object,
    *,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str = "region",
    output: int = 0,
    threshold: float = 0.0,
    boundary: bool = True,
    edges: bool = True,
    numbers: bool = False,
    features: Features | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the regions of a network of two inputs, and where its class changes.

    Exact: polygons and boundary are computed, none of it is sampled. Regions are those of the trunk: activation
    regions, or what `merge` made of them; its outputs are the classes. What is not explored is hatched, and outside of
    the domain there is nothing.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window. Of a network
            of visited regions the deep network is drawn.
        lower: lowest inputs of the window: a number for both, or one for each. If None, the window is the domain, if it
            is a bounded one; or around the data; or around the corners of the regions, the outermost 5 % left out.
        upper: highest inputs.
        data: a batch of inputs, drawn as points; those outside of the window are outside of the picture.
        labels: the class of each row of the data.
        color: what the colour says: `"region"`, `"class"` (the largest output; of a single output, whether it is above
            the threshold), `"output"`, `"count"` (of the data) or `"none"`.
        output: which one is shown by `"output"`.
        threshold: of a single output, where the class changes.
        boundary: draw where the class changes.
        edges: draw the sides of the regions.
        numbers: write the number of each region.
        features: names of the two inputs, and their units, in which the axes are drawn.
        class_names: one for each class, for the legend.
        colorbar: explain the colours, by a bar or a legend.
        ax: axes of matplotlib; of a new figure if None.

    Returns:
        The axes.

    Raises:
        TransformError: an argument is not as it should be, or there is nothing to tell the window.

    Example:
        >>> from torch import nn
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> ax = regions(model, lower=-2.0, upper=2.0, color="class", ax=Figure().subplots())
        >>> ax.get_xlim() == (-2.0, 2.0)
        True
    """
    style = Style(color, output, threshold, boundary, edges, numbers, class_names, colorbar)
    asked = read_window(lower, upper)
    subject = two_inputs(f, data)
    style = replace(style, output_name=subject.output_name(output))
    plane = Plane.all_of_it()
    rows = None if data is None else subject.rows("data", data)
    drawn, window = draw_on(subject, plane, asked, data=rows)
    names = None if features is None else read_features(features, 2)
    show = picture(subject, drawn, window, style, rows, labels)
    ax = axes_for(ax)
    canvas = Canvas.of(ax, names)
    show(canvas)
    size = window.upper - window.lower
    canvas.frame(window, equal=features is None and bool(size.max() <= SQUARE * size.min()))
    return ax


def two_inputs(f: object, data: Tensor | None = None) -> Shown:
    """What is drawn of a network that must have two inputs.

    Raises:
        TransformError: it has not.
    """
    subject = read_subject(f, data)
    if subject.num_inputs != 2:
        other = "plot.segment draws one input" if subject.num_inputs == 1 else "plot.slice draws a plane of them"
        raise TransformError(f"f: expected a network of two inputs, found in_shape {subject.in_shape}; {other}.")
    if isinstance(subject.domain, Box):
        lower, upper = subject.domain.bounds(subject.in_shape)
        if (lower == upper).any():
            raise TransformError(
                f"f: expected a domain in which both inputs vary, found {subject.domain!r}, which is a line or a "
                "point; plot.segment draws a line."
            )
    return subject


def draw_on(
    subject: Shown,
    plane: Plane,
    window: Window | None,
    marks: np.ndarray | None = None,
    data: np.ndarray | None = None,
) -> tuple[Drawn, Window]:
    """A network known on a plane, and the window: the one that is asked for, or one that is chosen.

    Raises:
        TransformError: there is nothing to tell the window, or a deep network cannot be transformed there.
    """
    if window is not None:
        return subject.on(plane, window), window
    try:
        window = choose_window(subject, plane, marks, None if data is None else plane.project(data))
    except TransformError:
        if subject.num_inputs != 2:
            raise
        everywhere = subject.on(plane, None)
        known = replace(subject, network=everywhere.function)
        return everywhere, choose_window(known, plane)
    return subject.on(plane, window), window


def picture(
    subject: Shown,
    drawn: Drawn,
    window: Window,
    style: Style,
    data: np.ndarray | None,
    labels: Tensor | None,
) -> Callable[[Canvas], None]:
    """What draws the polygons of a window, and data at the nearest places of the plane.

    All that can be wrong is found here, before there are axes, or a mistake would leave an empty figure behind.

    Raises:
        TransformError: the style, the data and the labels do not fit the network.
    """
    classes = max(2, subject.num_outputs)
    style.check_classes(classes)
    style = replace(style, output=subject.check_output(style.output))
    threshold = style.threshold if subject.num_outputs == 1 else None
    counts = None
    if style.color == "count":
        if data is None:
            raise TransformError('data: expected a batch of inputs to count for color="count", found None.')
        found = drawn.locate(data)
        counts = np.bincount(found[found >= 0], minlength=drawn.function.num_regions)
    polygons = drawn.polygons(window, by_largest=style.has_classes, threshold=threshold)
    if data is None:
        if labels is not None:
            raise TransformError("labels: they are classes of the rows of data, but data is None; pass data.")
        return lambda canvas: draw(canvas, polygons, style, counts)
    places = drawn.plane.project(data)
    within = inside(window, places)
    given = None if labels is None else read_labels(labels, len(data), classes)[within]

    def show(canvas: Canvas) -> None:
        draw(canvas, polygons, style, counts, given)
        canvas.points(places[within], LINE if given is None else np.array(class_colours(classes))[given])

    return show


def read_labels(labels: Tensor, rows: int, classes: int) -> Int[np.ndarray, "rows"]:
    """The class of each row.

    Raises:
        TransformError: they are no classes of so many rows.
    """
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.shape == (rows,)
    if not whole or (rows and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise argument_error(labels, Tensor)(
            f"labels: expected a class from 0 to {classes - 1} for each of the {rows} rows of data, as a tensor of "
            f"whole numbers, found {_range(labels, rows) if whole else found}."
        )
    numbers: np.ndarray = labels.to("cpu", torch.int64).numpy()
    return numbers


def _range(labels: Tensor, rows: int) -> str:
    return f"{rows} from {int(labels.min())} to {int(labels.max())}"
