"""The picture of a tree: it asks what the network asks, says what its rules say, and no text covers another."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, ShallowReLU, TransformError, explain, plot
from torch_shallow.explain import Features

UNITS = Features.of(["bmi", "age"], mean=[27.0, 50.0], scale=[4.0, -12.0])


@cache
def network(outputs: int = 1, cuts: str = "features", regions: int = 9) -> ShallowReLU:
    torch.manual_seed(1)
    model = zoo.chain(2, 8, 6, outputs).double()
    return torch_shallow.simplify(model, Box(-1.0, 1.0), max_regions=regions, cuts=cuts)


def figure_of(ax: Axes) -> Figure:
    return ax.get_figure(root=True)


def read(ax: Axes) -> tuple[dict[int, str], list[tuple[float, float, str]]]:
    """The leaves by rule number, and all texts with their places."""
    texts = [(*text.get_position(), text.get_text().replace("\u00a0", " ")) for text in ax.texts]
    leaves = {int(found[1]): words for *_, words in texts if (found := re.match(r"(\d+)\.  ", words))}
    return leaves, texts


def descend(ax: Axes, values: dict[str, float]) -> int:
    """The rule that somebody comes to who follows the lines of the picture from the left."""
    nodes = {(x, y): words for x, y, words in read(ax)[1]}
    paths = [np.asarray(line.get_xydata()) for line in ax.lines]
    place = min((place for place in nodes if re.search("[>≥]", nodes[place])), default=None)
    while place is not None and not re.match(r"\d+\.  ", nodes[place]):
        words = nodes[place].replace("\n", " ").replace("≥", ">=")
        words = re.sub(r"(\d) (bmi|age)", r"\1 * \2", words)
        ends = sorted((tuple(path[-1]) for path in paths if tuple(path[0]) == place), key=lambda end: end[1])
        place = ends[1] if eval(words, {}, values) else ends[0]  # yes is up
    return int(re.match(r"(\d+)\.", nodes[place])[1])


@pytest.mark.parametrize("cuts", ["features", "neurons"])
def test_who_follows_the_picture_comes_to_the_rule_of_the_network(cuts: str) -> None:
    simple = network(cuts=cuts)
    ax = plot.tree(simple, features=UNITS, digits=12, ax=Figure(figsize=(60, 30)).subplots())
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    followed = [descend(ax, dict(zip(UNITS.names, UNITS.unscale(row.numpy()), strict=True))) for row in x]
    assert followed == (simple.locate(x) + 1).tolist()
    assert len(set(followed)) > 3


def test_on_a_threshold_the_picture_takes_the_side_of_the_network() -> None:
    simple = network()
    names = ["bmi", "age"]
    ax = plot.tree(simple, features=names, ax=Figure(figsize=(60, 30)).subplots())
    thresholds = [words for *_, words in read(ax)[1] if re.fullmatch(r"\w+ [>≥] \S+", words)]
    assert thresholds
    for words in thresholds:
        name, _, threshold = words.split(" ")
        x = torch.zeros(20, 2, dtype=torch.float64)
        x[:, 1 - names.index(name)] = torch.linspace(-1.0, 1.0, 20)
        x[:, names.index(name)] = float(threshold)
        assert [descend(ax, dict(zip(names, row.tolist(), strict=True))) for row in x] == (
            simple.locate(x) + 1
        ).tolist()


def test_leaves_say_what_rules_say() -> None:
    simple, x = network(2), torch.rand(50, 2).double()
    given = {"features": UNITS, "output_names": ["risk", "cost"], "x": x}
    leaves, _ = read(plot.tree(simple, ax=Figure(figsize=(60, 30)).subplots(), **given))
    rules = explain.rules(simple, **given)
    assert sorted(leaves) == list(range(1, simple.num_regions + 1))
    for region in range(len(rules)):
        words = re.sub(r"\s+", " ", leaves[region + 1])
        assert all(formula in words for formula in rules.formulas(region))
        assert f"({rules.rows[region]} of 50 rows; off by at most" in words


@pytest.mark.parametrize("dpi", [50, 100])
@pytest.mark.parametrize("cuts", ["features", "neurons"])
def test_no_text_covers_another(cuts: str, dpi: int) -> None:
    names = ["body mass index (kg/m²)", "age"]
    ax = plot.tree(network(2, cuts), features=names, output_names=["risk", "cost"], x=torch.rand(50, 2))
    figure = figure_of(ax)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in ax.texts]
    for one, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:one])
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_one_rule_is_a_tree_too(tmp_path: Path) -> None:
    ax = plot.tree(network(regions=1))
    assert list(read(ax)[0]) == [1]
    figure_of(ax).savefig(tmp_path / "tree.svg")


def test_what_cannot_be_read_is_refused() -> None:
    torch.manual_seed(0)
    model = zoo.chain(2, 16, 8, 1)
    with pytest.raises(TransformError, match=r"at most 64 regions, whose tree can be read, found \d+; make"):
        plot.tree(torch_shallow.transform(model))
    with pytest.raises(TypeError, match="shallow: expected a ShallowReLU of few regions, found Sequential"):
        plot.tree(model)
    with pytest.raises(TransformError, match=r"ax: expected axes of at least \d+\.\d by \d+\.\d inches"):
        plot.tree(network(), ax=Figure(figsize=(1, 1)).subplots())
    wide = torch_shallow.transform(nn.Sequential(nn.Linear(2000, 1), nn.ReLU()))
    with pytest.raises(TransformError, match=r"formulas of at most 256 lines in all, .* found \d+; make"):
        plot.tree(wide)
