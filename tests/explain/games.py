"""Networks whose games are small enough for the definition of Shapley values, and the definition itself."""

from __future__ import annotations

import itertools
import math
import warnings
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo import ARCHITECTURES, DEGENERATE, PIECEWISE, Residual, chain

with warnings.catch_warnings():  # matplotlib warns about what shap does when imported
    warnings.simplefilter("ignore")
    import shap

SMALL = [s for s in (*ARCHITECTURES, *DEGENERATE, *PIECEWISE) if math.prod(s.in_shape) <= 9]


def brute_force(model: nn.Module, x: Tensor, background: Tensor) -> np.ndarray:
    """Compute Shapley values by definition: weighted additions to all coalitions (rows, features, outputs)."""
    d, in_shape = x[0].numel(), x.shape[1:]
    coalitions = list(itertools.product([False, True], repeat=d))
    number = {members: n for n, members in enumerate(coalitions)}
    result = []
    for row in x.double().reshape(len(x), d):
        points = torch.where(torch.tensor(coalitions)[:, None], row, background.double().reshape(-1, d))
        with torch.no_grad():
            y = model(points.reshape(-1, *in_shape))
        value = y.reshape(len(coalitions), len(background), -1).mean(1).numpy()
        of_row = np.zeros((d, value.shape[1]))
        for i, members in itertools.product(range(d), coalitions):
            if not members[i]:
                s, more = sum(members), (*members[:i], True, *members[i + 1 :])
                weight = math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d)
                of_row[i] += weight * (value[number[more]] - value[number[members]])
        result.append(of_row)
    return np.array(result)


def flat(found: shap.Explanation, features: int) -> np.ndarray:
    return found.values.reshape(len(found.values), features, -1)


class Pooled(nn.Sequential):
    """Convolution and max pooling of a signal of ten values."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 2)
        )


NETWORKS = {
    "chain": lambda: chain(8, 12, 8, 1),
    "wide": lambda: chain(9, 40, 1),
    "max pooling": Pooled,
    "residual": Residual,
    "leaky": lambda: nn.Sequential(nn.Linear(7, 9), nn.LeakyReLU(), nn.Linear(9, 3)),
}


@lru_cache
def trained(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network that has learned something, and data."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        model = NETWORKS[name]().double()
        inputs = {"chain": 8, "wide": 9, "max pooling": 10, "residual": 3, "leaky": 7}[name]
        x = torch.randn(200, inputs, dtype=torch.float64)
        y = (x[:, :1] * x[:, 1:2] + x[:, 2:3].abs()).expand(-1, model(x).shape[1])
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
    return model.eval(), x
