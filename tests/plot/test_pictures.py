"""Pictures: what is drawn, in which axes, and what is refused."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from pathlib import Path

import jaxtyping
import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, TransformError
from torch_shallow.explain.features import Features
from torch_shallow.plot.adjacency import adjacency
from torch_shallow.plot.animate import animate
from torch_shallow.plot.canvas import distinct
from torch_shallow.plot.coefficients import coefficients
from torch_shallow.plot.picture import COLORS
from torch_shallow.plot.regions import polygons, regions
from torch_shallow.plot.regions import slice as draw_slice
from torch_shallow.plot.surface import surface

mpl.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")


def model(*widths: int) -> nn.Sequential:
    """A chain, always the same."""
    torch.manual_seed(0)
    return zoo.chain(*widths)


def axes(**options: object) -> Axes:
    """Axes of a figure that pyplot does not know."""
    return Figure(figsize=(4, 4)).add_subplot(**options)


def render(ax: Axes) -> np.ndarray:
    """The picture as pixels."""
    canvas = FigureCanvasAgg(ax.get_figure())
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def bare(ax: Axes) -> Axes:
    """The same axes filling the whole figure."""
    ax.set_axis_off()
    ax.set_position([0.0, 0.0, 1.0, 1.0])
    ax.set_aspect("auto")
    return ax


@pytest.mark.parametrize("color", COLORS)
def test_artists(color: str) -> None:
    network, data = model(2, 6, 5, 3), torch.randn(40, 2)
    ax = regions(network, lower=-2.0, upper=2.0, color=color, data=data, ax=axes())
    shown = polygons(network, lower=-2.0, upper=2.0)
    lines = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    assert [len(part.get_segments()) for part in lines] == [
        len(shown.between(shown.regions)),
        len(shown.between(shown.outputs, known=True)),
    ]
    filled = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    assert [len(part.get_paths()) for part in filled] == ([] if color == "output" else [len(shown)])
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2.0, 2.0), (-2.0, 2.0))
    assert (ax.get_legend() is not None) == (color == "class")
    assert len(ax.get_figure().axes) == (2 if color in ("output", "count") else 1)
    render(ax)


def test_no_gaps_and_no_overlaps_in_pixels() -> None:
    network = torch_shallow.transform(model(2, 8, 6, 3).double(), domain=Box(-2.0, 2.0))
    ax = regions(network, color="class", boundary=False, edges=False, colorbar=False, ax=axes())
    for part in ax.collections:
        part.set_antialiased(False)
    pixels = render(bare(ax))[..., :3]
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    height, width = pixels.shape[:2]
    x, y = np.meshgrid((np.arange(width) + 0.5) / width * 4 - 2, 2 - (np.arange(height) + 0.5) / height * 4)
    winner = network(torch.from_numpy(np.stack([x, y], -1))).argmax(-1).numpy()
    assert len(colours) == len(np.unique(winner))  # nothing shines through, and no colour is mixed
    wrong = 0
    for k in np.unique(winner):
        _, count = np.unique(pixels[winner == k], axis=0, return_counts=True)
        wrong += count.sum() - count.max()
    assert wrong < 0.01 * winner.size  # a line is half a pixel wide


def test_counts_are_those_of_locate() -> None:
    network, data = torch_shallow.transform(model(2, 5, 1)), torch.randn(100, 2)
    ax = regions(network, color="count", boundary=False, data=data, lower=-5.0, upper=5.0, ax=axes())
    shown = polygons(network, lower=-5.0, upper=5.0, by_largest=False)
    counts = torch.bincount(network.locate(data), minlength=network.num_regions).numpy()[shown.regions]
    faces = ax.collections[0].get_facecolor()
    assert ((faces == 1.0).all(axis=1) == (counts == 0)).all()


@pytest.mark.parametrize("f", [model(2, 5, 4, 2), torch_shallow.transform(model(2, 5, 4, 2))], ids=["deep", "shallow"])
def test_the_window_is_chosen(f: nn.Module) -> None:
    first, second = (regions(f, ax=axes()) for _ in range(2))
    assert first.get_xlim() == second.get_xlim()
    around = regions(f, data=torch.tensor([[0.0, 0.0], [1.0, 2.0]]), ax=axes())
    assert around.get_ylim() == (-0.5, 2.5)


def test_the_window_is_that_of_the_box() -> None:
    box = Box([-1.0, 0.0], [1.0, 3.0])
    for f in (
        torch_shallow.transform(model(2, 5, 2), domain=box),
        torch_shallow.transform(model(2, 5, 2), data=torch.zeros(1, 2), domain=box),
    ):
        ax = regions(f, ax=axes())
        assert (ax.get_xlim(), ax.get_ylim()) == ((-1.0, 1.0), (0.0, 3.0))


def test_units_of_features() -> None:
    features = Features.of(["age", "income"], mean=[40.0, 3000.0], scale=[10.0, -500.0])
    ax = regions(model(2, 5, 2), lower=-1.0, upper=1.0, features=features, data=torch.zeros(1, 2), ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("age", "income")
    assert (ax.get_xlim(), ax.get_ylim()) == ((30.0, 50.0), (2500.0, 3500.0))
    assert ax.collections[-1].get_offsets().tolist() == [[40.0, 3000.0]]


def test_what_is_not_explored_is_hatched() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch_shallow.transform(model(2, 8, 1), max_regions=4)
    for color in ("region", "output"):
        ax = regions(part, lower=-3.0, upper=3.0, color=color, numbers=True, ax=axes())
        assert sum(artist.get_hatch() is not None for artist in ax.collections) == 1
        render(ax)
    point = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * 3
    unknown = point[part.locate(point) < 0][0].numpy()
    for color in COLORS:
        window = {"lower": unknown - 1e-4, "upper": unknown + 1e-4}
        render(regions(part, color=color, data=point, **window, ax=axes()))
    with pytest.raises(TransformError, match="explored regions in the window, found none"):
        surface(part, lower=unknown - 1e-4, upper=unknown + 1e-4, ax=axes(projection="3d"))


def test_slices_of_images() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4))
    points = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ax = draw_slice(network, points, data=points, labels=torch.tensor([0, 1, 2]), ax=axes())
    marks, data = ax.collections[-1].get_offsets(), ax.collections[-2].get_offsets()
    np.testing.assert_allclose(marks, data, atol=1e-6)
    assert float(np.linalg.norm(marks[0] - marks[1])) == pytest.approx(float((points[0] - points[1]).norm()), rel=1e-5)
    assert ax.get_aspect() == 1.0
    counted = draw_slice(network, points, data=points, color="count", ax=axes())
    assert len(counted.get_figure().axes) == 2
    with pytest.raises(TransformError, match="the only place where the regions of a deep network"):
        draw_slice(network, points, data=points + torch.rand(3, 1, 8, 8), color="count", ax=axes())


def test_a_trunk_is_drawn_of_a_network_with_a_head() -> None:
    shallow = torch_shallow.transform(nn.Sequential(model(2, 5, 3), nn.Softmax(1)))
    for f in (shallow, shallow.trunk):
        shown = polygons(f, lower=-1.0, upper=1.0)
        assert shown.maps.shape[1] == 3


@pytest.mark.parametrize("color", ["output", "region"])
def test_surfaces(color: str) -> None:
    network = model(2, 6, 5, 2).double()
    ax = surface(network, lower=-1.0, upper=1.0, output=-1, color=color, ax=axes(projection="3d"))
    shown = polygons(network, lower=-1.0, upper=1.0, by_largest=False)
    (faces,) = ax.collections
    assert len(faces._faces) == len(shown)
    for face, outline in zip(faces._faces, shown.outlines(), strict=True):
        corners = np.asarray(face)[: len(outline)]
        np.testing.assert_allclose(corners[:, :2], outline)
        expected = network(torch.from_numpy(outline))[:, 1].detach().numpy()
        np.testing.assert_allclose(corners[:, 2], expected, atol=1e-9)
    render(ax)
    figure = surface(network, lower=-1.0, upper=1.0, output=1, color=color, engine="plotly", features=["a", "b"])
    mesh = figure.data[0]
    places = np.column_stack([mesh.x, mesh.y])
    expected = network(torch.from_numpy(places))[:, 1].detach().numpy()
    np.testing.assert_allclose(mesh.z, expected, atol=1e-9)
    flat = places[np.column_stack([mesh.i, mesh.j, mesh.k])]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2 == pytest.approx(4.0)
    assert "region" in mesh.text[0]
    assert " a + " in mesh.text[0]


def test_a_surface_over_a_plane_and_of_a_constant() -> None:
    ax = surface(model(4, 5, 1), torch.eye(4)[:3], ax=axes(projection="3d"))
    assert len(ax.collections) == 1
    flat = nn.Sequential(zoo.linear([[0.0, 0.0]], [1.0]), nn.ReLU())
    assert surface(flat, lower=0.0, upper=1.0, ax=axes(projection="3d")).get_zlim() == (0.0, 2.0)
    regions(flat, lower=0.0, upper=1.0, color="output", ax=axes())


@pytest.mark.parametrize("by_data", [True, False])
def test_the_matrix_of_coefficients(by_data: bool) -> None:
    network, data = model(4, 6, 5, 2), torch.randn(60, 4)
    names = Features.of(list("abcd"), scale=[1.0, 2.0, 4.0, 0.5])
    f = torch_shallow.transform(network, data=data) if by_data else torch_shallow.transform(network)
    ax = coefficients(f, data, output=1, features=names, ax=axes())
    found = np.asarray(ax.images[0].get_array())
    labels = [label.get_text() for label in ax.get_yticklabels()]
    region, count = f.locate(data).unique(return_counts=True)
    assert found.shape == (len(region), 4)
    assert labels[0].endswith(f"({int(count.max())})") if labels else len(region) > 40
    weights = torch.autograd.functional.jacobian(lambda x: network(x)[:, 1].sum(), data)
    expected = {tuple(row) for row in (weights.double() / torch.tensor([1.0, 2.0, 4.0, 0.5])).numpy().round(4).tolist()}
    assert {tuple(row) for row in found.round(4).tolist()} == expected
    few = coefficients(network, data, top=3, ax=axes())
    assert few.images[0].get_array().shape == (3, 4)
    assert few.get_title().startswith(f"3 of {len(region)} regions")


def test_the_picture_of_a_coefficient() -> None:
    network = model(2, 6, 5, 2)
    ax = coefficients(network, feature="b", features=["a", "b"], lower=-1.0, upper=1.0, ax=axes())
    shown = polygons(network, lower=-1.0, upper=1.0, by_largest=False)
    assert len(ax.collections[0].get_paths()) == len(shown)
    assert ax.get_figure().axes[1].get_ylabel() == "coefficient of b for output 0"


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_adjacency(inputs: int) -> None:
    network = torch_shallow.transform(model(inputs, 4, 3, 1))
    from torch_shallow.explain.adjacency import adjacency as graph_of

    ax = adjacency(network, numbers=True, ax=axes())
    lines = [part for part in ax.collections if str(part.get_label()).startswith("stage")]
    assert sum(len(part.get_segments()) for part in lines) == graph_of(network).number_of_edges()
    assert len(ax.texts) == network.num_regions
    if inputs == 2:
        places = np.asarray(ax.collections[-1].get_offsets())
        assert network.locate(torch.from_numpy(places)).tolist() == list(range(network.num_regions))
        assert np.ptp(places, axis=0).max() < np.ptp(network.partition.interior_points(), axis=0).max()
    adjacency(network.merge(), ax=axes())


def test_the_legend_has_all_classes_of_labels() -> None:
    network, data = model(2, 6, 5, 3), torch.zeros(3, 2)
    for color, shown in [("class", 3), ("region", 3), ("output", 3)]:
        ax = regions(network, lower=-1.0, upper=1.0, color=color, data=data, labels=torch.arange(3), ax=axes())
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert sorted(names) == [f"class {k}" for k in range(shown)]


def test_what_an_output_is_everywhere_is_told() -> None:
    flat = nn.Sequential(zoo.linear([[0.0, 0.0]] * 2, [1.0, 7.0]), nn.ReLU())
    ax = regions(flat, lower=0.0, upper=1.0, color="output", output=-1, ax=axes())
    bar = ax.get_figure().axes[1]
    assert (bar.get_ylabel(), [text.get_text() for text in bar.get_yticklabels()]) == ("output 1", ["7"])


def test_colours_of_a_surface_are_of_what_is_explored() -> None:
    high = model(2, 8, 1)
    with torch.no_grad():
        high[-1].bias += 100.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch_shallow.transform(high, max_regions=4)
    shown = polygons(part, lower=-3.0, upper=3.0, by_largest=False)
    assert not shown.known.all()
    mesh = surface(part, lower=-3.0, upper=3.0, engine="plotly").data[0]
    assert np.min(mesh.intensity) == np.min(mesh.z) == pytest.approx(np.nanmin(shown.values(0)))


def test_animations(tmp_path: Path) -> None:
    network, data = model(2, 5, 2), torch.randn(20, 2)
    checkpoints: list[nn.Module] = [copy.deepcopy(network)]
    optimizer = torch.optim.SGD(network.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(data), (data[:, 0] > 0).long()).backward()
        optimizer.step()
        checkpoints.append(copy.deepcopy(network))
    ax = axes()
    film = animate(checkpoints, data=data, labels=(data[:, 0] > 0).long(), titles=["a", "b", "c"], ax=ax)
    limits = ax.get_xlim()
    assert list(tmp_path.iterdir()) == []
    film.save(tmp_path / "film.gif", writer="pillow", dpi=40)
    assert (ax.get_title(), ax.get_xlim()) == ("c", limits)
    networks = [model(4, 5, 2), torch_shallow.transform(model(4, 3, 2))]
    film = animate(networks, torch.eye(4)[:3], edges=False, ax=axes())
    film.save(tmp_path / "plane.gif", writer="pillow", dpi=40)


def test_pyplot_is_used_only_without_axes() -> None:
    from matplotlib import pyplot as plt

    plt.close("all")
    regions(model(2, 3, 2), lower=0.0, upper=1.0, ax=axes())
    assert plt.get_fignums() == []
    ax = regions(model(2, 3, 2), lower=0.0, upper=1.0)
    assert plt.get_fignums() == [ax.get_figure().number]
    plt.close("all")


def test_importing_plots_imports_no_libraries() -> None:
    code = "import sys, torch_shallow.plot.regions, torch_shallow.plot.surface, "
    code += "torch_shallow.plot.coefficients, torch_shallow.plot.adjacency, torch_shallow.plot.animate; "
    code += "assert not {'matplotlib', 'plotly', 'networkx', 'numba'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_neighbours_have_different_colours() -> None:
    generator = np.random.default_rng(0)
    from scipy.spatial import Delaunay

    triangles = Delaunay(generator.random((300, 2))).simplices
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
    numbers = distinct(300, pairs)
    assert (numbers[pairs[:, 0]] != numbers[pairs[:, 1]]).all()
    assert numbers.max() < 6


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    network, data = model(2, 3, 2), torch.randn(4, 2)
    fixed = torch_shallow.transform(network, domain=Box([-1.0, 0.5], [1.0, 0.5]))
    window = {"lower": -1.0, "upper": 1.0}
    for draw, message in [
        (lambda: regions(network, color="clas", **window), "color: expected one of"),
        (lambda: regions(network, color="count", **window), "data"),
        (lambda: regions(network, labels=torch.zeros(4).long(), **window), "labels"),
        (lambda: regions(network, data=data, labels=torch.full((4,), 7), **window), "labels"),
        (lambda: regions(torch_shallow.transform(network), data=data[:, :1], **window), "data"),
        (lambda: regions(network, class_names=["a"], **window), "class_names"),
        (lambda: regions(network, color="output", output=2, **window), "output"),
        (lambda: surface(network, engine="mayavi", **window), "engine"),
        (lambda: surface(network, color="class", **window), "color"),
        (lambda: surface(network, engine="plotly", ax=axes(projection="3d"), **window), "ax"),
        (lambda: surface(network, ax=axes(), **window), "three dimensions"),
        (lambda: coefficients(network), "feature, data"),
        (lambda: coefficients(network, data, feature=0), "leave out"),
        (lambda: coefficients(network, data, top=0), "top"),
        (lambda: coefficients(network, data[:0]), "data"),
        (lambda: coefficients(torch_shallow.transform(network, domain=Box(8.0, 9.0)), data), "elsewhere"),
        (lambda: animate([]), "networks"),
        (lambda: animate([network, model(2, 3, 3)]), "networks"),
        (lambda: animate([network], titles=["a", "b"]), "titles"),
        (lambda: animate([model(3, 3, 3)]), "over"),
        (lambda: animate([network], color="output"), "color"),
        (lambda: animate(network), "networks: expected several networks, found one Sequential"),
        (lambda: regions(network, data=data.numpy(), **window), r"data: expected .* found ndarray; convert it"),
        (lambda: regions(torch_shallow.transform(network), data=data.tolist(), **window), "found list; convert it"),
        (lambda: draw_slice(model(3, 3, 2), np.eye(3)), "points: expected a tensor of inputs, found ndarray"),
        (lambda: draw_slice(model(3, 3, 2), origin=[0.0] * 3, directions=torch.eye(3)[:2]), "origin: .* type list"),
        (lambda: regions(model(2, 3, 1), threshold=float("nan"), **window), "threshold: expected a finite number"),
        (lambda: regions(fixed), "f: expected a domain in which both inputs vary.*plot.segment"),
        (lambda: coefficients(torch_shallow.transform(network), data[0]), "data: expected a tensor of shape"),
    ]:
        with pytest.raises(TransformError, match=message):
            draw()
    assert not pyplot.get_fignums()


def test_values_before_a_head_are_called_so() -> None:
    torch.manual_seed(0)
    shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2), nn.Softmax(1)))
    window = {"lower": -1.0, "upper": 1.0}
    flat, tall = Figure(), Figure()
    regions(shallow, color="output", output=1, ax=flat.subplots(), **window)
    assert "output 1 before the head" in [ax.get_ylabel() for ax in flat.axes]
    ax = surface(shallow, ax=tall.add_subplot(projection="3d"), **window)
    assert ax.get_zlabel() == "output 0 before the head"
