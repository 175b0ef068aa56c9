"""Free parameters of a backward bound and their optimisation: any choice is sound, a good one is tight."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.bounds.backward import Backward, Lines, Relaxed, Rows, backward, relaxed_point
from torch_shallow.bounds.staged import StagedNetwork


class Multipliers(NamedTuple):
    """Parameters for each row in each cell.

    Attributes:
        slopes: Slopes of the lower bounds of unstable neurons.
        splits: Multipliers of the decisions.
        weights: Weights from which the rows are combined, with a meaning defined by the `Target`.
    """

    slopes: Float[Tensor, "cells rows neurons"]
    splits: Float[Tensor, "cells rows neurons"]
    weights: Float[Tensor, "cells rows weights"]

    def of(self, cells: Tensor | slice) -> Multipliers:
        """Select those of some cells."""
        return Multipliers(*(part[cells] for part in self))

    def where(self, chosen: Bool[Tensor, "cells rows"], others: Multipliers) -> Multipliers:
        """Return these parameters where they are chosen, and the others elsewhere."""
        pairs = zip(self, others, strict=True)
        return Multipliers(*(torch.where(chosen[..., None], one, other) for one, other in pairs))


@runtime_checkable
class Target(Protocol):
    """Rows to bound, which may be combined from others by weights."""

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """Return the rows for some weights."""

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """Return the derivative of the bounds by the weights, at the point of the relaxation that attains them."""


@dataclass(frozen=True)
class FixedRows:
    """Rows without weights."""

    given: Rows

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """Return the rows."""
        return self.given

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """Return an empty derivative, as there are no weights."""
        return weights


@dataclass(frozen=True)
class Descent:
    """Schedule for improving multipliers by steps of Adam (Kingma & Ba, 2015) of decreasing size.

    Attributes:
        steps: Number of steps.
        rate: Size of the first step of a slope or a weight.
        split_rate: Size of the first step of a split, relative to the coefficients of its stage.
        end: Size of the last step, relative to the first.
        patience: Number of steps after which to check for the end, repeatedly.
        progress: The descent ends if the total excess of the bounds has fallen by less than this share since the last
            check.
        until: Time on the monotonic clock, in seconds, at which the descent ends with the best it has.
    """

    steps: int
    rate: float = 0.25
    split_rate: float = 0.25
    end: float = 0.1
    patience: int = 4
    progress: float = 0.0
    until: float = math.inf

    @property
    def is_late(self) -> bool:
        """Whether the time for this descent is over."""
        return time.monotonic() >= self.until


def flat_or_steep(lines: Lines) -> Float[Tensor, "cells 1 neurons"]:
    """Return the slope, 0 or 1, with which the triangle of each neuron is smaller."""
    return (lines.steepness > 0.5).double()


def descend(
    network: StagedNetwork,
    lines: Lines,
    target: Target,
    start: Multipliers,
    schedule: Descent,
    enough: float = -math.inf,
) -> Multipliers:
    """Improve multipliers, and return for each row in each cell the best of all that were tried.

    Args:
        network: The network in its box.
        lines: Bounds of its ReLUs in each cell.
        target: The rows to bound.
        start: The initial choice.
        schedule: How to proceed.
        enough: Value below which bounds need not be lowered.
    """
    now = best = start
    bounds: Tensor | None = None
    above = math.inf
    adam: _Adam | None = None
    for step in range(schedule.steps + 1):
        found = backward(network, lines, target.rows(now.weights), now.slopes, now.splits)
        if bounds is None:
            bounds = found.bound
        else:
            better = found.bound < bounds
            best, bounds = now.where(better, best), torch.minimum(found.bound, bounds)
        if step == schedule.steps or schedule.is_late:
            break
        if step % schedule.patience == 0:
            before, above = above, float((bounds - enough).clamp(min=0.0).sum())
            if above <= 0.0 or above > (1.0 - schedule.progress) * before < math.inf:
                break
        if adam is None:
            adam = _Adam(now, _rates(found, schedule), schedule)
        now = adam.step(now, _derivative(network, lines, target, now, found))
    return best


def _derivative(network: StagedNetwork, lines: Lines, target: Target, now: Multipliers, found: Backward) -> Multipliers:
    point = relaxed_point(network, lines, found, now.slopes)
    through = torch.cat([point.entering[..., :0], *found.through], dim=-1)
    return Multipliers(
        through.clamp(max=0.0) * point.entering, lines.side * point.entering, target.derivative(now.weights, point)
    )


def _rates(found: Backward, schedule: Descent) -> Multipliers:
    """Return the size of the first step of each multiplier; a split is measured against what it is added to."""
    scales = [a.abs() + a.abs().mean(dim=-1, keepdim=True) for a in found.through]
    splits = schedule.split_rate * torch.cat([found.bound[..., None][..., :0], *scales], dim=-1)
    rate = torch.full_like(found.bound[..., None], schedule.rate)
    return Multipliers(rate, splits, rate)


class _Adam:
    """Steps against the derivative, at a separate pace for each multiplier."""

    fading = (0.9, 0.999)

    def __init__(self, start: Multipliers, rates: Multipliers, schedule: Descent) -> None:
        self.rates, self.shrink = rates, schedule.end ** (1.0 / max(schedule.steps - 1, 1))
        self.means = [torch.zeros_like(part) for part in start]
        self.squares = [torch.zeros_like(part) for part in start]
        self.steps = 0

    def step(self, now: Multipliers, derivative: Multipliers) -> Multipliers:
        """Return the next multipliers: slopes in [0, 1], splits non-negative."""
        self.steps += 1
        first, second = (1.0 - fading**self.steps for fading in self.fading)
        size = self.shrink ** (self.steps - 1) * second**0.5 / first
        moved = []
        for part, slope, mean, square, rate in zip(now, derivative, self.means, self.squares, self.rates, strict=True):
            mean.lerp_(slope, 1.0 - self.fading[0])
            square.mul_(self.fading[1]).addcmul_(slope, slope, value=1.0 - self.fading[1])
            moved.append(part - size * rate * mean / square.sqrt().clamp(min=torch.finfo(mean.dtype).tiny))
        result = Multipliers(*moved)
        return result._replace(slopes=result.slopes.clamp(0.0, 1.0), splits=result.splits.clamp(min=0.0))
