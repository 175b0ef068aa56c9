"""The pictures of the site, for light and for dark pages, drawn by `torch_shallow.plot` from networks made here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib.text import Text
from torch import Tensor, nn

import torch_shallow
from torch_shallow import explain, plot
from torch_shallow.geometry.tree import Tree

INK = {"light": "#222832", "dark": "#ced6dd"}


def make(folder: Path) -> None:
    """Draw all pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    for theme, ink in INK.items():
        with rc_context({**dict.fromkeys(inked, ink), "savefig.transparent": True, "legend.framealpha": 0.0}):
            for draw in PICTURES:
                draw().savefig(folder / f"{draw.__name__}_{theme}.png", dpi=160, metadata={"Software": None})


def moons(rows: int = 200) -> tuple[Tensor, Tensor]:
    """Two half-moons that reach into each other, with noise."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.pi * torch.rand(rows, generator=generator, dtype=torch.float64)
    label = torch.arange(rows) % 2
    x = torch.where(label == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(label == 0, angle.sin(), 0.4 - angle.sin())
    points = torch.stack([x, y], 1) + 0.12 * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return points - torch.tensor([0.5, 0.2]), label


def classifier(width: int = 10) -> nn.Sequential:
    """A network that tells the half-moons apart."""
    points, label = moons()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        ).double()
    return train(model, points, label)


def train(model: nn.Sequential, points: Tensor, label: Tensor) -> nn.Sequential:
    """Three hundred steps of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(points), label).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def first_hour() -> Figure:
    """What the page "Your first hour" draws."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        points = 4.0 * torch.rand(400, 2).double() - 2.0
        labels = ((points[:, 0] ** 2 + points[:, 1] ** 2) < 1.5).long()
        model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    train(model, points, labels)
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    plot.regions(model, lower=-2.0, upper=2.0, data=points, labels=labels, colorbar=False, ax=figure.subplots())
    return figure


LOWER, UPPER = (-2.0, -1.35), (2.0, 1.55)
BOX = torch_shallow.Box(torch.tensor(LOWER), torch.tensor(UPPER))


def home() -> Figure:
    """All regions of a classifier, with the data and the boundary between its classes.

    `_static/regions.png`, which the README shows, is this picture at 140 dots an inch, on white, in 128 colours.
    """
    points, label = moons()
    figure = Figure(figsize=(6.4, 4.7), layout="constrained")
    axes = figure.subplots()
    plot.regions(
        classifier(), lower=LOWER, upper=UPPER, data=points, labels=label, color="region", colorbar=False, ax=axes
    )
    axes.set_axis_off()
    return figure


def stages() -> Figure:
    """The cuts of the first layer, and those of the second, which bend."""
    model = classifier(6)
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = nn.Sequential(*list(model)[:2], nn.Linear(6, 1).double().requires_grad_(False))
    plot.regions(first, lower=LOWER, upper=UPPER, colorbar=False, boundary=False, ax=left)
    plot.regions(model, lower=LOWER, upper=UPPER, colorbar=False, boundary=False, ax=right)
    left.set_title("the first layer cuts by straight lines")
    right.set_title("the second bends where it meets them")
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def one_region() -> Figure:
    """One region with its walls, its neighbours, and the largest circle in it."""
    shallow = torch_shallow.transform(classifier(6), domain=BOX)
    point = torch.tensor([0.15, 0.1], dtype=torch.float64)
    region = shallow.regions[shallow.locate(point)]
    corners = region.vertices().numpy()
    middle = corners.mean(0)
    order = torch.atan2(torch.tensor(corners[:, 1] - middle[1]), torch.tensor(corners[:, 0] - middle[0])).argsort()
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.subplots()
    plot.regions(shallow, lower=LOWER, upper=UPPER, color="none", boundary=False, ax=axes)
    axes.add_patch(Polygon(corners[order], closed=True, facecolor="#f2a541aa", edgecolor="#c0392b", linewidth=2.0))
    axes.plot(*point, "o", color=INK["light"])
    axes.annotate(" x", tuple(point), fontsize=13)
    axes.set_axis_off()
    return figure


def counterfactual() -> Figure:
    """The nearest point of the other class, and the circle in which there is none."""
    model = classifier()
    point = torch.tensor([0.45, 0.75], dtype=torch.float64)
    found = explain.counterfactual(model, point, target=1, norm=2, within=BOX)
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.subplots()
    plot.regions(model, lower=LOWER, upper=UPPER, color="class", colorbar=False, ax=axes)
    axes.add_patch(Circle(tuple(point), found.distance, fill=False, linestyle="--", linewidth=1.6, edgecolor="#222222"))
    axes.annotate(
        "", tuple(found.x), tuple(point), arrowprops={"arrowstyle": "-|>", "linewidth": 2.0, "color": "#222222"}
    )
    axes.plot(*point, "o", color="#222222")
    axes.set_axis_off()
    return figure


def segment() -> Figure:
    """The outputs along a line between two points."""
    figure = Figure(figsize=(6.6, 3.2), layout="constrained")
    axes = figure.subplots()
    start, end = (torch.tensor(end, dtype=torch.float64) for end in ((-1.6, 0.9), (1.6, -0.9)))
    plot.segment(classifier(), start, end, classes=True, ax=axes)
    _in_dark_ink(axes.get_legend().get_texts())
    return figure


def surface() -> Figure:
    """A network as a surface of flat pieces."""
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    plot.surface(classifier(6), lower=LOWER, upper=UPPER, color="output", ax=axes)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.fill = False
    axes.view_init(28, -60)
    return figure


def controller() -> nn.Sequential:
    """The network of the page "A network that can be read"."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def simplified() -> Figure:
    """A controller of many regions, and one of few that is proven to be near it."""
    model, square = controller(), torch_shallow.Box(-1.0, 1.0)
    exact = torch_shallow.transform(model, domain=square)
    few = torch_shallow.simplify(model, square, max_error=0.01)
    figure = Figure(figsize=(8.4, 4.1), layout="constrained")
    for axes, network, said in zip(
        figure.subplots(1, 2),
        (exact, few),
        (f"{exact.num_regions} regions, exact", f"{few.num_regions} regions, never off by more than {few.error:.3f}"),
        strict=True,
    ):
        plot.regions(network, lower=-1.0, upper=1.0, colorbar=False, boundary=False, ax=axes)
        axes.set_title(said)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def rules() -> Figure:
    """The rules of a network of three regions, as a tree."""
    simple = torch_shallow.simplify(controller(), torch_shallow.Box(-1.0, 1.0), max_regions=3)
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = plot.tree(simple, features=["angle", "rate"], ax=figure.subplots())
    for text in axes.texts:
        text.set_color(INK["light"] if text.get_bbox_patch() else rcParams["text.color"])
    return figure


