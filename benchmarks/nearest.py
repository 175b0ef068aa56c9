"""Nearest changes of deep networks: this search compared with a mixed-integer program given the same time.

`python -m benchmarks.nearest [SECONDS]` prints tables. The network is 30-32-16-2 with batch normalisation, trained on
scikit-learn's breast cancer data, standardised; the inputs are rows of these data. The mixed-integer program is written
with cvxpy and solved by HiGHS. It is told the distance that this search has found, and gets the bounds of the neurons
in a box of that size. In L2 it has a quadratic cost, which HiGHS does not accept together with integers.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import cvxpy
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from tests.explain.milp import class_rows, encoded
from torch_shallow.explain.counterfactuals import counterfactual
from torch_shallow.program.model import read_model

cp: Any = cvxpy


def trained() -> tuple[nn.Sequential, Tensor]:
    """Return the classifier and its standardised data."""
    data, labels = load_breast_cancer(return_X_y=True)
    x = torch.tensor((data - data.mean(0)) / data.std(0), dtype=torch.float32)
    y = torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(30, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 2),
    )
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.double().eval(), x.double()


def by_milp(model: nn.Module, x: Tensor, target: int, norm: float, reach: float, seconds: float) -> tuple[float, float]:
    """Return the bound and the distance that HiGHS has after some seconds."""
    center, point = x.numpy(), cp.Variable(len(x))
    y, limits = encoded(read_model(model), point, center - reach, center + reach)
    rows, offsets = class_rows(target, 2)
    limits.append(rows @ y + offsets <= 0)
    problem = cp.Problem(cp.Minimize(cp.norm(point - center, "inf" if norm == np.inf else norm)), limits)
    try:
        problem.solve(solver=cp.HIGHS, time_limit=seconds)
    except cp.error.SolverError:
        return 0.0, np.inf
    found = np.inf if problem.value is None else float(problem.value)
    return float(problem.solver_stats.extra_stats.mip_dual_bound), found


def main(seconds: float) -> None:
    """Print the table.

    Args:
        seconds: Time for each of the two.
    """
    model, data = trained()
    with torch.no_grad():
        outputs = model(data)
    margins = (outputs[:, 0] - outputs[:, 1]).abs()
    order = margins.argsort()
    counterfactual(model, data[0], 1 - int(outputs[0].argmax()), time_limit=seconds)  # warm up
    print("| norm | margin | this | seconds | cells | MILP | seconds |\n|---|--:|--:|--:|--:|--:|--:|")
    for norm in (1.0, 2.0, np.inf):
        for share in (0.1, 0.5, 0.9):
            row = int(order[int(share * (len(data) - 1))])
            target = 1 - int(outputs[row].argmax())
            found = counterfactual(model, data[row], target, norm, time_limit=seconds)
            ours = f"{found.lower_bound:.6f} to {found.upper_bound:.6f}"
            theirs = "| |"
            if norm != 2.0:
                start = time.perf_counter()
                bound, distance = by_milp(model, data[row], target, norm, 1.001 * found.distance, seconds)
                theirs = f"| {bound:.6f} to {distance:.6f} | {time.perf_counter() - start:.1f}"
            print(
                f"| L{norm:g} | {float(margins[row]):.1f} | {ours} | {found.seconds:.1f} | {found.cells} {theirs} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    main(parser.parse_args().seconds)
