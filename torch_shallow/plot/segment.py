"""The profile of a network along a straight line, drawn as the polyline that it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.errors import TransformError
from torch_shallow.explain.segments.segment import segment as cut_segment
from torch_shallow.optional import require
from torch_shallow.plot.canvas import axes_for, class_colours, pale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOM = 0.03  # of the picture: what the number of a region takes


def segment(
    f: nn.Module | ExportedProgram | Callable[..., Tensor],
    start: Float[Tensor, "*in_shape"],
    end: Float[Tensor, "*in_shape"],
    *,
    outputs: Sequence[int] | None = None,
    classes: bool = False,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the outputs of a network on the straight line between two inputs.

    The lines are exact: they bend only where the line crosses from one region to another, which marks at the lower edge
    show; where a trained network jumps there, they are vertical. Of a shallow network the numbers of the regions stand
    above, where they have room. Outputs have the colours that classes have in `regions` and `slice`.

    Args:
        f: as for `torch_shallow.explain.segment`.
        start: an input, drawn at t = 0.
        end: another one, at t = 1.
        outputs: which entries of the flattened output to draw; all if None.
        classes: colour the background by the largest of these outputs, whose changes are exact too.
        class_names: a name for each entry of the output, in place of "output 0" and so on.
        ax: where to draw; new axes if None.

    Returns:
        The axes.

    Raises:
        TransformError: there is no such output, another number of names, or as `torch_shallow.explain.segment`.
        ImportError: matplotlib is not installed.
    """
    require("matplotlib", "plot")
    found = cut_segment(f, start, end)
    t, count = found.t.cpu().numpy(), found.function.num_outputs
    ends, values = np.repeat(t, 2)[1:-1], found.ends.reshape(-1, count).cpu().numpy()
    chosen = _numbers(outputs, count)
    names = [f"output {i}" for i in range(count)] if class_names is None else list(map(str, class_names))
    if len(names) != count:
        raise TransformError(f"class_names: expected one for each of {count} outputs, found {len(names)}.")
    ax = axes_for(ax)
    colours = class_colours(count)
    for output in chosen:
        ax.plot(ends, values[:, output], color=colours[output], label=names[output])
    if classes:
        shades = pale(colours, 0.35)
        for first, last, winner in largest(ends, values[:, chosen]):
            ax.axvspan(first, last, color=shades[chosen[winner]], linewidth=0, zorder=0)
    edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False}
    ax.plot(t, np.zeros_like(t), "|", color="black", markersize=8, label="_boundaries", **edge)
    if found.regions is not None:
        for middle, length, region in zip(0.5 * (t[:-1] + t[1:]), np.diff(t), found.regions.tolist(), strict=True):
            if length >= ROOM:
                ax.text(middle, 1.01, str(region), ha="center", va="bottom", fontsize="x-small", rotation=90, **edge)
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel("t")
    if len(chosen) > 1:
        ax.legend()
    else:
        ax.set_ylabel(names[chosen[0]])
    return ax


def _numbers(outputs: Sequence[int] | None, count: int) -> list[int]:
    """The entries of the output that are drawn.

    Raises:
        TransformError: there are no such entries.
    """
    if outputs is None:
        return list(range(count))
    try:
        chosen = [index(output) for output in outputs]
    except TypeError:
        chosen = []
    if not chosen or not all(-count <= output < count for output in chosen):
        raise TransformError(f"outputs: expected numbers from 0 to {count - 1}, found {outputs!r}.")
    return [output % count for output in chosen]


def largest(
    t: Float[np.ndarray, "breakpoints"], values: Float[np.ndarray, "breakpoints outputs"]
) -> list[tuple[float, float, int]]:
    """Where which of some polylines is the largest; the first one where several are.

    Returns intervals from one end to the other, with the number of the polyline.
    """
    spans: list[tuple[float, float, int]] = []
    for lower, upper, before, after in zip(t[:-1], t[1:], values[:-1], values[1:], strict=True):
        share, slopes = 0.0, after - before
        # Of those that are largest at the beginning the steepest one goes on.
        winner = int(np.lexsort((-slopes, -before))[0])
        while share < 1.0:
            gap, closing = before[winner] - before, slopes - slopes[winner]
            meets = np.where(closing > 0.0, gap / np.where(closing > 0.0, closing, 1.0), np.inf)
            end = max(share, float(meets.min()))
            following = int(np.lexsort((-slopes, meets))[0])
            stop = min(end, 1.0)
            spans.append((lower + share * (upper - lower), lower + stop * (upper - lower), winner))
            winner, share = following, end
    joined: list[tuple[float, float, int]] = []
    for first, last, winner in spans:
        if joined and (joined[-1][2] == winner or first == last):
            joined[-1] = (joined[-1][0], last, joined[-1][2])
        elif first < last:
            joined.append((first, last, winner))
    return joined
