"""Profile of a network along a straight line, drawn as an exact polyline."""

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

ROOM = 0.03  # share of the picture that the number of a region needs


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

    The lines are exact: they bend only where the segment crosses from one region to another, as marks at the lower edge
    show, and are vertical where a trained network jumps. For a shallow network, the numbers of the regions are written
    above the axes where there is room. Outputs have the same colours as the classes in `regions` and `slice`.

    Args:
        f: an `nn.Module` or an exported program of any size, a `ShallowReLU`, or `shallow.trunk` of one with a head.
        start: an input, floating point, of shape `in_shape`, drawn at t = 0.
        end: another input of the same shape, drawn at t = 1.
        outputs: numbers of the entries of the flattened output to draw; all if None.
        classes: whether to colour the background by the largest of these outputs, whose changes are exact too.
        class_names: a name for each entry of the output, instead of "output 0" and so on.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: there is no such output, the number of names is wrong, an input has the wrong shape, or `f` is
            not known on the whole segment.
        ImportError: matplotlib is not installed.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from torch_shallow.plot import segment
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> ax = segment(model, torch.zeros(2), torch.ones(2), ax=Figure().subplots())
        >>> ax.get_xlim() == (0.0, 1.0), len(ax.get_legend().get_texts())
        (True, 3)
    """
    require("matplotlib", "plot")
    found = cut_segment(f, start, end)
    t, count = found.t.cpu().numpy(), found.function.num_outputs
    ends, values = np.repeat(t, 2)[1:-1], found.ends.reshape(-1, count).cpu().numpy()
    chosen = _numbers(outputs, count)
    names = [f"output {i}" for i in range(count)] if class_names is None else list(map(str, class_names))
    if len(names) != count:
        raise TransformError(
            f"class_names: expected one for each of the {count} outputs, found {len(names)}; pass {count} names."
        )
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
    """Read the numbers of the outputs to be drawn.

    Raises:
        TransformError: there are no such outputs.
    """
    if outputs is None:
        return list(range(count))
    try:
        chosen = [index(output) for output in outputs]
    except TypeError:
        chosen = []
    if not chosen or not all(-count <= output < count for output in chosen):
        raise TransformError(f"outputs: expected numbers from 0 to {count - 1}, found {outputs!r}; pass some of these.")
    return [output % count for output in chosen]


def largest(
    t: Float[np.ndarray, "breakpoints"], values: Float[np.ndarray, "breakpoints outputs"]
) -> list[tuple[float, float, int]]:
    """Find where which of some polylines is the largest, the first one at ties.

    Returns intervals from one end to the other, with the number of the polyline.
    """
    spans: list[tuple[float, float, int]] = []
    for lower, upper, before, after in zip(t[:-1], t[1:], values[:-1], values[1:], strict=True):
        share, slopes = 0.0, after - before
        # Among those that are largest at the beginning, the steepest one stays the largest.
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
