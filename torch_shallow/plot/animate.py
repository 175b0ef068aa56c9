"""How the regions of a network change while it is trained: a film."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.drawn import read_subject
from torch_shallow.plot.picture import Style
from torch_shallow.plot.plane import Plane
from torch_shallow.plot.regions import SQUARE, draw_on, picture
from torch_shallow.plot.slice import read_plane
from torch_shallow.plot.window import read_window

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes


def animate(
    networks: Sequence[object],
    points: Tensor | None = None,
    *,
    titles: Sequence[str] | None = None,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str = "class",
    threshold: float = 0.0,
    boundary: bool = True,
    edges: bool = True,
    features: Features | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    interval: float = 200.0,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Draw networks one after the other, such as checkpoints of a training, each as `regions` or `slice` draws it.

    All of them are drawn in one window and in the same colours. Nothing is written: `animation.save("training.gif")`
    does that, and `animation.to_jshtml()` shows it in a notebook.

    Args:
        networks: of the same shape of input: models (of deep copies, for training changes a model in place) or shallow
            networks.
        points: three inputs, for networks of more than two: they are drawn on the plane through these, as by `slice`.
        titles: of each picture; its number if None.
        lower: as for `regions`; if None, the window is that of the last network.
        upper: likewise.
        data: as for `regions`, as for the six that follow.
        labels: see there.
        color: `"class"`, `"region"` or `"none"`.
        threshold: see there.
        boundary: see there.
        edges: see there.
        features: see there; not with points.
        class_names: see there.
        interval: milliseconds between two pictures.
        ax: axes of matplotlib; of a new figure if None.

    Returns:
        The animation; keep it in a variable as long as it is shown.

    Raises:
        WrongTypeError: `networks` is one network.
        TransformError: there are no networks, their shapes differ, or as `regions`.

    Example:
        >>> from torch import nn
        >>> import tempfile
        >>> from matplotlib.figure import Figure
        >>> models = [nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2)]
        >>> film = animate(models, lower=-1.0, upper=1.0, ax=Figure().subplots())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     film.save(f"{folder}/film.gif", writer="pillow")
    """
    if color not in ("class", "region", "none"):
        raise TransformError(
            f'color: expected "class", "region" or "none", which are the same in all, found {color!r}.'
        )
    style = Style(color, 0, threshold, boundary, edges, False, class_names, True)
    asked = read_window(lower, upper)
    if isinstance(networks, nn.Module):
        raise WrongTypeError(
            f"networks: expected several networks, found one {type(networks).__name__}; put it in a list."
        )
    shown, name = (data, "data") if points is None else (points, "points")
    subjects = [read_subject(network, shown, name) for network in networks]
    if len({(subject.in_shape, subject.out_shape) for subject in subjects}) != 1:
        found = sorted({(subject.in_shape, subject.out_shape) for subject in subjects})
        raise TransformError(f"networks: expected one or more of the same shapes, found {found}.")
    last = subjects[-1]
    if points is None and last.num_inputs != 2:
        raise TransformError(
            f"points: networks of in_shape {last.in_shape} are drawn on a plane through three inputs; pass these."
        )
    if points is not None and features is not None:
        raise TransformError("features: the axes of a plane through points are no features; leave them out.")
    if titles is not None and len(titles) != len(subjects):
        raise TransformError(f"titles: expected one for each of the {len(subjects)} networks, found {len(titles)}.")
    plane, marks = (Plane.all_of_it(), None) if points is None else read_plane(last, points, None, None)
    rows = None if data is None else last.rows("data", data)
    _, window = draw_on(last, plane, asked, marks, rows)
    pictures = [subject.on(plane, window) for subject in subjects]
    names = None if features is None else read_features(features, 2)
    size = window.upper - window.lower
    equal = names is None and bool(size.max() <= SQUARE * size.min())
    shows = [picture(one, on, window, style, rows, labels) for one, on in zip(subjects, pictures, strict=True)]
    axes = axes_for(ax)

    def frame(number: int) -> list[Axes]:
        axes.clear()
        canvas = Canvas.of(axes, names)
        shows[number](canvas)
        canvas.frame(window, equal=equal)
        axes.set_title(str(number) if titles is None else titles[number])
        return [axes]

    frame(0)  # so that the axes are those of the film before it runs
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(axes.figure, frame, frames=np.arange(len(subjects)).tolist(), interval=interval)
