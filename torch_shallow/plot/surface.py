"""Surface of a network's output over two inputs, or over a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features
from torch_shallow.explain.function import check_output
from torch_shallow.optional import require
from torch_shallow.plot.canvas import axes_for
from torch_shallow.plot.picture import by_region, thin
from torch_shallow.plot.polygons import Polygons
from torch_shallow.plot.scene import read_scene, read_window
from torch_shallow.plot.section import Section

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D
    from plotly.graph_objects import Figure


def surface(
    f: object,
    points: Tensor | None = None,
    *,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    lower: object = None,
    upper: object = None,
    output: int = 0,
    color: str = "output",
    edges: bool = True,
    features: Features | Sequence[str] | None = None,
    engine: str = "matplotlib",
    ax: Axes3D | None = None,
) -> Axes3D | Figure:
    """Draw an output of a network over two inputs as an exact surface, with a flat polygon for each region.

    Regions and outputs are those of the trunk. Unexplored parts are left out.

    Args:
        f: a `ShallowReLU`, complete or not, or its trunk; or a model, which is transformed in the window.
        points: for a network of more than two inputs, three inputs, of shape `(3, *in_shape)`; the surface is drawn
            over the plane through them.
        over: for a network of more than two inputs, two features that the axes show, by name or number.
        at: values of the other features, which do not vary: one input, of shape `in_shape`, as the network reads it; or
            values by feature, in the units of `features`, such as `{"age": 50.0}`.
        lower: lowest coordinates of the window: a number for both, or one for each. If None, the window is around the
            points; or the domain, if it is bounded; or around the corners of the regions.
        upper: highest coordinates of the window.
        output: number of the output.
        color: meaning of the colours: `"output"` or `"region"`.
        edges: whether to draw the sides of the regions.
        features: names of all inputs, or `Features` that also give the units in which the axes are drawn; not with
            `points`.
        engine: `"matplotlib"`, or `"plotly"` for a figure that can be rotated and shows each region and its map.
        ax: matplotlib axes with `projection="3d"`; those of a new figure if None. Not with plotly.

    Returns:
        The axes, or the plotly figure.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, no window can be chosen, or nothing in the window is explored.
        ImportError: matplotlib or plotly is not installed.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.plot import surface
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> ax = surface(model, lower=-1.0, upper=1.0, ax=Figure().add_subplot(projection="3d"))
        >>> len(ax.collections)
        1
    """
    window = read_window(lower, upper)
    if color not in ("output", "region"):
        raise TransformError(f'color: expected "output" or "region", found {color!r}; pass one of these.')
    if engine not in ("matplotlib", "plotly"):
        raise TransformError(f'engine: expected "matplotlib" or "plotly", found {engine!r}; pass one of these.')
    section = Section(points, over=over, at=at, features=features)
    scene = read_scene(section.subject(f), window, section)
    name = scene.subject.output_name(output)
    output = check_output(output, scene.subject.network.num_outputs)
    polygons = scene.drawn.polygons(scene.window)
    if not polygons.known.any():
        raise TransformError(
            "f: expected a network with explored regions in the window, found none; go on with shallow.resume(model)."
        )
    if engine == "plotly":
        if ax is not None:
            raise TransformError(
                "ax: expected None with plotly, which makes its own figure, found axes; leave it out, or pass "
                'engine="matplotlib".'
            )
        return _plotly(polygons, output, name, color, edges, scene.features)
    ax = axes_for(ax, subplot_kw={"projection": "3d"})
    return _matplotlib(ax, polygons, output, name, color, edges, scene.features)


def lifted(polygons: Polygons, output: int, features: Features | None) -> np.ndarray:
    """Corners of the polygons on the surface: two inputs and the output."""
    xy = polygons.vertices[polygons.corners]
    xy = xy if features is None else features.unscale(xy)
    return np.column_stack([xy, polygons.values(output)])


def _matplotlib(
    ax: Any, polygons: Polygons, output: int, name: str, color: str, edges: bool, features: Features | None
) -> Axes3D:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    if not hasattr(ax, "set_zlim"):
        raise WrongTypeError('ax: expected axes of three dimensions, found others; make them with projection="3d".')
    corners, known = lifted(polygons, output, features), polygons.known
    faces = [face for face, keep in zip(np.split(corners, polygons.starts[1:-1]), known, strict=True) if keep]
    height = np.array([face[:, 2].mean() for face in faces])
    shades = by_region(polygons)[known] if color == "region" else colormaps["viridis"](Normalize()(height))
    line: dict[str, Any] = (
        {"edgecolors": "#222222", "linewidths": thin(len(faces))}
        if edges
        else {"edgecolors": "face", "linewidths": 0.2}
    )
    ax.add_collection3d(Poly3DCollection(faces, facecolors=shades, **line))
    shown = np.concatenate(faces)
    for axis, (low, high) in zip("xyz", zip(shown.min(axis=0), shown.max(axis=0), strict=True), strict=True):
        getattr(ax, f"set_{axis}lim")(*((low, high) if low < high else (low - 1.0, high + 1.0)))
    if features is not None:
        ax.set_xlabel(features.names[0])
        ax.set_ylabel(features.names[1])
    ax.set_zlabel(name)
    return ax


def _plotly(polygons: Polygons, output: int, name: str, color: str, edges: bool, features: Features | None) -> Figure:
    graph: Any = require("plotly.graph_objects", "plot")
    corners = lifted(polygons, output, features)
    triangles, owner = polygons.triangles()
    count = np.diff(polygons.starts)[:, None]
    centres = np.add.reduceat(corners, polygons.starts[:-1]) / count
    kept = polygons.known[owner]
    # Unexplored polygons have no height and no triangles that are kept; the ranges of the colours and of the axis are
    # those of all corners.
    places = np.concatenate([corners, centres])
    places[:, 2] = np.where(np.isnan(places[:, 2]), np.nanmin(places[:, 2]), places[:, 2])
    texts = [_describe(polygons, polygon, output, features) for polygon in range(len(polygons))]
    hover = [texts[polygon] for polygon in (*owner, *range(len(polygons)))]
    if color == "region":
        from matplotlib.colors import to_hex

        shades = by_region(polygons)
        colours: dict[str, Any] = {"facecolor": [to_hex(tuple(shades[polygon])) for polygon in owner[kept]]}
    else:
        colours = {"intensity": places[:, 2], "colorscale": "Viridis", "colorbar": {"title": name}}
    (x, y, z), (i, j, k) = places.T, triangles[kept].T
    mesh = graph.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, text=hover, hovertemplate="%{text}<extra></extra>", flatshading=True, **colours
    )
    traces = [mesh]
    if edges:
        outlines = np.split(corners, polygons.starts[1:-1])
        faces = [outlines[polygon] for polygon in np.flatnonzero(polygons.known)]
        gap = np.full((1, 3), np.nan)
        path = np.concatenate([part for face in faces for part in (face, face[:1], gap)])
        line = {"color": "#222222", "width": 1}
        traces.append(
            graph.Scatter3d(x=path[:, 0], y=path[:, 1], z=path[:, 2], mode="lines", line=line, hoverinfo="skip")
        )
    figure = graph.Figure(traces)
    first, second = _names(features)
    figure.update_layout(
        showlegend=False,
        scene={
            "xaxis": {"title": {"text": first}},
            "yaxis": {"title": {"text": second}},
            "zaxis": {"title": {"text": name}},
        },
    )
    return figure


def _describe(polygons: Polygons, polygon: int, output: int, features: Features | None) -> str:
    """A region and its map as text, the map in the units of the features."""
    map_ = polygons.maps[polygon, output]
    weight, bias = map_[None, :2], map_[2:]
    if features is not None:
        weight, bias = features.affine(weight, bias)
    (a, b), (first, second) = weight[0], _names(features)
    return f"region {polygons.regions[polygon]}<br>{a:.4g} {first} + {b:.4g} {second} + {bias[0]:.4g}"


def _names(features: Features | None) -> tuple[str, ...]:
    return ("s", "t") if features is None else features.names
