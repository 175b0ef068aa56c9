"""Animation of the regions of a network while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.picture import Style, picture
from torch_shallow.plot.scene import read_scene, read_window
from torch_shallow.plot.section import Section

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes


def animate(
    networks: Sequence[object],
    points: Tensor | None = None,
    *,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    titles: Sequence[str] | None = None,
    lower: object = None,
    upper: object = None,
    data: Tensor | None = None,
    labels: Tensor | None = None,
    color: str = "class",
    threshold: float | None = None,
    boundary: bool | None = None,
    edges: bool = True,
    features: Features | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    interval: float = 200.0,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Animate several networks, such as checkpoints of a training run, each drawn as by `regions` or `slice`.

    All of them are drawn in the same window and colours. Nothing is written to a file: `animation.save("training.gif")`
    does that, and `animation.to_jshtml()` shows it in a notebook.

    Args:
        networks: models or shallow networks of the same shapes. Pass deep copies of a model, because training changes
            it in place.
        points: three inputs, of shape `(3, *in_shape)`, for networks of more than two inputs; the plane through them is
            drawn.
        over: two features, by name or number, that the axes show, for networks of more than two inputs.
        at: values of the other features, which do not vary: one input, of shape `in_shape`, as the network reads it; or
            values by feature, in the units of `features`, such as `{"age": 50.0}`.
        titles: title of each picture; its number if None.
        lower: lowest coordinates of the window: a number for both, or one for each; if None, the window that is chosen
            for the last network.
        upper: highest coordinates of the window.
        data: a batch of inputs, drawn as points.
        labels: class of each row of the data, as integers of shape `(rows,)`.
        color: meaning of the colours: `"class"`, `"region"` or `"none"`.
        threshold: for a single output, the value at which the class changes; 0 if None.
        boundary: whether to draw where the class changes; if None, where there are classes.
        edges: whether to draw the sides of the regions.
        features: names of all inputs, or `Features` that also give the units in which the axes are drawn; not with
            `points`.
        class_names: a name for each class, for the legend.
        interval: time between two pictures, in milliseconds.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        A `matplotlib.animation.FuncAnimation`; keep it in a variable as long as it is shown.

    Raises:
        WrongTypeError: `networks` is a single network.
        TransformError: there are no networks, their shapes differ, an argument has a wrong value, or no window can be
            chosen.
        ImportError: matplotlib is not installed.

    Example:
        >>> from torch import nn
        >>> from torch_shallow.plot import animate
        >>> import tempfile
        >>> from matplotlib.figure import Figure
        >>> models = [nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2)]
        >>> film = animate(models, lower=-1.0, upper=1.0, ax=Figure().subplots())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     film.save(f"{folder}/film.gif", writer="pillow")
    """
    if color not in ("class", "region", "none"):
        raise TransformError(
            f'color: expected "class", "region" or "none", which all networks share, found {color!r}; pass one.'
        )
    style = Style(color, 0, threshold, boundary, edges, False, class_names, True)
    asked = read_window(lower, upper)
    if isinstance(networks, nn.Module):
        raise WrongTypeError(
            f"networks: expected several networks, found one {type(networks).__name__}; put it into a list."
        )
    section = Section(points, over=over, at=at, features=features)
    subjects = [section.subject(network, data) for network in networks]
    shapes = sorted({(subject.network.in_shape, subject.network.out_shape) for subject in subjects})
    if len(shapes) != 1:
        raise TransformError(
            f"networks: expected one or more networks of the same shapes, found {shapes}; animate each kind alone."
        )
    last = subjects[-1]
    if titles is not None and len(titles) != len(subjects):
        raise TransformError(
            f"titles: expected one for each of the {len(subjects)} networks, found {len(titles)}; pass {len(subjects)}."
        )
    scene = read_scene(last, asked, section, data)
    window, plane = scene.window, scene.drawn.plane
    scenes = [replace(scene, subject=subject, drawn=subject.on(plane, window), marks=None) for subject in subjects]
    shows = [picture(each, style, labels) for each in scenes]
    axes = axes_for(ax)

    def frame(number: int) -> list[Axes]:
        axes.clear()
        canvas = Canvas.of(axes, scene.features)
        shows[number](canvas)
        canvas.frame(window, equal=features is None and window.is_nearly_square)
        axes.set_title(str(number) if titles is None else titles[number])
        return [axes]

    frame(0)  # gives the axes their final form before the animation runs
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(axes.figure, frame, frames=np.arange(len(subjects)).tolist(), interval=interval)
