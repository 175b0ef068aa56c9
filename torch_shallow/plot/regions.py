"""Pictures of the regions of a network, of two inputs or on a plane; and their polygons, without the picture."""

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

    Exact: polygons and boundary are computed, none of it is sampled. Regions are those of the trunk: activation
    regions, or what `merge` made of them; its outputs are the classes. What is not explored is hatched, and outside of
    the domain there is nothing.

    A network has classes if it has several outputs, or a sigmoid behind a single one, or if `threshold`, `class_names`,
    `labels` or `color="class"` say so. Of others, such as a regression, no boundary is drawn by default.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window. Of a network
            of visited regions the deep network is drawn.
        over: of a network of more than two inputs, the two features that the axes show, by name or number; the first
            goes to the right. A deep network is transformed on their plane alone, however many inputs it has.
        at: the values of the other features, which do not vary: one input, of shape `in_shape`, as the network reads
            it; or values by feature, in the units of `features`, such as `{"age": 50.0}`. What the domain fixes may be
            left out. Where it has values of both axes as well, these are marked by a star.
        lower: lowest inputs of the window: a number for both, or one for each. If None, the window is the domain, if it
            is a bounded one; or around the data; or around the corners of the regions, the outermost 5 % left out.
        upper: highest inputs.
        data: a batch of inputs, drawn as points; those outside of the window are outside of the picture.
        labels: the class of each row of the data.
        color: what the colour says: `"region"`, `"class"` (the largest output; of a single output, whether it is above
            the threshold), `"output"`, `"count"` (of the data) or `"none"`; if None, `"class"` where there are classes,
            else `"output"`.
        output: which one is shown by `"output"`.
        threshold: of a single output, where the class changes; 0 if None.
        boundary: draw where the class changes; if None, where there are classes.
        edges: draw the sides of the regions.
        numbers: write the number of each region.
        features: names of all inputs, and their units, in which the axes are drawn; the axes have a scale each then.
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
    """Draw the classes or the output of a network on a plane of its inputs.

    The plane goes through three inputs, or through one along two directions, or it is that of two features, while the
    others do not vary. Exact, as `regions` is, and of the trunk. A deep network of any size is transformed on the plane
    alone. Through three points, the first is at (0, 0) and the second to the right of it. Distances in the picture are
    those between inputs, but for two features with names or units, which have a scale each.

    Args:
        f: as for `regions`.
        points: three inputs, of shape `(3, *in_shape)`; they are marked.
        origin: in place of points, the input at (0, 0).
        directions: with `origin`, two directions, of shape `(2, *in_shape)`: the first goes to the right; of the
            second, what is at a right angle to the first goes up.
        over: in place of either, two features, as for `regions`.
        at: with `over`, the values of the others, as for `regions`.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is around the
            points; or the domain, if it is a bounded one; or around the data.
        upper: highest coordinates.
        data: a batch of inputs, drawn at the nearest places of the plane, however far away they are; where these lie
            outside of the window, they are outside of the picture.
        labels: as for `regions`, as for all that follow.
        color: see there, but None by default; `"count"` counts all rows in a region, on the plane or not.
        output: see there.
        threshold: see there.
        boundary: see there.
        edges: see there.
        numbers: see there.
        features: see there; with `over`.
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
    """Draw a network on a plane.

    Raises:
        TransformError: see `regions` and `slice`.
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
    """What `regions` draws of a network of two inputs, or `slice` of others, as numbers.

    Args:
        f: as for `regions`.
        points: as for `slice`; not needed for a network of two inputs, as the four that follow.
        origin: see there.
        directions: see there.
        over: see there.
        at: see there.
        lower: as for `regions` or `slice`.
        upper: likewise.
        features: names and units of all inputs, with `over`; the polygons are of inputs as the network reads them.
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
    section = Section(points, origin, directions, over, at, features)
    scene = read_scene(section.subject(f), read_window(lower, upper), section)
    above = threshold if scene.subject.network.num_outputs == 1 else None
    return scene.drawn.polygons(scene.window, by_largest=by_largest, threshold=above, tolerance=tolerance)
