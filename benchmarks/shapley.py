"""Exact SHAP values: compared with `shap.ExactExplainer`, the reach of the reduction, and failures of `DeepExplainer`.

`python -m benchmarks.shapley` prints three tables. Times are medians of warm runs that alternate between the two.
"""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from torch_shallow import TransformError
from torch_shallow.explain.shapley import shap_values

RUNS, ROWS, BACKGROUND = 5, 3, 100


def trained(widths: tuple[int, ...], spread: float = 1.0, steps: int = 300) -> tuple[nn.Module, Tensor]:
    """Train a chain of layers on a smooth function; return it in float64, and data of this spread."""
    torch.manual_seed(0)
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).double()
    x = torch.randn(1000, widths[0], dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] + torch.sin(2.0 * x[:, 2]) + x[:, 3:].mean(1))[:, None]
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return model.eval(), x[:1] + spread * (x - x[:1])


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against_exact_explainer() -> None:
    """Compare times and values for the same background."""
    import shap

    print(f"\n{ROWS} rows, background of {BACKGROUND} rows, {torch.get_num_threads()} threads\n")
    print("| network | ExactExplainer | shap_values | ratio | largest difference |")
    print("|---|--:|--:|--:|--:|")
    for widths in [(8, 32, 32, 1), (12, 32, 32, 1), (12, 32, 32, 3), (12, 64, 1)]:
        model, data = trained(widths)
        x, background = data[:ROWS], data[ROWS : ROWS + BACKGROUND]

        def run(points: np.ndarray, model: nn.Module = model) -> np.ndarray:
            with torch.no_grad():
                return model(torch.from_numpy(points)).numpy()

        masker = shap.maskers.Independent(background.numpy(), max_samples=BACKGROUND)
        explainer = shap.ExactExplainer(run, masker)
        expected, found = explainer(x.numpy(), silent=True), shap_values(model, x, background)
        peer, ours = [], []
        for _ in range(RUNS):
            peer.append(seconds(partial(explainer, x.numpy(), silent=True)))
            ours.append(seconds(partial(shap_values, model, x, background)))
        theirs, own = statistics.median(peer), statistics.median(ours)
        print(
            f"| {'-'.join(map(str, widths))} | {1e3 * theirs:,.0f} ms | {1e3 * own:,.1f} ms | {theirs / own:.1f} | "
            f"{np.abs(found.values - expected.values).max():.1e} |"
        )


def reach() -> None:
    """Measure many features: near the background few neurons change sign, and sparse networks split."""
    print("\n| features | network | distance to the background | time for a pair | coalitions in all |")
    print("|--:|---|--:|--:|--:|")
    for d, spread in [(20, 1.0), (20, 0.1), (30, 0.1), (30, 0.001), (60, 0.0001)]:
        model, data = trained((d, 32, 32, 1), spread)
        report(model, data, d, f"{d}-32-32-1", f"{spread}")
    for d in (30, 60):
        report(grouped(d), torch.randn(6, d, dtype=torch.float64), d, "sum over groups of 5 features", "1.0")


def grouped(d: int) -> nn.Module:
    """Return a sum of networks of five features each, as in additive models."""
    torch.manual_seed(0)
    layers = nn.Conv1d(1, 16, 5, stride=5), nn.ReLU(), nn.Conv1d(16, 16, 1), nn.ReLU()
    return nn.Sequential(nn.Unflatten(1, (1, d)), *layers, nn.Flatten(), nn.Linear(16 * (d // 5), 1)).double()


def report(model: nn.Module, data: Tensor, d: int, name: str, spread: str) -> None:
    """Print a row of the table."""
    try:
        shap_values(model, data[:1], data[1:6])
        taken = statistics.median(seconds(lambda: shap_values(model, data[:1], data[1:6])) for _ in range(3)) / 5
        outcome = f"{1e3 * taken:,.2f} ms"
    except TransformError as error:
        outcome = str(error).split(" reach")[0]
    print(f"| {d} | {name} | {spread} | {outcome} | {2**d:.0e} |")


def additivity_of_deep_explainer() -> None:
    """Measure a ReLU network with max pooling, where the peer's values do not add up to the output they explain."""
    import shap

    torch.manual_seed(0)
    layers = nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.MaxPool1d(2, 1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 1))
    x, background = torch.randn(5, 8), torch.randn(20, 8)
    with torch.no_grad():
        difference = (model.double()(x.double()) - model(background.double()).mean(0)).numpy()[:, 0]
    model.float()
    peer = shap.DeepExplainer(model, background)
    try:
        peer.shap_values(x)
        print("\nDeepExplainer: additive")
    except AssertionError as error:
        print(f"\nDeepExplainer: {error}")
    print("\n| | largest miss of additivity | largest difference explained |\n|---|--:|--:|")
    found = {
        "DeepExplainer": peer.shap_values(x, check_additivity=False)[..., 0],
        "shap_values": shap_values(model, x, background).values,
    }
    for name, values in found.items():
        miss = np.abs(values.sum(1) - difference).max()
        print(f"| {name} | {miss:.1e} | {np.abs(difference).max():.1e} |")


def main() -> None:
    """Print the tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shap and matplotlib
        against_exact_explainer()
        reach()
        additivity_of_deep_explainer()


if __name__ == "__main__":
    main()
