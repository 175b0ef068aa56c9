"""A small classifier of real data: 178 wines, 13 measurements each, from three cultivars."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import Tensor, nn


class Wines(NamedTuple):
    """The wine data that scikit-learn ships, standardised: mean 0 and standard deviation 1 on the training rows.

    Attributes:
        features: names of the columns of `x`.
        x: measurements.
        cultivar: class of each wine: 0, 1 or 2.
        train: rows to train on.
        test: the others.
    """

    features: list[str]
    x: Float32[Tensor, "wines features"]
    cultivar: Int64[Tensor, "wines"]
    train: Int64[Tensor, "some"]
    test: Int64[Tensor, "others"]


def wines() -> Wines:
    """Load the data and set 30 % of each class aside for testing."""
    data = load_wine()
    x, cultivar = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    train, test = train_test_split(torch.arange(len(x)), test_size=0.3, random_state=0, stratify=data.target)
    x = (x - x[train].mean(0)) / x[train].std(0)
    return Wines([name.split("/")[0] for name in data.feature_names], x, cultivar, train, test)


def train(x: Float32[Tensor, "rows features"], labels: Int64[Tensor, "rows"]) -> nn.Sequential:
    """A network with two hidden layers of 8 ReLUs and one output for each class, trained in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(x.shape[1], 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, int(labels.max()) + 1)
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return model.eval()
