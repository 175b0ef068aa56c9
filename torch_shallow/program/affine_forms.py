"""Push affine functions of many sources through a model's own code, and bound its pre-activations with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.fx import Node

from torch_shallow.errors import TransformError
from torch_shallow.program.model_copy import is_finite
from torch_shallow.program.sparse_products import skipping_zeros
from torch_shallow.program.traced import TracedModel

SCALE = 2.0**200  # size of a source in a run
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


Receiver = Callable[[int, Int[np.ndarray, "some"], Float[Tensor, "values"], Float[Tensor, "some values"]], None]


class _Arrived(BaseException):
    """Raised to end a run after the last requested value."""


def push(
    traced: TracedModel,
    slopes: Sequence[Float[Tensor, "_"]],
    sources: Sources,
    base: Float[np.ndarray, "inputs"],
    receive: Receiver,
    *,
    scale: float = SCALE,
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
        receive: called for each chunk of the sources with the index of a stage, in order, the ascending numbers of the
            sources of the chunk on which the values may depend, and constant and coefficients of the values that enter
            the stage's ReLU; after all stages, with those of the output.
        scale: a power of two; a coefficient below its reciprocal (times the constant, if above 1) reads as 0.
        chunk_bytes: largest size of the widest tensor of a run, in bytes.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    size = _room(traced, len(base), chunk_bytes)
    with torch.no_grad():
        for start in range(0, max(len(sources), 1), size):
            chunk = slice(start, min(start + size, len(sources)))
            some = Sources(sources.stages[chunk], sources.entries[chunk])
            run = _Run(traced, slopes, some, chunk, receive, scale, 0)
            try:
                run.run(base)
            except _Arrived:
                continue


def _room(traced: TracedModel, num_inputs: int, chunk_bytes: int) -> int:
    """Return the largest number of sources of a run whose widest tensor fits into the given bytes."""
    widths = [layout.num_neurons for layout in traced.layouts]
    return max(16, chunk_bytes // (8 * max(num_inputs, torch.Size(traced.out_shape).numel(), *widths, 1)))


@dataclass
class _Run:
    """Run a model once: one row without sources, and one row for each source of a chunk.

    In a chain, a source gets its row where it is added, and loses it where nothing depends on it any more; else, all
    rows exist from the beginning.
    """

    traced: TracedModel
    slopes: Sequence[Tensor]
    sources: Sources
    chunk: slice
    receive: Receiver
    scale: float
    stage: int
    present: Int[np.ndarray, "rows"] = field(init=False)  # the source of each row but the first

    def run(self, base: Float[np.ndarray, "inputs"]) -> None:
        """Run to the end."""
        count = 1 if self.traced.is_chain else 1 + len(self.sources)
        self.present = np.arange(count - 1)
        rows = self.with_sources(torch.tensor(base, device=self.traced.device).repeat(count, 1), INPUT)
        with skipping_zeros(self.traced.root):
            y = self.traced.run(rows.reshape(len(rows), *self.traced.in_shape), self.at_relu)
        self.receive_values("output", y.reshape(len(y), -1))

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """Return the values that replace the result of a ReLU."""
        stage, layout = self.stage, self.traced.layouts[self.stage]
        rows = layout.rows(z)
        coefficients = self.receive_values(layout.name, rows)
        if stage == len(self.slopes):
            raise _Arrived
        slopes = self.slopes[stage]
        if self.traced.is_chain:
            remains = coefficients[:, slopes != 0.0].any(dim=1).cpu().numpy()
            if not remains.all():
                kept = np.append(0, 1 + np.flatnonzero(remains))
                rows, self.present = rows[torch.from_numpy(kept)], self.present[remains]
        return layout.tensor(self.with_sources(rows * slopes, stage))

    def receive_values(self, name: str, rows: Float[Tensor, "rows values"]) -> Float[Tensor, "sources values"]:
        """Pass on constant and coefficients of the values of a stage, or of the output, and return the coefficients."""
        if not is_finite(rows):
            raise TransformError(
                f"model: expected finite weights and biases, found others in the affine function before {name!r}; look "
                "for an overflow or a division by zero in the constants of its layers."
            )
        constant = rows[0]
        coefficients = rows[1:] - constant
        # Rows of a matrix product may be summed in different orders, so a constant may leave a trace of its rounding.
        coefficients.masked_fill_(coefficients.abs() <= constant.abs().clamp(min=1.0), 0.0).div_(self.scale)
        self.receive(self.stage, self.chunk.start + self.present, constant, coefficients)
        self.stage += 1
        return coefficients

    def with_sources(self, rows: Float[Tensor, "rows values"], stage: int) -> Float[Tensor, "rows values"]:
        """Add the sources of a stage to the values after its ReLU."""
        own = np.flatnonzero(self.sources.stages == stage)
        places = 1 + own
        if self.traced.is_chain:
            places = np.arange(len(rows), len(rows) + len(own))
            rows = torch.cat([rows, rows[:1].expand(len(own), -1)])
            self.present = np.concatenate([self.present, own])
        # Indexing by an array of NumPy, torch reads it number by number.
        rows[torch.from_numpy(places), torch.from_numpy(self.sources.entries[own])] += self.scale
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
    by then, or only once if it is a chain.

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
    enclosure = _Enclosure(traced, margin, Sources.of(INPUT, moving), lower[moving], upper[moving])
    most = np.inf if max_unstable is None else len(moving) + max_unstable
    room = _room(traced, len(base), chunk_bytes)
    if traced.layouts and traced.is_chain and len(moving) <= room:
        every, receive = slice(0, len(moving)), enclosure.total().receive
        run = _GrowingRun(traced, [], enclosure.sources, every, receive, SCALE, 0, enclosure, min(most, room))
        with suppress(_Arrived), torch.no_grad():
            run.run(base)
    while len(enclosure.bounds) < len(traced.layouts) and len(enclosure.sources) <= most:
        total = enclosure.total()
        push(traced, enclosure.slopes, enclosure.sources, base, total.receive, chunk_bytes=chunk_bytes)
        enclosure.add(total)
    return tuple(enclosure.bounds)


@dataclass
class _Enclosure:
    """Collect bounds and slopes of the first stages, and the variables that the values after them depend on."""

    traced: TracedModel
    margin: float
    sources: Sources
    low: np.ndarray
    high: np.ndarray
    slopes: list[Tensor] = field(default_factory=list)
    bounds: list[StageBounds] = field(default_factory=list)

    def total(self) -> _Total:
        """Return an accumulator for the range of the next stage."""
        stage = len(self.bounds)
        return _Total(stage, self.low, self.high, self.traced.layouts[stage].num_neurons, self.traced.device)

    def add(self, total: _Total) -> None:
        """Add the bounds of the next stage, whose unstable neurons are sources from here on."""
        found = total.bounds(self.margin)
        unstable = np.flatnonzero(found.unstable)
        slope = found.active.astype(np.float64)
        slope[unstable] = found.upper[unstable] / (found.upper[unstable] - found.lower[unstable])
        self.slopes.append(torch.tensor(slope, device=self.traced.device))
        self.sources += Sources.of(len(self.bounds), unstable)
        self.bounds.append(found)
        self.low = np.concatenate([self.low, np.zeros(len(unstable))])
        self.high = np.concatenate([self.high, -slope[unstable] * found.lower[unstable]])


@dataclass
class _GrowingRun(_Run):
    """Run a chain once: each source gets its row when it arises, and stages are bounded as long as there is room.

    Attributes, in addition to those of `_Run`:
        enclosure: collects the stages; without any stage at first.
        most: largest number of sources.
    """

    enclosure: _Enclosure
    most: float

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """Return the output of a ReLU, with rows for the sources that it adds."""
        stage, enclosure, total = self.stage, self.enclosure, self.enclosure.total()
        layout = self.traced.layouts[stage]
        rows, self.receive = layout.rows(z), total.receive
        self.receive_values(layout.name, rows)
        enclosure.add(total)
        if stage == len(self.traced.layouts) - 1 or len(enclosure.sources) > self.most:
            raise _Arrived
        self.sources = enclosure.sources
        return layout.tensor(self.with_sources(rows * enclosure.slopes[stage], stage))


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
        self,
        stage: int,
        sources: Int[np.ndarray, "some"],
        constant: Float[Tensor, "neurons"],
        coefficients: Float[Tensor, "some neurons"],
    ) -> None:
        """Add the contribution of some sources."""
        if stage == self.stage:
            known = torch.from_numpy(sources)
            self.constant = constant.clone()
            self.centre += self.middle[known] @ coefficients
            self.radius_and_terms += self.sizes[:, known] @ coefficients.abs()

    def bounds(self, margin: float) -> StageBounds:
        """Return the bounds after all chunks have been added."""
        centre, (radius, terms) = self.constant + self.centre, self.radius_and_terms
        half = radius + margin * (terms + self.constant.abs())
        return StageBounds((centre - half).cpu().numpy(), (centre + half).cpu().numpy())
