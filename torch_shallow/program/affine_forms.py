"""Push affine functions of many sources through a model's own code, and bound its pre-activations with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.fx import Node

from torch_shallow.errors import TransformError
from torch_shallow.program.traced import TracedModel

INPUT = -1  # the stage of sources that are entries of the input
CHUNK_BYTES = 1 << 25  # size of the widest tensor of a run; convolutions take several times as much meanwhile


@dataclass(frozen=True)
class Sources:
    """Hold the variables of affine functions.

    Attributes:
        stages: the stage after whose ReLU each source is added; `INPUT` for entries of the input. In ascending order.
        entries: the neuron of that stage, or the entry of the flattened input.
    """

    stages: Int[np.ndarray, "sources"]
    entries: Int[np.ndarray, "sources"]

    def __len__(self) -> int:
        return len(self.stages)

    def __add__(self, other: Sources) -> Sources:
        return Sources(np.concatenate([self.stages, other.stages]), np.concatenate([self.entries, other.entries]))

    @staticmethod
    def of(stage: int, entries: Int[np.ndarray, "some"]) -> Sources:
        """Select entries of one stage or of the input."""
        return Sources(np.full(len(entries), stage), entries)


Receiver = Callable[[int, slice, Float[Tensor, "values"], Float[Tensor, "some values"]], None]


class _Arrived(BaseException):
    """Raised to end a run after the last requested value."""


def push(
    traced: TracedModel,
    slopes: Sequence[Float[Tensor, "_"]],
    sources: Sources,
    base: Float[np.ndarray, "inputs"],
    receive: Receiver,
    *,
    scale: float = 2.0**200,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Replace the ReLUs of a model by `slope * z`, plus a source where there is one, and report the resulting values.

    All values are then affine in the sources. A run on a batch has one row for each source of a chunk, with `scale` in
    that source, and one row that is 0 in all sources: their difference, divided by `scale`, is the coefficient. The
    scale is so large that constants vanish in the rounding beside coefficients, so coefficients come out exactly as the
    layers store them.

    Args:
        traced: the model.
        slopes: slopes of the neurons of the first stages. The run ends after these stages.
        sources: the variables.
        base: the input at which all sources are 0.
        receive: called for each chunk of the sources with the index of a stage, in order, the chunk, and constant and
            coefficients of the values that enter the stage's ReLU; after all stages, with those of the output.
        scale: a power of two; a coefficient below its reciprocal (times the constant, if above 1) reads as 0.
        chunk_bytes: largest size of the widest tensor of a run, in bytes.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    widths = [layout.num_neurons for layout in traced.layouts]
    widest = max(len(base), torch.Size(traced.out_shape).numel(), *widths, 1)
    size = max(16, chunk_bytes // (8 * widest))
    with torch.no_grad():
        for start in range(0, max(len(sources), 1), size):
            chunk = slice(start, min(start + size, len(sources)))
            run = _Run(traced, slopes, Sources(sources.stages[chunk], sources.entries[chunk]), chunk, receive, scale)
            try:
                run.run(base)
            except _Arrived:
                continue


@dataclass
class _Run:
    """Run a model once: one row without sources, and one row for each source of a chunk."""

    traced: TracedModel
    slopes: Sequence[Tensor]
    sources: Sources
    chunk: slice
    receive: Receiver
    scale: float
    stage: int = 0

    def run(self, base: Float[np.ndarray, "inputs"]) -> None:
        """Run to the end."""
        count = 1 + len(self.sources)
        rows = self._with_sources(torch.tensor(base, device=self.traced.device).repeat(count, 1), INPUT)
        y = self.traced.run(rows.reshape(count, *self.traced.in_shape), self.at_relu)
        self.receive_values("output", y.reshape(count, -1))

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """Return the values that replace the result of a ReLU."""
        stage, layout = self.stage, self.traced.layouts[self.stage]
        rows = layout.rows(z)
        self.receive_values(layout.name, rows)
        if stage == len(self.slopes):
            raise _Arrived
        return layout.tensor(self._with_sources(rows * self.slopes[stage], stage))

    def receive_values(self, name: str, rows: Float[Tensor, "rows values"]) -> None:
        """Pass on constant and coefficients of the values of a stage, or of the output."""
        if not rows.isfinite().all():
            raise TransformError(
                f"model: expected finite weights and biases, found others in the affine function before {name!r}; look "
                "for an overflow or a division by zero in the constants of its layers."
            )
        constant = rows[0]
        coefficients = rows[1:] - constant
        # Rows of a matrix product may be summed in different orders, so a constant may leave a trace of its rounding.
        coefficients[coefficients.abs() <= constant.abs().clamp(min=1.0)] = 0.0
        self.receive(self.stage, self.chunk, constant, coefficients / self.scale)
        self.stage += 1

    def _with_sources(self, rows: Float[Tensor, "rows values"], stage: int) -> Float[Tensor, "rows values"]:
        own = np.flatnonzero(self.sources.stages == stage)
        rows[1 + own, self.sources.entries[own]] += self.scale
        return rows


@dataclass(frozen=True)
class StageBounds:
    """Hold bounds on the values that enter the ReLUs of a stage.

    Attributes:
        lower: lower bounds at all points of the box.
        upper: upper bounds at all points of the box.
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
    """Bound the values that enter each ReLU of a model, for all inputs of a bounded box.

    The bounds are sound. Every value is enclosed by an affine function of bounded variables, which preserves the
    correlations of values (Singh, Gehr, Mirman, Püschel, Vechev, "Fast and effective robustness certification", 2018).
    The variables are the inputs and, for each unstable neuron with bounds l < 0 < u, its error e = relu(z) - u / (u -
    l) z, which lies between 0 and -l u / (u - l). The model's own code runs once for each stage, on all variables known
    by then.

    Args:
        traced: the model.
        lower: smallest value of each entry of the flattened input, finite.
        upper: largest value of each entry of the flattened input, finite; an entry with `lower == upper` is a constant.
        margin: widening of the bounds for rounding, relative to the sum of the sizes of all terms.
        max_unstable: number of unstable neurons beyond which to stop, after the current stage.
        chunk_bytes: largest size of the widest tensor of a run, in bytes.

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
    """Accumulate the range of the values of one stage over the chunks of the sources, which lie between bounds."""

    def __init__(self, stage: int, low: np.ndarray, high: np.ndarray, num_neurons: int, device: torch.device) -> None:
        self.stage = stage
        # Factors of a coefficient in the centre, and of its size in the radius and in the sum of terms.
        self.middle = torch.tensor(low + (high - low) / 2, device=device)
        self.sizes = torch.tensor(np.stack([(high - low) / 2, np.maximum(-low, high)]), device=device)
        self.centre = torch.zeros(num_neurons, dtype=torch.float64, device=device)
        self.constant = self.centre
        self.radius_and_terms = torch.zeros(2, num_neurons, dtype=torch.float64, device=device)

    def receive(
        self, stage: int, chunk: slice, constant: Float[Tensor, "neurons"], coefficients: Float[Tensor, "some neurons"]
    ) -> None:
        """Add the contribution of a chunk."""
        if stage == self.stage:
            self.constant = constant.clone()
            self.centre += self.middle[chunk] @ coefficients
            self.radius_and_terms += self.sizes[:, chunk] @ coefficients.abs()

    def bounds(self, margin: float) -> StageBounds:
        """Return the bounds after all chunks have been added."""
        centre, (radius, terms) = self.constant + self.centre, self.radius_and_terms
        half = radius + margin * (terms + self.constant.abs())
        return StageBounds((centre - half).cpu().numpy(), (centre + half).cpu().numpy())
