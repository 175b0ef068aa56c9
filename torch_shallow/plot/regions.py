"""Pictures of the regions of a network, of two inputs or on a plane; and their polygons, without the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from torch_shallow.explain.features import Features
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.picture import Style, picture
from torch_shallow.plot.polygons import TOLERANCE, Polygons
from torch_shallow.plot.scene import on_plane, read_axes, read_scene, read_window, two_inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    window = read_window(lower, upper)
    scene = read_scene(two_inputs(f, data), window, data=data)
    names = read_axes(features)
    show = picture(scene, style, labels)
    ax = axes_for(ax)
    canvas = Canvas.of(ax, names)
    show(canvas)
    canvas.frame(scene.window, equal=features is None and scene.window.is_nearly_square)
    return ax


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
    window = read_window(lower, upper)
    scene = read_scene(on_plane(f, points, origin, directions), window, points, origin, directions, data)
    show = picture(scene, style, labels)
    ax = axes_for(ax)
    canvas = Canvas.of(ax)
    show(canvas)
    if scene.marks is not None:
        canvas.points(scene.marks, "#000000", s=60.0, marker="*", linewidths=0.8)
        canvas.texts(scene.marks, ["0", "1", "2"], beside=8.0)
    canvas.frame(scene.window, equal=True)
    return ax


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
    window = read_window(lower, upper)
    of_two = points is None and origin is None and directions is None
    subject = two_inputs(f) if of_two else on_plane(f, points, origin, directions)
    scene = read_scene(subject, window, points, origin, directions)
    above = threshold if subject.network.num_outputs == 1 else None
    return scene.drawn.polygons(scene.window, by_largest=by_largest, threshold=above, tolerance=tolerance)
