"""Pictures of the regions of a network over two inputs or on a plane; and their polygons, without the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torch_shallow.explain.features import Features
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.picture import Style, picture
from torch_shallow.plot.polygons import TOLERANCE, Polygons, Window
from torch_shallow.plot.scene import read_scene, read_window
from torch_shallow.plot.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def regions(
    f: object,
    *,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str | None = "region",
    output: int = 0,
    threshold: float | None = None,
    boundary: bool | None = None,
    edges: bool = True,
    numbers: bool = False,
    features: Features | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the regions of a network over two of its features, and where its class changes.

    Polygons and boundary are computed exactly; nothing is sampled. Regions are those of the trunk: activation regions,
    or the regions left by `merge`; its outputs determine the classes. Unexplored parts are hatched, and parts outside
    the domain stay empty.

    A network has classes if it has several outputs, or a sigmoid behind a single output, or if `threshold`,
    `class_names`, `labels` or `color="class"` is given. For other networks, such as regressions, no boundary is drawn
    by default.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window. For a network
            of visited regions the deep network is drawn.
        over: for a network of more than two inputs, the two features that the axes show, by name or number, the
            horizontal one first. A deep network is transformed on their plane alone, however many inputs it has.
        at: values of the other features, which do not vary: one input, of shape `in_shape`, as the network reads it; or
            values by feature, in the units of `features`, such as `{"age": 50.0}`. Features that the domain fixes may
            be left out. If both drawn features have values as well, the point is marked by a star.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is the domain,
            if it is bounded; or around the data; or around the corners of the regions, without the outermost 5 %.
        upper: highest coordinates of the window.
        data: a batch of inputs, drawn as points if they are in the window.
        labels: class of each row of the data, as integers of shape `(rows,)`.
        color: meaning of the colours: `"region"`, `"class"` (the largest output, or for a single output whether it
            exceeds the threshold), `"output"`, `"count"` (of the data) or `"none"`; if None, `"class"` where there are
            classes, else `"output"`.
        output: number of the output that `color="output"` shows.
        threshold: for a single output, the value at which the class changes; 0 if None.
        boundary: whether to draw where the class changes; if None, where there are classes.
        edges: whether to draw the sides of the regions.
        numbers: whether to write the number of each region.
        features: names of all inputs, or `Features` that also give the units in which the axes are drawn; each axis
            then has its own scale.
        class_names: a name for each class, for the legend.
        colorbar: whether to explain the colours by a bar or a legend.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, or no window can be chosen.
        ImportError: matplotlib is not installed.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.plot import regions
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> ax = regions(model, lower=-2.0, upper=2.0, color="class", ax=Figure().subplots())
        >>> ax.get_xlim() == (-2.0, 2.0)
        True
    """
    style = Style(color, output, threshold, boundary, edges, numbers, class_names, colorbar)
    section = Section(over=over, at=at, features=features)
    return _draw(f, section, style, read_window(lower, upper), data, labels, ax)


