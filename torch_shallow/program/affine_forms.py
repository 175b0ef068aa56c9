"""Affine functions of many sources, pushed through a model's own code, and bounds of its pre-activations by them."""

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
from torch_shallow.program.traced import TracedModel

SCALE = 2.0**200  # of a source in a run
INPUT = -1  # the stage of sources that are entries of the input
CHUNK_BYTES = 1 << 25  # of the widest tensor of a run; convolutions take several times as much on the way


@dataclass(frozen=True)
class Sources:
    """The variables of affine functions.

    Attributes:
        stages: the stage behind whose ReLU each is added; `INPUT` for entries of the input. In ascending order.
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
        """Some entries of one stage or of the input."""
        return Sources(np.full(len(entries), stage), entries)


Receiver = Callable[[int, slice, Float[Tensor, "values"], Float[Tensor, "some values"]], None]


class _Arrived(BaseException):
    """Ends a run behind the last value that is asked for."""


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
    """Replace the ReLUs of a model by `slope * z`, plus a source where there is one, and see what its values become.

    All of them are then affine in the sources. A run on a batch has a row for each source of a chunk, which is `scale`
    in that source, and one that is 0 in all sources: their difference, over `scale`, is the coefficient. The scale is
    so large that constants are lost in the rounding next to coefficients, so these come out exactly as the layers store
    them.

    Args:
        traced: the model.
        slopes: of the neurons of the first stages. Where these end, so does the run.
        sources: the variables.
        base: the input at which all sources are 0.
        receive: called for each chunk of the sources with the number of a stage, in order, the chunk, and constant and
            coefficients of what enters the stage's ReLU; behind all stages likewise with the output.
        scale: a power of two; a coefficient below its reciprocal (times the constant, if above 1) reads as 0.
        chunk_bytes: how large the widest tensor of a run may be.

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
    """How many sources a run may have whose widest tensor has so many bytes."""
    widths = [layout.num_neurons for layout in traced.layouts]
    return max(16, chunk_bytes // (8 * max(num_inputs, torch.Size(traced.out_shape).numel(), *widths, 1)))


@dataclass
class _Run:
    """One run: a row without sources, and a row for each source of a chunk."""

    traced: TracedModel
    slopes: Sequence[Tensor]
    sources: Sources
    chunk: slice
    receive: Receiver
    scale: float
    stage: int

    def run(self, base: Float[np.ndarray, "inputs"]) -> None:
        """Run to the end."""
        count = 1 + len(self.sources)
        rows = self._with_sources(torch.tensor(base, device=self.traced.device).repeat(count, 1), INPUT)
        y = self.traced.run(rows.reshape(count, *self.traced.in_shape), self.at_relu)
        self.receive_values("output", y.reshape(count, -1))

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """What leaves a ReLU in place of its result."""
        stage, layout = self.stage, self.traced.layouts[self.stage]
        rows = layout.rows(z)
        self.receive_values(layout.name, rows)
        if stage == len(self.slopes):
            raise _Arrived
        return layout.tensor(self._with_sources(rows * self.slopes[stage], stage))

    def receive_values(self, name: str, rows: Float[Tensor, "rows values"]) -> None:
        """Hand over constant and coefficients of the values of a stage, or of the output."""
        if not rows.isfinite().all():
            raise TransformError(
                f"model: the affine function before {name!r} has weights or biases that are not finite; look for an "
                "overflow or a division by zero among the constants of its layers."
            )
        constant = rows[0]
        coefficients = rows[1:] - constant
        # Rows of a matrix product may be summed in different orders: a constant may leave a trace of its rounding.
        coefficients[coefficients.abs() <= constant.abs().clamp(min=1.0)] = 0.0
        self.receive(self.stage, self.chunk, constant, coefficients / self.scale)
        self.stage += 1

    def _with_sources(self, rows: Float[Tensor, "rows values"], stage: int) -> Float[Tensor, "rows values"]:
        own = np.flatnonzero(self.sources.stages == stage)
        rows[1 + own, self.sources.entries[own]] += self.scale
        return rows


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
    -l u / (u - l). The model's own code is run once for each stage on all variables
    known by then; or once for all stages, if it is a chain.

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
    enclosure = _Enclosure(traced, margin, Sources.of(INPUT, moving), lower[moving], upper[moving])
    most = np.inf if max_unstable is None else len(moving) + max_unstable
    room = _room(traced, len(base), chunk_bytes)
    if traced.layouts and traced.is_chain and len(moving) <= room:
        every, receive = slice(0, len(moving)), enclosure.total().receive
        run = _GrowingRun(traced, [], enclosure.sources, every, receive, SCALE, 0, enclosure, min(most, room))
        with suppress(_Arrived):
            run.run(base)
    while len(enclosure.bounds) < len(traced.layouts) and len(enclosure.sources) <= most:
        total = enclosure.total()
        push(traced, enclosure.slopes, enclosure.sources, base, total.receive, chunk_bytes=chunk_bytes)
        enclosure.add(total)
    return tuple(enclosure.bounds)


@dataclass
class _Enclosure:
    """What is known of the first stages: bounds, slopes, and the variables that the values behind them depend on."""

    traced: TracedModel
    margin: float
    sources: Sources
    low: np.ndarray
    high: np.ndarray
    slopes: list[Tensor] = field(default_factory=list)
    bounds: list[StageBounds] = field(default_factory=list)

    def total(self) -> _Total:
        """What adds up the range of the next stage."""
        stage = len(self.bounds)
        return _Total(stage, self.low, self.high, self.traced.layouts[stage].num_neurons, self.traced.device)

    def add(self, total: _Total) -> Int[np.ndarray, "unstable"]:
        """Take note of the bounds of the next stage; its unstable neurons, which are sources from here on."""
        found = total.bounds(self.margin)
        unstable = np.flatnonzero(found.unstable)
        slope = found.active.astype(np.float64)
        slope[unstable] = found.upper[unstable] / (found.upper[unstable] - found.lower[unstable])
        self.slopes.append(torch.tensor(slope, device=self.traced.device))
        self.sources += Sources.of(len(self.bounds), unstable)
        self.bounds.append(found)
        self.low = np.concatenate([self.low, np.zeros(len(unstable))])
        self.high = np.concatenate([self.high, -slope[unstable] * found.lower[unstable]])
        return unstable


@dataclass
class _GrowingRun(_Run):
    """A run through a chain that gets a row for each source when it arises, and bounds stages as long as it has room.

    Attributes, beside those of `_Run`:
        enclosure: of no stage yet.
        most: how many sources there may be.
    """

    enclosure: _Enclosure
    most: float

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """What leaves a ReLU, with rows for the sources that it adds."""
        stage, enclosure, total = self.stage, self.enclosure, self.enclosure.total()
        layout = self.traced.layouts[stage]
        rows = layout.rows(z)
        self.chunk, self.receive = slice(0, len(rows) - 1), total.receive
        self.receive_values(layout.name, rows)
        unstable = enclosure.add(total)
        if stage == len(self.traced.layouts) - 1 or len(enclosure.sources) > self.most:
            raise _Arrived
        rows = torch.cat([rows, rows[:1].expand(len(unstable), -1)]) * enclosure.slopes[stage]
        rows[np.arange(len(rows) - len(unstable), len(rows)), unstable] += self.scale
        return layout.tensor(rows)


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
        self, stage: int, chunk: slice, constant: Float[Tensor, "neurons"], coefficients: Float[Tensor, "some neurons"]
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
