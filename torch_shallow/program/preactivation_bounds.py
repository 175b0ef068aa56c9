"""Bounds of every pre-activation of a model over a box, and which neurons may change sign there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.program.affine_forms import CHUNK_BYTES, INPUT, Sources, push
from torch_shallow.program.traced import TracedModel


@dataclass(frozen=True)
class StageBounds:
    """Bounds of what enters the ReLUs of a stage.

    Attributes:
        lower: no point of the box has less.
        upper: no point of the box has more.
    """

    lower: Float[np.ndarray, "neurons"]
    upper: Float[np.ndarray, "neurons"]

    @property
    def active(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that are active on the whole box."""
        return self.lower > 0.0

    @property
    def inactive(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that are inactive on the whole box."""
        return self.upper <= 0.0

    @property
    def unstable(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that may be active at some points of the box and inactive at others."""
        return ~(self.active | self.inactive)


def preactivation_bounds(
    traced: TracedModel,
    lower: Float[np.ndarray, "inputs"],
    upper: Float[np.ndarray, "inputs"],
    *,
    margin: float = 1e-9,
    max_unstable: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[StageBounds, ...]:
    """Bound what enters each ReLU of a model, for all inputs of a bounded box.

    Sound. Every value is enclosed by an affine function of bounded variables, which keeps what values have in common
    (Singh, Gehr, Mirman, Püschel, Vechev, "Fast and effective robustness certification", 2018): the inputs, and for
    each unstable neuron with bounds l < 0 < u its error e = relu(z) - u / (u - l) z, which lies between 0 and
    -l u / (u - l). The model's own code is run once for each stage on all variables known by then.

    Args:
        traced: the model.
        lower: least value of each entry of the flattened input, finite.
        upper: greatest value likewise; an entry with `lower == upper` is a constant.
        margin: by how much bounds are widened for rounding, relative to the sum of the sizes of all terms.
        max_unstable: stop behind the stage with which more neurons than this are unstable.
        chunk_bytes: how large the widest tensor of a run may be.

    Returns:
        The bounds of each stage; of fewer stages than the model has if there are too many unstable neurons.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    moving = np.flatnonzero(lower < upper)
    base = np.where(lower < upper, 0.0, lower)
    sources, low, high = Sources.of(INPUT, moving), lower[moving], upper[moving]
    slopes: list[Tensor] = []
    bounds: list[StageBounds] = []
    for stage, layout in enumerate(traced.layouts):
        total = _Total(stage, low, high, layout.num_neurons, traced.device)
        push(traced, slopes, sources, base, total.receive, chunk_bytes=chunk_bytes)
        found = total.bounds(margin)
        bounds.append(found)
        unstable = np.flatnonzero(found.unstable)
        slope = found.active.astype(np.float64)
        slope[unstable] = found.upper[unstable] / (found.upper[unstable] - found.lower[unstable])
        slopes.append(torch.tensor(slope, device=traced.device))
        sources += Sources.of(stage, unstable)
        low = np.concatenate([low, np.zeros(len(unstable))])
        high = np.concatenate([high, -slope[unstable] * found.lower[unstable]])
        if max_unstable is not None and len(sources) - len(moving) > max_unstable:
            break
    return tuple(bounds)


class _Total:
    """The range of the values of one stage, added up over the chunks of the sources, which lie between bounds."""

    def __init__(self, stage: int, low: np.ndarray, high: np.ndarray, num_neurons: int, device: torch.device) -> None:
        self.stage = stage
        # Weights of a coefficient in the middle of the range, and of its size in half the width and in the terms.
        self.middle = torch.tensor(low + (high - low) / 2, device=device)
        self.sizes = torch.tensor(np.stack([(high - low) / 2, np.maximum(-low, high)]), device=device)
        self.centre = torch.zeros(num_neurons, dtype=torch.float64, device=device)
        self.constant = self.centre
        self.radius_and_terms = torch.zeros(2, num_neurons, dtype=torch.float64, device=device)

    def receive(
        self,
        stage: int,
        chunk: slice,
        constant: Float[Tensor, "neurons"],
        coefficients: Float[Tensor, "some neurons"],
    ) -> None:
        """Add a chunk."""
        if stage == self.stage:
            self.constant = constant.clone()
            self.centre += self.middle[chunk] @ coefficients
            self.radius_and_terms += self.sizes[:, chunk] @ coefficients.abs()

    def bounds(self, margin: float) -> StageBounds:
        """The bounds, when all chunks have been added."""
        centre, (radius, terms) = self.constant + self.centre, self.radius_and_terms
        half = radius + margin * (terms + self.constant.abs())
        return StageBounds((centre - half).cpu().numpy(), (centre + half).cpu().numpy())