def slice(  # noqa: A001 (as a picture is called)
    f: object,
    points: Tensor | None = None,
    *,
    origin: Tensor | None = None,
    directions: Tensor | None = None,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str | None = None,
    output: int = 0,
    threshold: float | None = None,
    boundary: bool | None = None,
    edges: bool = True,
    numbers: bool = False,
    features: Features | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the classes or an output of a network on a plane of its inputs.

    The plane goes through three inputs, or through one input along two directions, or along two features while the
    others do not vary. The picture is exact, like that of `regions`, and shows the trunk. A deep network of any size is
    transformed on the plane alone. Through three points, the first is at (0, 0) and the second to the right of it.
    Distances in the picture are those between inputs, except that two features with names or units have their own
    scales.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window. For a network
            of visited regions the deep network is drawn.
        points: three inputs, of shape `(3, *in_shape)`, which are marked.
        origin: instead of points, the input at (0, 0).
        directions: with `origin`, two directions, of shape `(2, *in_shape)`: the first is horizontal, and the part of
            the second at a right angle to it is vertical.
        over: instead of points or an origin, two features, by name or number, the horizontal one first.
        at: with `over`, values of the other features: one input, of shape `in_shape`, as the network reads it; or
            values by feature, in the units of `features`, such as `{"age": 50.0}`.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is around the
            points; or the domain, if it is bounded; or around the data.
        upper: highest coordinates of the window.
        data: a batch of inputs, drawn at the nearest points of the plane, however far away they are, if these are in
            the window.
        labels: class of each row of the data, as integers of shape `(rows,)`.
        color: meaning of the colours: `"region"`, `"class"` (the largest output, or for a single output whether it
            exceeds the threshold), `"output"`, `"count"` (of the data, where all rows in a region count, on the plane
            or not) or `"none"`; if None, `"class"` where there are classes, else `"output"`.
        output: number of the output that `color="output"` shows.
        threshold: for a single output, the value at which the class changes; 0 if None.
        boundary: whether to draw where the class changes; if None, where there are classes.
        edges: whether to draw the sides of the regions.
        numbers: whether to write the number of each region.
        features: with `over`, names of all inputs, or `Features` that also give the units in which the axes are drawn.
        class_names: a name for each class, for the legend.
        colorbar: whether to explain the colours by a bar or a legend.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, the points are collinear, or the plane does not meet the domain.
        ImportError: matplotlib is not installed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch_shallow.plot import slice
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> ax = slice(model, torch.rand(3, 1, 8, 8), ax=Figure().subplots())
        >>> ax.get_aspect()
        1.0
    """
    style = Style(color, output, threshold, boundary, edges, numbers, class_names, colorbar)
    section = Section(points, origin, directions, over, at, features)
    section.check_given()
    return _draw(f, section, style, read_window(lower, upper), data, labels, ax)


def _draw(
    f: object,
    section: Section,
    style: Style,
    window: Window | None,
    data: Tensor | None,
    labels: Tensor | None,
    ax: Axes | None,
) -> Axes:
    """Draw a network on a plane, as documented for `regions` and `slice`.

    Raises:
        TransformError: an argument has a wrong value, or no window can be chosen.
    """
    scene = read_scene(section.subject(f, data), window, section, data)
    show = picture(scene, style, labels)
    ax = axes_for(ax)
    canvas = Canvas.of(ax, scene.features)
    show(canvas)
    canvas.frame(scene.window, equal=section.is_free or (section.features is None and scene.window.is_nearly_square))
    return ax


def polygons(
    f: object,
    points: Tensor | None = None,
    *,
    origin: Tensor | None = None,
    directions: Tensor | None = None,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    lower: object = None,
    upper: object = None,
    features: Features | Sequence[str] | None = None,
    by_largest: bool = True,
    threshold: float = 0.0,
    tolerance: float = TOLERANCE,
) -> Polygons:
    """Compute the polygons of a network's regions on a plane, as numbers instead of a picture.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window. For a network
            of visited regions the deep network is used.
        points: three inputs, of shape `(3, *in_shape)`, through which the plane goes. For a network of two inputs, this
            and the next four arguments are not needed.
        origin: instead of points, the input at (0, 0).
        directions: with `origin`, two directions, of shape `(2, *in_shape)`.
        over: instead of points or an origin, two features, by name or number, along which the plane goes.
        at: with `over`, values of the other features: one input, of shape `in_shape`, as the network reads it; or
            values by feature, in the units of `features`, such as `{"age": 50.0}`.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is around the
            points; or the domain, if it is bounded; or around the corners of the regions.
        upper: highest coordinates of the window.
        features: with `over`, names of all inputs, or `Features` that also give their units, for `over` and `at`; the
            polygons have coordinates of inputs as the network reads them.
        by_largest: whether to cut the polygons also by which output is the largest.
        threshold: for a single output, the value at which polygons are cut.
        tolerance: distance from a line, relative to the window, up to which a vertex counts as on it.

    Returns:
        `Polygons`: convex polygons that fill the window, with regions, maps, edges and neighbours.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, the points are collinear, the plane does not meet the domain, or
            no window can be chosen.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.plot import polygons
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> found = polygons(model, lower=-1.0, upper=1.0)
        >>> bool(abs(found.areas.sum() - 4.0) < 1e-9)
        True
    """
    section = Section(points, origin, directions, over, at, features)
    scene = read_scene(section.subject(f), read_window(lower, upper), section)
    above = threshold if scene.subject.network.num_outputs == 1 else None
    return scene.drawn.polygons(scene.window, by_largest=by_largest, threshold=above, tolerance=tolerance)
