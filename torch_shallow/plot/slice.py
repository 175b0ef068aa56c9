"""The polygons of a picture, without the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.drawn import Shown, read_subject
from torch_shallow.plot.picture import Style
from torch_shallow.plot.plane import Plane
from torch_shallow.plot.polygons import TOLERANCE, Polygons
from torch_shallow.plot.regions import draw_on, picture, two_inputs
from torch_shallow.plot.window import read_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def slice(  # noqa: A001 (as a picture is called)
    f: object,
    points: Tensor | None = None,
    *,
    origin: Tensor | None = None,
    directions: Tensor | None = None,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str = "class",
    output: int = 0,
    threshold: float = 0.0,
    boundary: bool = True,
    edges: bool = True,
    numbers: bool = False,
    class_names: Sequence[str] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the regions of a network on a plane through three inputs, or through one along two directions.

    Exact, as `regions` is, and of the trunk. A deep network of any size is transformed on the plane alone. Distances in
    the picture are those between inputs. Through three points, the first is at (0, 0) and the second to the right of
    it.

    Args:
        f: as for `regions`.
        points: three inputs, of shape `(3, *in_shape)`; they are marked.
        origin: in place of points, the input at (0, 0).
        directions: with `origin`, two directions, of shape `(2, *in_shape)`: the first goes to the right; of the
            second, what is at a right angle to the first goes up.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is around the
            points; or the domain, if it is a bounded one; or around the data.
        upper: highest coordinates.
        data: a batch of inputs, drawn at the nearest places of the plane, however far away they are; where these lie
            outside of the window, they are outside of the picture.
        labels: as for `regions`, as for all that follow.
        color: see there; `"count"` counts all rows in a region, on the plane or not.
        output: see there.
        threshold: see there.
        boundary: see there.
        edges: see there.
        numbers: see there.
        class_names: see there.
        colorbar: see there.
        ax: see there.

    Returns:
        The axes.

    Raises:
        TransformError: an argument is not as it should be, the points are in one line, or the plane does not meet the
            domain.

    Example:
        >>> from torch import nn
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> ax = slice(model, torch.rand(3, 1, 8, 8), ax=Figure().subplots())
        >>> ax.get_aspect()
        1.0
    """
    style = Style(color, output, threshold, boundary, edges, numbers, class_names, colorbar)
    asked = read_window(lower, upper)
    subject = read_subject(f, *tells_shape(points, directions))
    style = replace(style, output_name=subject.output_name(output))
    plane, marks = read_plane(subject, points, origin, directions)
    rows = None if data is None else subject.rows("data", data)
    drawn, window = draw_on(subject, plane, asked, marks, rows)
    show = picture(subject, drawn, window, style, rows, labels)
    ax = axes_for(ax)
    canvas = Canvas.of(ax)
    show(canvas)
    if marks is not None:
        canvas.points(marks, "#000000", s=60.0, marker="*", linewidths=0.8)
        canvas.texts(marks, ["0", "1", "2"], beside=8.0)
    canvas.frame(window, equal=True)
    return ax


def read_plane(
    subject: Shown, points: Tensor | None, origin: Tensor | None, directions: Tensor | None
) -> tuple[Plane, Float[np.ndarray, "3 2"] | None]:
    """The plane that is asked for, and the three points in it if they were given.

    Raises:
        TransformError: neither or both are given, or they have other shapes or span no plane.
    """
    neither = points is None and (origin is None or directions is None)
    if neither or (points is not None and not (origin is None and directions is None)):
        raise TransformError(
            "points: expected either three points, or an origin and two directions; found "
            f"points {_given(points)}, origin {_given(origin)}, directions {_given(directions)}."
        )
    if points is not None:
        rows = subject.in_fixed("points", points)
        if len(rows) != 3:
            raise TransformError(f"points: expected 3 inputs, found {len(rows)}.")
        plane = Plane.through(rows)
        return plane, plane.project(rows)
    assert origin is not None
    assert directions is not None
    if not isinstance(origin, Tensor) or tuple(origin.shape) != subject.in_shape:
        raise argument_error(origin, Tensor)(
            f"origin: expected a tensor of shape {subject.in_shape}, found one {_given(origin)}."
        )
    along = subject.rows("directions", directions)
    if len(along) != 2:
        raise TransformError(f"directions: expected 2 of them, found {len(along)}.")
    return Plane.along(subject.in_fixed("origin", origin[None])[0], along), None


def tells_shape(points: Tensor | None, directions: Tensor | None) -> tuple[Tensor | None, str]:
    """The argument that tells the shape of an input, and its name."""
    return (points, "points") if points is not None else (directions, "directions")


def _given(argument: object) -> str:
    if not isinstance(argument, Tensor):
        return "None" if argument is None else f"of type {type(argument).__name__}"
    return f"of shape {tuple(argument.shape)}"


def polygons(
    f: object,
    points: Tensor | None = None,
    *,
    origin: Tensor | None = None,
    directions: Tensor | None = None,
    lower: object = None,
    upper: object = None,
    by_largest: bool = True,
    threshold: float = 0.0,
    tolerance: float = TOLERANCE,
) -> Polygons:
    """What `regions` draws of a network of two inputs, or `slice` of others, as numbers.

    Args:
        f: as for `regions`.
        points: as for `slice`; not needed for a network of two inputs, as the two that follow.
        origin: see there.
        directions: see there.
        lower: as for `regions` or `slice`.
        upper: likewise.
        by_largest: cut the polygons by which output is the largest, too.
        threshold: of a single output, where it is cut.
        tolerance: see `tree_polygons`.

    Returns:
        Convex polygons that fill the window, with regions, maps, edges and neighbours.

    Raises:
        TransformError: as `regions` and `slice`.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> found = polygons(model, lower=-1.0, upper=1.0)
        >>> bool(abs(found.areas.sum() - 4.0) < 1e-9)
        True
    """
    asked = read_window(lower, upper)
    if points is None and origin is None and directions is None:
        subject, plane, marks = two_inputs(f), Plane.all_of_it(), None
    else:
        subject = read_subject(f, *tells_shape(points, directions))
        plane, marks = read_plane(subject, points, origin, directions)
    drawn, window = draw_on(subject, plane, asked, marks)
    above = threshold if subject.num_outputs == 1 else None
    return drawn.polygons(window, by_largest=by_largest, threshold=above, tolerance=tolerance)
