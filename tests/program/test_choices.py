"""Choices written by hand: those that are continuous are read, those that jump are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_shallow.errors import UnsupportedOperation
from torch_shallow.program.model import read_model, trace

pytestmark = pytest.mark.quick


class Model(nn.Module):
    """Two layers with a choice between them, which sees six values."""

    def __init__(self, choice: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.choice = nn.Linear(4, 6), nn.Linear(6, 2), choice
        self.register_buffer("slopes", torch.tensor([0.5, -0.5, 0.0, 1.0, 2.0, -3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.choice(self, self.first(x)))


def written_over(m: Any, h: Tensor) -> Tensor:
    h = h.clone()
    h[h < 0] = 0.0
    return h


def in_place(m: Any, h: Tensor) -> Tensor:
    h = h * 1.0
    h.masked_fill_(h < 0.25, 0.25)
    return h + 1.0


def swapped(h: Tensor) -> Tensor:
    return h.flip(1)


# A continuous choice of six values, and how many neurons it takes.
CONTINUOUS: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "where": (lambda m, h: torch.where(h > 0, h, 0.1 * h), 6),
    "where of a constant": (lambda m, h: torch.where(h >= 0.3, h, 0.3), 6),
    "where the other way": (lambda m, h: torch.where(-2 * h < 1, h, -0.5), 6),
    "where as a method": (lambda m, h: h.where(h > 0, torch.zeros_like(h)), 6),
    "slopes of both signs": (lambda m, h: torch.where(h > 0, m.slopes * h, -h), 6),
    "thresholds of their own": (lambda m, h: torch.where(h > m.slopes, h - m.slopes, m.slopes - h), 6),
    "the larger of two": (lambda m, h: torch.where(h > swapped(h), h, h.flip(1)), 6),
    "product": (lambda m, h: h * (h > 0), 6),
    "product of numbers": (lambda m, h: (h > 0).float() * h + 0.1 * h * (h <= 0).type_as(h), 12),
    "product as a method": (lambda m, h: h.gt(0).to(h.dtype).detach().mul(h), 6),
    "the larger by products": (lambda m, h: (h > swapped(h)) * h + (h <= swapped(h)) * swapped(h), 6),
    "masked_fill": (lambda m, h: h.masked_fill(h < 0, 0), 6),
    "masked_fill in place": (in_place, 6),
    "written over": (written_over, 6),
    "soft threshold": (lambda m, h: torch.sign(h) * torch.relu(h.abs() - 0.3), 12),
    "absolute value": (lambda m, h: h.sign() * h, 6),
    "clamp": (lambda m, h: h * ((h > 0) & (h < 1)) + (h >= 1), 12),
    "clamp by not": (lambda m, h: torch.where(~(h < 1), 1.0, torch.where(h > -1, h, -1.0)), 12),
    "nested": (lambda m, h: torch.where(h > 1, 2 * h - 1, torch.where(h > 0, h, 0.0)), 12),
    "of a ReLU": (lambda m, h: torch.where(h.relu() + h.flip(1) > 0, h.relu() + h.flip(1), 0.0), 12),
    "never": (lambda m, h: torch.where(torch.isnan(h), 0.0, h).relu(), 6),
    "heaviside": (lambda m, h: torch.heaviside(h, torch.tensor(0.5, dtype=h.dtype)) * h, 6),
    "column": (lambda m, h: torch.where(h[:, :1] > 0, h[:, :1], torch.zeros_like(h)), 1),
}


@pytest.mark.parametrize(("choice", "neurons"), CONTINUOUS.values(), ids=CONTINUOUS.keys())
def test_a_continuous_choice_is_read(choice: Callable[[Any, Tensor], Tensor], neurons: int, reads: Any) -> None:
    torch.manual_seed(0)
    model = Model(choice)
    assert reads(model).num_neurons == neurons
    x = torch.randn(50, 4)
    with torch.no_grad():
        torch.testing.assert_close(trace(model, x)(x), model(x), rtol=1e-4, atol=1e-4)


def overwritten(m: Any, h: Tensor) -> Tensor:
    h = h * 1.0
    positive = h > 0
    h += 1.0
    return torch.where(positive, h, 0.0)


def overwritten_through_a_view(m: Any, h: Tensor) -> Tensor:
    h = h * 1.0
    half = 0.5 * h
    h[:, :1].add_(1.0)
    return torch.where(h > 0, 2 * half, 0.0)


JUMPS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "where": (lambda m, h: torch.where(h > 0, h, h - 1), "jumps by 1,"),
    "small": (lambda m, h: torch.where(h > 1e-6, h, 0.0), "jumps by 1e-06"),
    "in one entry": (lambda m, h: torch.where(h > m.slopes, h, torch.zeros_like(h)), "jumps by 3"),
    "at a point": (lambda m, h: ((h > 0).float() + (h < 0).float()) * (h + 1), "jumps by 1"),
    "mask": (lambda m, h: (h > 0).float(), "compares"),
    "hard threshold": (lambda m, h: h * (h.abs() > 0.3), "jumps by 0.3"),
    "sign": (lambda m, h: h.sign() + h, "compares"),
    "something else": (lambda m, h: torch.where(h > 0, h.flip(1), 0.0), "could not be shown"),
    "two comparisons": (lambda m, h: h * ((h > 0) & (h.flip(1) > 0)), "chooses by two values"),
    "unsupported": (lambda m, h: (h > 0).float().softmax(1) * h, "compares"),
    "infinite": (lambda m, h: torch.where(h > 0, h, -torch.inf), "not all finite"),
    "overwritten": (overwritten, "could not be shown"),
    "overwritten through a view": (overwritten_through_a_view, "could not be shown"),
    "square": (lambda m, h: torch.where(h > 0, h * h, 0.0), "multiplies two values"),
}


@pytest.mark.parametrize(("choice", "reason"), JUMPS.values(), ids=JUMPS.keys())
def test_a_jump_is_refused(choice: Callable[[Any, Tensor], Tensor], reason: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedOperation, match=reason):
        read_model(Model(choice))


@pytest.mark.parametrize(
    "end",
    [
        lambda y: torch.where(y > 0, y, y - 1),
        lambda y: torch.where(y[:, :1] > 0, y, -y),
        lambda y: y * (y.flip(1) > 0),
        lambda y: F.hardshrink(y),
        lambda y: y.norm(p=1, dim=1),
        lambda y: y.quantile(torch.tensor(0.5), dim=0),
        lambda y: y.gather(1, y.argmax(1, keepdim=True)),
    ],
)
def test_a_jump_is_no_head(end: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedOperation):
        read_model(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), _End(end)))


class _End(nn.Module):
    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end

    def forward(self, y: Tensor) -> Tensor:
        return self.end(y)