def tree() -> Figure:
    """Three lines, the cells between them, and the tree of cuts that finds the cell of a point."""
    ink = rcParams["text.color"]
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double().requires_grad_(False)
    model[0].weight.copy_(torch.tensor([[1.0, 0.35], [-0.3, 1.0], [0.8, -1.0]]))
    model[0].bias.copy_(torch.tensor([0.1, -0.1, 0.75]))
    model[2].weight.fill_(1.0)
    square = torch_shallow.Box(-1.0, 1.0)
    shallow = torch_shallow.transform(model, domain=square)
    figure = Figure(figsize=(9.4, 3.9))
    left, right = figure.add_axes((0.01, 0.02, 0.41, 0.96)), figure.add_axes((0.46, 0.02, 0.53, 0.96))
    plot.regions(shallow, lower=-1.0, upper=1.0, numbers=True, colorbar=False, boundary=False, ax=left)
    left.set_axis_off()
    _in_dark_ink(left.texts)
    nodes = shallow.partition
    places = _places(nodes)
    for node, (x, y) in places.items():
        for child in _children(nodes, node):
            right.plot([x, places[child][0]], [y, places[child][1]], color=ink, linewidth=1.0, zorder=1)
    for node, (x, y) in places.items():
        is_leaf = node < 0
        text = str(~node) if is_leaf else f"cut {node}"
        shape, colour = ("circle", "#f2a541") if is_leaf else ("round", "#1d4e89")
        box = {"boxstyle": shape, "facecolor": colour, "edgecolor": "none"}
        right.text(x, y, text, ha="center", va="center", color="#222222" if is_leaf else "white", bbox=box, zorder=2)
    right.set_axis_off()
    right.margins(0.08, 0.12)
    return figure


def _children(nodes: Tree, node: int) -> list[int]:
    return [] if node < 0 else [int(child) for child in nodes.children[node]]


def _places(nodes: Tree) -> dict[int, tuple[float, float]]:
    """Where nodes are drawn: leaves beside each other, each cut above the middle of what is below it."""
    places: dict[int, tuple[float, float]] = {}
    leaves = 0

    def visit(node: int, depth: int) -> float:
        nonlocal leaves
        below = [visit(child, depth + 1) for child in _children(nodes, node)]
        if not below:
            leaves += 1
        x = sum(below) / len(below) if below else float(leaves)
        places[node] = (x, -float(depth))
        return x

    visit(0, 0)
    return places


def _in_dark_ink(texts: Iterable[Text]) -> None:
    """Texts on a pale ground, whatever the page."""
    for text in texts:
        text.set_color(INK["light"])


def three_layers() -> Figure:
    """The shallow network: half-spaces, indicator, selection."""
    ink = rcParams["text.color"]
    figure = Figure(figsize=(8.6, 2.2))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    boxes = (
        ("x", "an input", "#8a94a6"),
        ("half-spaces", "on which side of\neach cut is x?", "#1d4e89"),
        ("indicator", "in which region\nis it, then?", "#2f6f4f"),
        ("selection", "the affine map\nof that region", "#a65e00"),
        ("y", "the output of the\ndeep network", "#8a94a6"),
    )
    for place, (name, about, colour) in enumerate(boxes):
        shape = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "none"}
        axes.text(place, 0.0, name, ha="center", va="center", color="white", fontsize=12, bbox=shape)
        axes.text(place, -0.42, about, ha="center", va="top", color=ink)
        if place:
            axes.annotate("", (place - 0.36, 0.0), (place - 0.64, 0.0), arrowprops={"arrowstyle": "-|>", "color": ink})
    axes.set_xlim(-0.5, 4.5)
    axes.set_ylim(-1.1, 0.5)
    axes.set_axis_off()
    return figure


PICTURES: tuple[Callable[[], Figure], ...] = (
    home,
    first_hour,
    stages,
    one_region,
    counterfactual,
    segment,
    surface,
    simplified,
    rules,
    tree,
    three_layers,
)
