"""Heat map of local coefficients, region by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor

from torch_shallow._transform import transform
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import check_output, known_function
from torch_shallow.functions.points import check_rows
from torch_shallow.plot.canvas import Canvas, axes_for
from torch_shallow.plot.drawn import output_name
from torch_shallow.plot.picture import thin
from torch_shallow.plot.polygons import Window
from torch_shallow.plot.scene import read_scene, read_window
from torch_shallow.plot.section import Section, two_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIVERGING = "PuOr_r"
TEXTS = 40  # largest number of rows or columns that are labelled


def coefficients(
    f: object,
    data: Tensor | None = None,
    *,
    over: Sequence[str | int] | None = None,
    at: Tensor | Mapping[Any, float] | None = None,
    feature: str | int | None = None,
    output: int = 0,
    top: int | None = None,
    features: Features | Sequence[str] | None = None,
    deviation_of: Tensor | None = None,
    lower: object = None,
    upper: object = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the coefficients of the local linear models of one output of the trunk.

    With data, this is a matrix with a row for each region that the data visit, most visited first, and a column for
    each feature. Without data, it is a picture of the regions over two inputs, coloured by the coefficient of one
    feature. A coefficient is given per unit of the feature, or per standard deviation, which makes features of
    different units comparable.

    Args:
        f: a `ShallowReLU`, or a model, which is transformed on the data or in the window.
        data: a batch of inputs, of shape `(rows, *in_shape)`.
        over: without data, for a network of more than two inputs, the two features that the axes show, by name or
            number.
        at: without data, values of the other features, which do not vary: one input, of shape `in_shape`, as the
            network reads it; or values by feature, in the units of `features`, such as `{"age": 50.0}`.
        feature: without data, name or number of the feature whose coefficient is shown, one of the two of the picture.
        output: number of the output.
        top: with data, the largest number of regions to show, most visited first; all if None.
        features: names of the flattened inputs, or `Features` that also give their units.
        deviation_of: a batch of inputs, such as the data; coefficients are then given per standard deviation of each
            feature in these rows (the root mean square distance from the mean).
        lower: without data, lowest coordinates of the window: a number for both, or one for each; if None, the window
            is the domain, if it is bounded, or around the corners of the regions.
        upper: without data, highest coordinates of the window.
        ax: matplotlib axes; those of a new figure if None.

    Returns:
        The axes.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has a wrong value, arguments contradict each other, or rows of the data are in no
            known region.
        ImportError: matplotlib is not installed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch_shallow.plot import coefficients
        >>> from matplotlib.figure import Figure
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> names, ax = ["age", "sex", "bmi", "pressure"], Figure().subplots()
        >>> ax = coefficients(model, torch.randn(50, 4), features=names, ax=ax)
        >>> [label.get_text() for label in ax.get_xticklabels()]
        ['age', 'sex', 'bmi', 'pressure']
    """
    asked = read_window(lower, upper)
    if data is None:
        if feature is None or top is not None:
            raise TransformError(
                "feature, data: expected a feature, for a picture of two inputs; or data (and top), for a matrix of "
                f"the regions that they visit; found feature {feature!r}, no data and top {top!r}; pass one of the two."
            )
        return _picture(f, feature, output, Section(over=over, at=at, features=features), deviation_of, asked, ax)
    if not (feature is None and asked is None and over is None and at is None):
        raise TransformError(
            "data: expected no feature, over, at, lower and upper with data, whose matrix shows all features and has "
            "no window, found one of them; leave these out, or leave out data for a picture."
        )
    if top is not None and top < 1:
        raise TransformError(f"top: expected 1 or more, or None for all, found {top}; pass one of these.")
    return _matrix(f, data, output, top, features, deviation_of, ax)


