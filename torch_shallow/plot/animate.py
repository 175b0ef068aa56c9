"""How the regions of a network change while it is trained: a film."""

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
    """Draw networks one after the other, such as checkpoints of a training, each as `regions` or `slice` draws it.

    All of them are drawn in one window and in the same colours. Nothing is written: `animation.save("training.gif")`
    does that, and `animation.to_jshtml()` shows it in a notebook.

    Args:
        networks: of the same shape of input: models (of deep copies, for training changes a model in place) or shallow
            networks.
        points: three inputs, for networks of more than two: they are drawn on the plane through these, as by `slice`.
        over: in place of points, two features, as for `regions`.
        at: the values of the others, as for `regions`.
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
    section = Section(points, over=over, at=at, features=features)
    subjects = [section.subject(network, data) for network in networks]
    shapes = sorted({(subject.network.in_shape, subject.network.out_shape) for subject in subjects})
    if len(shapes) != 1:
        raise TransformError(f"networks: expected one or more of the same shapes, found {shapes}.")
    last = subjects[-1]
    if titles is not None and len(titles) != len(subjects):
        raise TransformError(f"titles: expected one for each of the {len(subjects)} networks, found {len(titles)}.")
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

    frame(0)  # so that the axes are those of the film before it runs
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(axes.figure, frame, frames=np.arange(len(subjects)).tolist(), interval=interval)
