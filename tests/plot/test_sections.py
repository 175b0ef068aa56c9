"""Pictures over two features of a network of many inputs, the others fixed; and what is drawn of regressions."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, Polytope, TransformError, plot
from torch_shallow.explain import Features

NAMES = ["age", "bmi", "bp", "sugar"]
UNITS = Features.of(NAMES, mean=[50.0, 27.0, 90.0, 5.0], scale=[12.0, -4.0, 15.0, 0.5])
ROW = torch.tensor([0.25, -0.5, 0.125, 0.75], dtype=torch.float64)
WINDOW = {"lower": -1.0, "upper": 1.0}


def model(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    return zoo.chain(*widths).double()


def axes() -> Axes:
    return Figure(figsize=(4, 4)).add_subplot()


def kinds() -> dict[str, object]:
    """One function in all kinds that are drawn."""
    deep, box = model(4, 8, 6, 1), Box(-1.0, 1.0)
    return {
        "deep": deep,
        "shallow": torch_shallow.transform(deep, domain=box),
        "visited": torch_shallow.transform(deep, data=ROW[None], domain=box),
    }


@pytest.mark.parametrize("kind", kinds())
def test_the_polygons_over_two_features_are_those_of_the_network(kind: str) -> None:
    f, deep = kinds()[kind], kinds()["deep"]
    found = plot.polygons(f, over=("sugar", "age"), at=ROW, features=UNITS, by_largest=False, **WINDOW)
    assert found.areas.sum() == pytest.approx(4.0)
    assert found.num_regions > 5
    for polygon, outline in enumerate(found.outlines()):
        place = outline.mean(axis=0)
        x = ROW.clone()
        x[3], x[0] = torch.from_numpy(place)
        expected = deep(x[None]).item()
        assert found.maps[polygon, 0] @ [*place, 1.0] == pytest.approx(expected, abs=1e-9)


def test_of_a_simplified_network_its_own_regions_are_drawn() -> None:
    simple = torch_shallow.simplify(model(4, 8, 1), Box(-1.0, 1.0), max_regions=4)
    found = plot.polygons(simple, over=(1, 2), at=ROW, by_largest=False)
    places = ROW.expand(len(found), 4).clone()
    places[:, 1:3] = torch.from_numpy(found.centres)
    assert simple.locate(places).tolist() == found.regions.tolist()
    assert (found.window.lower, found.window.upper) == (pytest.approx([-1.0] * 2), pytest.approx([1.0] * 2))


@pytest.mark.parametrize("draw", [plot.slice, plot.regions])
def test_axes_have_names_and_units_and_a_star_for_the_point(draw: object) -> None:
    ax = draw(model(4, 8, 6, 1), over=("sugar", "bmi"), at=ROW, features=UNITS, ax=axes(), **WINDOW)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("sugar", "bmi")
    assert (ax.get_xlim(), ax.get_ylim()) == ((4.5, 5.5), (23.0, 31.0))
    assert ax.get_aspect() == "auto"
    assert ax.collections[-1].get_offsets().tolist() == [[5.375, 29.0]]


def test_values_are_given_by_name_in_units_of_the_user() -> None:
    network, over = model(4, 8, 6, 1), ("sugar", "bmi")
    by_row = plot.polygons(network, over=over, at=ROW, features=UNITS, **WINDOW)
    by_name = plot.polygons(network, over=over, at={"age": 53.0, 2: 91.875}, features=UNITS, **WINDOW)
    np.testing.assert_array_equal(by_row.vertices, by_name.vertices)
    np.testing.assert_allclose(by_row.maps, by_name.maps, atol=1e-12)
    ax = plot.slice(network, over=over, at={"age": 53.0, "bp": 91.875}, features=UNITS, ax=axes(), **WINDOW)
    assert not any(isinstance(part, PathCollection) for part in ax.collections)  # no star without a point


def test_inputs_that_a_box_fixes_need_no_value() -> None:
    f = torch_shallow.transform(model(4, 8, 6, 1), domain=Box([-1.0, 0.5, -2.0, 0.75], [1.0, 0.5, 2.0, 0.75]))
    ax = plot.regions(f, over=("age", "bp"), features=UNITS, ax=axes())
    assert (ax.get_xlim(), ax.get_ylim()) == (pytest.approx((38.0, 62.0)), pytest.approx((60.0, 120.0)))
    with pytest.raises(TransformError, match="both inputs vary"):
        plot.regions(f, over=("age", "bmi"), at=ROW, features=UNITS)


def test_a_large_network_is_looked_at_on_the_plane_alone() -> None:
    torch.manual_seed(0)
    large = nn.Sequential(nn.Flatten(), nn.Linear(400, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3))
    x = torch.rand(3, 1, 20, 20)
    visited = torch_shallow.transform(large, data=x)
    found = plot.polygons(visited, over=(7, 390), at=x[0], **WINDOW)
    places = x[:1].flatten(1).expand(len(found), 400).clone().double()
    places[:, [7, 390]] = torch.from_numpy(found.centres)
    winner = large.double()(places.reshape(-1, 1, 20, 20)).argmax(1)
    assert winner.tolist() == found.outputs.tolist()
    assert visited.num_regions == 3


def boundaries(ax: object) -> list[LineCollection]:
    return [part for part in ax.collections if part.get_label() == "decision boundary"]


def test_a_boundary_is_drawn_only_where_there_are_classes() -> None:
    regression, classes = model(2, 6, 1), model(2, 6, 3)
    chance = torch_shallow.transform(nn.Sequential(*model(2, 6, 1), nn.Sigmoid()))
    growth = torch_shallow.transform(nn.Sequential(*model(2, 6, 1), nn.Tanh()))
    data, labels = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1])
    for f, arguments, drawn in [
        (regression, {}, False),
        (growth, {}, False),
        (regression, {"boundary": True}, True),
        (regression, {"threshold": 0.1}, True),
        (regression, {"color": "class"}, True),
        (regression, {"class_names": ["no", "yes"]}, True),
        (regression, {"data": data, "labels": labels}, True),
        (chance, {}, True),
        (classes, {}, True),
        (classes, {"boundary": False}, False),
    ]:
        ax = plot.regions(f, ax=axes(), **WINDOW, **arguments)
        assert len(boundaries(ax)) == int(drawn), arguments
    assert plot.slice(regression, over=(0, 1), ax=axes(), **WINDOW).get_figure().axes[1].get_ylabel() == "output 0"
    assert plot.slice(classes, over=(0, 1), ax=axes(), **WINDOW).get_legend() is not None


def test_long_labels_of_colour_bars_have_room() -> None:
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    names = ["rate of change of the angle (rad/s)", "angle (rad)"]
    for place in range(4):
        ax = figure.add_subplot(2, 2, place + 1)
        plot.coefficients(
            model(2, 6, 1), feature=place % 2, features=names, deviation_of=ROW[None, :2], ax=ax, **WINDOW
        )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [
        ax.yaxis.label.get_window_extent(canvas.get_renderer()) for ax in figure.axes if ax.get_label() == "<colorbar>"
    ]
    assert len(labels) == 4
    for one in range(4):
        assert not any(labels[one].overlaps(labels[other]) for other in range(one))


def test_coefficients_per_standard_deviation() -> None:
    network, x = model(4, 6, 2), torch.randn(50, 4, dtype=torch.float64)
    per_unit = plot.coefficients(network, x, features=UNITS, ax=axes()).images[0].get_array()
    found = plot.coefficients(network, x, features=UNITS, deviation_of=x, ax=axes()).images[0].get_array()
    deviation = UNITS.unscale(x.numpy()).std(axis=0)
    np.testing.assert_allclose(found, per_unit * deviation)
    section = {"over": ("sugar", "bmi"), "at": ROW, "features": UNITS, "feature": "bmi", **WINDOW}
    ax, other = (plot.coefficients(network, deviation_of=of, ax=axes(), **section) for of in (None, x))
    limits = [each.get_figure().axes[1].get_ylim()[1] for each in (ax, other)]
    assert limits[1] == pytest.approx(limits[0] * deviation[1])
    with pytest.raises(TransformError, match="feature: expected one of the two in the picture, sugar and bmi"):
        plot.coefficients(network, ax=axes(), **section | {"feature": 0})


def test_surfaces_and_films_have_sections() -> None:
    network, section = model(4, 6, 1), {"over": ("sugar", "bmi"), "at": ROW, "features": UNITS, **WINDOW}
    ax = plot.surface(network, ax=Figure().add_subplot(projection="3d"), **section)
    assert (ax.get_xlabel(), ax.get_ylim()) == ("sugar", (23.0, 31.0))
    ax = axes()
    plot.animate([network, network], ax=ax, **section)._draw_was_started = True
    assert (ax.get_ylabel(), ax.get_title()) == ("bmi", "0")


def test_what_does_not_tell_a_plane_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    network = model(4, 6, 1)
    boxed = torch_shallow.transform(network, domain=Box(-1.0, 1.0))
    triangle = torch_shallow.transform(network, domain=Polytope(-np.eye(4), np.zeros(4)))
    for f, arguments, message in [
        (network, {}, r"points: expected either .* or two features to draw over"),
        (network, {"at": ROW}, "draw over=two of its features"),
        (network, {"over": "bmi"}, "over: expected two features"),
        (network, {"over": ("bmi", "bmi"), "at": ROW}, "over: expected two different features"),
        (network, {"over": ("bmi", "size"), "at": ROW}, "over: expected one of the features age"),
        (network, {"over": ("bmi", 0)}, "at: expected a value for each feature .* found none for bp, sugar"),
        (network, {"over": ("bmi", 0), "at": {"bp": 3.0}}, "found none for sugar; pass an input"),
        (network, {"over": ("bmi", 0), "at": {"bp": "high", 3: 1.0}}, "at: expected a number for bp"),
        (network, {"over": ("bmi", 0), "at": {"bp": np.nan, 3: 1.0}}, "at: expected a finite number for bp"),
        (boxed, {"over": ("bmi", 0), "at": ROW[None]}, r"at: expected a tensor of shape \(4,\)"),
        (network, {"over": ("bmi", 0), "at": ROW.numpy()}, "at: expected one input as a tensor"),
        (network, {"over": ("bmi", 0), "at": ROW, "points": torch.eye(4)[:3]}, "leave out one or the other"),
        (boxed, {"over": ("bmi", 0), "at": 3.0 * ROW}, "in which sugar between 4.5 and 5.5, found 6.125"),
        (triangle, {"over": ("bmi", 0), "at": -ROW}, "meets the domain"),
    ]:
        with pytest.raises(TransformError, match=message):
            plot.slice(f, features=UNITS, **{**WINDOW, **arguments})
    with pytest.raises(TransformError, match="not features"):
        plot.slice(network, torch.eye(4)[:3], features=UNITS)