def _picture(
    f: object,
    feature: str | int,
    output: int,
    section: Section,
    deviation_of: Tensor | None,
    asked: Window | None,
    ax: Any,
) -> Axes:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    subject = section.subject(f)
    output = check_output(output, subject.network.num_outputs)
    names = read_features(section.features, subject.network.num_inputs)
    pair, entry = two_features(names, section.over), names.index(feature)
    if entry not in pair:
        raise TransformError(
            f"feature: expected one of the two in the picture, {names.names[pair[0]]} and {names.names[pair[1]]}, "
            f"found {names.names[entry]}; draw over it, or pass data for a matrix of all features."
        )
    by = _by(names, subject.network.in_shape, deviation_of)
    scene = read_scene(subject, asked, section)
    polygons = scene.drawn.polygons(scene.window)
    ax = axes_for(ax)
    canvas = Canvas.of(ax, scene.features)
    values = polygons.maps[:, output, pair.index(entry)] / names.scale[entry] * by[entry]
    shade = ScalarMappable(_around_zero(values[polygons.known]), colormaps[DIVERGING])
    canvas.fill(polygons, shade.to_rgba(np.nan_to_num(values)))
    canvas.lines(polygons.between(polygons.regions), thin(len(polygons)))
    canvas.colorbar(shade, _label(names.names[entry], subject.output_name(output), deviation_of))
    canvas.frame(scene.window, equal=section.features is None and scene.window.is_nearly_square)
    return ax


def _matrix(
    f: Any, data: Tensor, output: int, top: int | None, features: Any, deviation_of: Tensor | None, ax: Any
) -> Axes:
    shallow = known_function(f) or transform(f, data=data).function
    names = read_features(features, Size(shallow.in_shape).numel())
    outputs = Size(shallow.out_shape).numel()
    output = check_output(output, outputs)
    check_rows("data", data, shallow.in_shape)
    by = _by(names, shallow.in_shape, deviation_of)
    found = shallow.locate(data).cpu().numpy()
    if (found < 0).any():
        raise TransformError(
            f"data: expected rows in known regions of the domain, found {int((found < 0).sum())} of {len(found)} "
            "elsewhere; leave them out, or transform the model in a larger domain."
        )
    visited, rows = np.unique(found, return_counts=True)
    order = np.argsort(-rows, kind="stable")[:top]
    weight, bias = shallow.affine_maps(torch.from_numpy(visited[order]).to(shallow.device))
    by_unit, _ = names.affine(weight[:, output].detach().cpu().numpy(), bias[:, output].detach().cpu().numpy())
    by_unit = by_unit * by
    ax = axes_for(ax)
    image = ax.imshow(by_unit, aspect="auto", cmap=DIVERGING, norm=_around_zero(by_unit), interpolation="nearest")
    Canvas.of(ax).colorbar(image, _label("", output_name(output, shallow.head is not None), deviation_of))
    if len(names) <= TEXTS:
        ax.set_xticks(range(len(names)), names.names, rotation=45, ha="right", rotation_mode="anchor")
    if len(order) <= TEXTS:
        ax.set_yticks(range(len(order)), [f"{visited[k]} ({rows[k]})" for k in order])
    ax.set_xlabel("feature")
    ax.set_ylabel("region (rows of data)" if len(order) <= TEXTS else "regions, the most visited first")
    if len(order) < len(visited):
        ax.set_title(
            f"{len(order)} of {len(visited)} regions, {rows[order].sum()} of {len(found)} rows", fontsize="medium"
        )
    return ax


def _by(features: Features, in_shape: tuple[int, ...], deviation_of: Tensor | None) -> Float[np.ndarray, "inputs"]:
    """Amount of each feature to which a coefficient refers, in the user's units.

    Raises:
        TransformError: the rows are not a batch of inputs.
    """
    if deviation_of is None:
        return np.ones(len(features))
    check_rows("deviation_of", deviation_of, in_shape)
    rows = deviation_of.detach().flatten(1).to("cpu", torch.float64).numpy()
    return np.abs(features.scale) * rows.std(axis=0)


def _label(feature: str, output: str, deviation_of: Tensor | None) -> str:
    """Meaning of the colours, as text."""
    of = f" of {feature}" if feature else ""
    return f"coefficient{of} for {output}" + ", per standard deviation" * (deviation_of is not None)


def _around_zero(values: Float[np.ndarray, "..."]) -> Any:
    """Colour scale that is neutral at 0 and extends equally far on both sides."""
    from matplotlib.colors import Normalize

    most = float(np.abs(values).max(initial=0.0)) or 1.0
    return Normalize(-most, most)
