"""Applicants for a loan, made up, and two small networks that score them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

NAMES = ("income", "debt", "age", "years employed", "loans", "rents", "mortgage", "owns")
HOMES = ("rents", "mortgage", "owns")
# what the score may do with more of each
WANTED = {"income": "increasing", "debt": "decreasing", "years employed": "increasing", "loans": "decreasing"}

Network = TypeVar("Network", bound=nn.Module)


class Applicants(NamedTuple):
    """People who got a loan, and whether they paid it back.

    Attributes:
        values: columns as in `NAMES`: thousands a year, thousands, years, years, a count, and three of 0 or 1.
        repaid: 1 or 0.
    """

    values: Float64[np.ndarray, "applicants 8"]
    repaid: Int64[Tensor, "applicants"]


def applicants(count: int, seed: int) -> Applicants:
    """Make applicants up. The true odds go the right way in income, debt, years and loans; age has a best value."""
    rng = np.random.default_rng(seed)
    age = np.round(20 + 50 * rng.beta(1.7, 2.6, count))
    years = np.round(np.minimum(age - 18, rng.exponential(7.0, count)))
    income = np.clip(np.exp(rng.normal(3.3 + 0.015 * years, 0.4)), 10, 120).round(1)
    wealth = income / 35 + age / 45 + rng.normal(0, 0.6, count)
    home = np.digitize(wealth, [1.9, 2.7])
    loans = np.minimum(rng.poisson(0.6 + 0.4 * (home < 2), count), 5)
    debt = np.minimum(rng.gamma(1.2, 3.0 + 2.5 * loans, count) * (income / 35) ** 0.5, 60).round(1)
    odds = 3.2 * np.log(income / 27) - 5.0 * np.maximum(debt / income - 0.2, 0) + 0.9 * np.log1p(years)
    odds += 0.5 * home - 0.7 * np.maximum(loans - 1, 0) - ((age - 45) / 16) ** 2
    repaid = torch.from_numpy((rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.int64))
    values = np.column_stack([income, debt, age, years, loans, np.eye(3)[home]])
    return Applicants(values, repaid)


class MonotoneScore(nn.Module):
    """A network that can only rise in some inputs and fall in others: `keep_signs` after each step of the training.

    Half of the hidden neurons are max(z, 0), which is convex, and half min(z, 0), which is concave; with one kind only
    and weights of one sign, the score itself would be convex or concave.
    """

    def __init__(self, signs: Float[Tensor, "inputs"], widths: tuple[int, int]) -> None:
        """A network that has not been trained.

        Args:
            signs: 1 for an input in which the score may only rise, -1 if it may only fall, else 0.
            widths: of the hidden layers.
        """
        super().__init__()
        self.first, self.second = nn.Linear(len(signs), widths[0]), nn.Linear(*widths)
        self.last = nn.Linear(widths[1], 1)
        self.signs = signs
        self.keep_signs()

    def forward(self, x: Float[Tensor, "applicants inputs"]) -> Float[Tensor, "applicants 1"]:
        """The score of each row."""
        score: Tensor = self.last(half_and_half(self.second(half_and_half(self.first(x)))))
        return score

    @torch.no_grad()
    def keep_signs(self) -> None:
        """Set weights to 0 that have the wrong sign."""
        first, up, down = self.first.weight, self.signs > 0, self.signs < 0
        first[:, up], first[:, down] = first[:, up].clamp(min=0), first[:, down].clamp(max=0)
        self.second.weight.clamp_(min=0)
        self.last.weight.clamp_(min=0)


def half_and_half(z: Float[Tensor, "applicants neurons"]) -> Float[Tensor, "applicants neurons"]:
    """The positive part of the first half, and the negative part of the second."""
    half = z.shape[1] // 2
    return torch.cat([z[:, :half].clamp(min=0), z[:, half:].clamp(max=0)], 1)


def train(
    make: Callable[[], Network],
    x: Float64[Tensor, "applicants inputs"],
    repaid: Int64[Tensor, "applicants"],
    after_step: Callable[[Network], None] = lambda _: None,
) -> Network:
    """A network whose output is the log odds that the loan is paid back.

    Args:
        make: makes the network, with one output.
        x: scaled.
        repaid: 1 or 0.
        after_step: what is done with the network after each step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], repaid.double()).backward()
        optimizer.step()
        after_step(model)
    return model.eval().requires_grad_(False)
