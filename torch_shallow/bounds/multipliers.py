"""What a backward bound may choose freely, and how it is chosen: any choice is sound, a good one is tight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.bounds.backward import Backward, Lines, Relaxed, Rows, backward, relaxed_point
from torch_shallow.bounds.staged import StagedNetwork


class Multipliers(NamedTuple):
    """A choice for each row in each cell.

    Attributes:
        slopes: of the lower bounds of unstable neurons.
        splits: of the decisions.
        weights: of what the rows are combined from; their meaning is that of the `Target`.
    """

    slopes: Float[Tensor, "cells rows neurons"]
    splits: Float[Tensor, "cells rows neurons"]
    weights: Float[Tensor, "cells rows weights"]

    def of(self, cells: Tensor | slice) -> Multipliers:
        """Those of some of the cells."""
        return Multipliers(*(part[cells] for part in self))

    def where(self, chosen: Bool[Tensor, "cells rows"], others: Multipliers) -> Multipliers:
        """These where they are chosen, and the others elsewhere."""
        pairs = zip(self, others, strict=True)
        return Multipliers(*(torch.where(chosen[..., None], one, other) for one, other in pairs))


@runtime_checkable
class Target(Protocol):
    """What is bounded: rows that may be combined from others by weights."""

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """The rows that some weights give."""

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """How the bounds change with the weights, where they are reached at a point of the relaxation."""


@dataclass(frozen=True)
class FixedRows:
    """Rows that nothing is combined in."""

    given: Rows

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """The rows."""
        return self.given

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """Nothing depends on weights that are not there."""
        return weights


@dataclass(frozen=True)
class Descent:
    """How multipliers are improved: by so many steps of Adam (Kingma & Ba, 2015), which become smaller.

    Attributes:
        steps: how many.
        rate: the first step of a slope or a weight.
        split_rate: likewise of a split, relative to the coefficients of its stage.
        end: the last step, relative to the first.
        patience: after each so many steps, it may be the end.
        progress: it is, if all that bounds exceed what they need to be has not become less by such a share since.
    """

    steps: int
    rate: float = 0.25
    split_rate: float = 0.25
    end: float = 0.1
    patience: int = 4
    progress: float = 0.0


def flat_or_steep(lines: Lines) -> Float[Tensor, "cells 1 neurons"]:
    """The slope 0 or 1 with which the triangle of a neuron is smaller."""
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
        network: the network in its box.
        lines: the bounds of its ReLUs in each cell.
        target: what is bounded.
        start: the first choice.
        schedule: how to go on.
        enough: bounds need not be lower than this.
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
        if step == schedule.steps:
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
    """The first step of each multiplier; a split is measured against what it is added to."""
    scales = [a.abs() + a.abs().mean(dim=-1, keepdim=True) for a in found.through]
    splits = schedule.split_rate * torch.cat([found.bound[..., None][..., :0], *scales], dim=-1)
    rate = torch.full_like(found.bound[..., None], schedule.rate)
    return Multipliers(rate, splits, rate)


class _Adam:
    """Steps against the derivative, each multiplier at a pace of its own."""

    fading = (0.9, 0.999)

    def __init__(self, start: Multipliers, rates: Multipliers, schedule: Descent) -> None:
        self.rates, self.shrink = rates, schedule.end ** (1.0 / max(schedule.steps - 1, 1))
        self.means = [torch.zeros_like(part) for part in start]
        self.squares = [torch.zeros_like(part) for part in start]
        self.steps = 0

    def step(self, now: Multipliers, derivative: Multipliers) -> Multipliers:
        """The next multipliers: slopes in [0, 1], splits not negative."""
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
