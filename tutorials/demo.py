"""The main job, shown once: `python -m tutorials.demo` trains two networks, transforms them and writes `demo.png`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import torch_shallow
from torch_shallow import explain, plot
from tutorials.classifier import Wines, train, wines
from tutorials.pendulum import LIMIT, pendulum, records
from tutorials.pendulum import train as train_controller

PICTURE = Path(__file__).parents[1] / "demo.png"


def main() -> None:
    """Print a table for each network, and write the picture."""
    data = wines()
    model = train(data.x[data.train], data.cultivar[data.train])
    show_classifier(data, model)
    draw_classifier(data, model)
    print(f"\nPicture of the regions on a plane: {PICTURE.name}\n")
    show_controller()


def show_classifier(data: Wines, model: nn.Sequential) -> None:
    """Transform and certify the classifier of the wines."""
    right = (model(data.x[data.test]).argmax(1) == data.cultivar[data.test]).float().mean()
    shallow, seconds = transform(model)
    points = torch.cat([data.x, 3 * torch.randn(10_000, data.x.shape[1], generator=torch.Generator().manual_seed(0))])
    rows = [
        ("hidden layers, deep and shallow", "2 and 3"),
        ("right on wines it was not trained on", f"{right:.1%}"),
        ("activation regions", f"{shallow.num_regions:,}"),
        (f"regions that hold any of the {len(data.x)} wines", f"{len(shallow.locate(data.x).unique()):,}"),
        ("seconds to transform", f"{seconds:.2f}"),
        ("largest difference from the deep model", f"{largest_difference(model, shallow, points):.1e} (float32)"),
    ]
    show("Wines: a classifier 13-8-8-3 on all of R^13", rows)
    print(shallow.certify(model))


def draw_classifier(data: Wines, model: nn.Sequential) -> None:
    """Draw the classifier on the plane through the average wine of each cultivar."""
    train_x, train_cultivar = data.x[data.train], data.cultivar[data.train]
    averages = torch.stack([train_x[train_cultivar == cultivar].mean(0) for cultivar in range(3)])
    lower, upper = (-3.0, -4.0), (7.0, 6.0)
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    names = [f"cultivar {cultivar}" for cultivar in range(3)]
    plot.slice(model, averages, lower=lower, upper=upper, data=data.x, labels=data.cultivar, class_names=names, ax=axes)
    count = plot.polygons(model, averages, lower=lower, upper=upper).num_regions
    axes.set_title(f"{count} activation regions of the deep network")
    figure.savefig(PICTURE, dpi=150)


def show_controller() -> None:
    """Train a deep controller, then transform and certify it in the box of its states."""
    law = pendulum().law
    model = train_controller(*records(law), hidden=(24, 24, 24, 24))
    shallow, seconds = transform(model, domain=torch_shallow.Box(-1.0, 1.0))
    states = 2 * torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    torque = explain.output_range(shallow)
    rows = [
        ("hidden layers, deep and shallow", "4 and 3"),
        ("activation regions", f"{shallow.num_regions:,}"),
        ("seconds to transform", f"{seconds:.2f}"),
        ("largest difference from the deep model", f"{largest_difference(model, shallow, states):.1e} (float64)"),
        (f"torque, of the motor's -{LIMIT} to {LIMIT} N m", f"{torque.lower.item():.3f} to {torque.upper.item():.3f}"),
    ]
    show("Pendulum: a controller 2-24-24-24-24-1 in the box of its states", rows)
    print(shallow.certify(model))


def transform(model: nn.Module, domain: torch_shallow.Box | None = None) -> tuple[torch_shallow.ShallowReLU, float]:
    """Transform a model with warm compiled code, and take the time.

    Returns:
        The shallow network, and seconds.
    """
    torch_shallow.transform(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    start = time.perf_counter()
    shallow = torch_shallow.transform(model, domain=domain)
    return shallow, time.perf_counter() - start


@torch.no_grad()
def largest_difference(model: nn.Module, shallow: torch_shallow.ShallowReLU, points: Tensor) -> float:
    """The largest difference between two networks at some points, relative to 1 + |y|."""
    y = model(points)
    return float(((shallow(points) - y).abs() / (1 + y.abs())).max())


def show(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a table of two columns."""
    print(title)
    for name, value in rows:
        print(f"  {name:<45} {value}")


if __name__ == "__main__":
    main()
