"""Bounds of all pre-activations of a network, in its box and in cells of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_shallow.bounds.backward import CellBounds, Lines, Rows, backward, proven
from torch_shallow.bounds.coupling import Coupling
from torch_shallow.bounds.intervals import interval_bounds, term_sizes
from torch_shallow.bounds.multipliers import Descent, FixedRows, Multipliers, descend, flat_or_steep
from torch_shallow.bounds.staged import StagedNetwork


@dataclass(frozen=True, eq=False)
class StageRows:
    """Neurons of a stage that are bounded together, with the best slopes for the whole box.

    Attributes:
        stage: Number of the stage, from 1.
        neurons: Numbers of the neurons within the stage.
        slopes: Slopes for upper bounds of these neurons, then for those of their negatives.
    """

    stage: int
    neurons: Int[Tensor, "some"]
    slopes: Float[Tensor, "twice_some before"]


@dataclass(frozen=True, eq=False)
class BoxBounds:
    """Bounds of a network in its whole box.

    Attributes:
        cell: The box as a batch of one cell.
        sizes: Sizes of the terms of each layer.
        stages: Neurons that are worth a backward bound in a cell.
        least: Lower bound of each output.
    """

    cell: CellBounds
    sizes: list[Float[Tensor, "_"]]
    stages: tuple[StageRows, ...]
    least: Float[Tensor, "outputs"]

    @classmethod
    def of(
        cls, network: StagedNetwork, schedule: Descent, chunk: int = 1 << 22, coupling: Coupling | None = None
    ) -> BoxBounds:
        """Bound the stages one after another.

        Args:
            network: The network in its box.
            schedule: How to choose the slopes for the bounds of each neuron. Once it is late, the neurons of further
                stages keep the bounds of intervals.
            chunk: Greatest number of entries of a tensor.
            coupling: Pairs of neurons that are bounded together, if any.
        """
        lower, upper, least, _ = interval_bounds(network)
        sizes = term_sizes(network, upper)
        stages = []
        for number in range(2, len(network.layers)):
            at = network.stages[number - 1].neurons
            cell = CellBounds(lower[None], upper[None], torch.zeros_like(lower)[None], coupling).tied()
            neurons = torch.nonzero(cell.relaxed[0, at])[:, 0]
            if not len(neurons) or schedule.is_late:
                continue
            before = network.stages[number - 1].start
            slopes = flat_or_steep(Lines.of(cell))[0, :, :before].expand(2 * len(neurons), -1)
            rows = StageRows(number, neurons, slopes.clone())
            parts = [
                _best_slopes(network, cell, _of_rows(rows, some), schedule)
                for some in torch.arange(2 * len(neurons), device=lower.device).split(_portion(network, chunk))
            ]
            rows = StageRows(number, neurons, torch.cat(parts))
            cell = tightened(network, cell, sizes, (rows,), chunk, always=True)
            lower, upper = cell.lower[0], cell.upper[0]
            sizes = term_sizes(network, upper)
            stages.append(_without(rows, cell.narrow[0, at]))
        cell = CellBounds(lower[None], upper[None], torch.zeros_like(lower)[None], coupling).tied()
        return cls(cell, sizes, tuple(stages), least)

    def with_outputs(self, network: StagedNetwork) -> BoxBounds:
        """Return the bounds for a network with the same stages in the same box, but other outputs."""
        _, _, least, _ = interval_bounds(network)
        return replace(self, sizes=term_sizes(network, self.cell.upper[0]), least=least)


def _without(rows: StageRows, others: Bool[Tensor, "neurons"]) -> StageRows:
    """Return the rows of a stage without those of some neurons."""
    kept = torch.nonzero(~others[rows.neurons])[:, 0]
    both = torch.cat([kept, kept + len(rows.neurons)])
    return StageRows(rows.stage, rows.neurons[kept], rows.slopes[both])


@dataclass(frozen=True, eq=False)
class _SomeRows:
    """Some rows of a stage: neurons, the sign of each, and the slopes."""

    stage: int
    neurons: Int[Tensor, "some"]
    signs: Float[Tensor, "some"]
    slopes: Float[Tensor, "some before"]

    def rows(self, network: StagedNetwork, sizes: list[Tensor]) -> Rows:
        """Return the pre-activations, or their negatives, as rows to be bounded from above."""
        layer = network.stages[self.stage - 1]
        coefficients: list[Tensor | None] = [None] * self.stage
        for source, block in layer.blocks:
            coefficients[source] = (self.signs[:, None] * block[self.neurons])[None]
        size = sizes[self.stage - 1][self.neurons]
        return Rows(coefficients, (self.signs * layer.bias[self.neurons])[None], size[None])


def _of_rows(rows: StageRows, some: Int[Tensor, "some"]) -> _SomeRows:
    count = len(rows.neurons)
    signs = torch.where(some < count, 1.0, -1.0).double()
    return _SomeRows(rows.stage, rows.neurons[some % count], signs, rows.slopes[some])


def _portion(network: StagedNetwork, chunk: int) -> int:
    """Return how many rows may go back at once."""
    return max(1, chunk // (len(network.lower) + network.num_neurons))


def _best_slopes(network: StagedNetwork, cell: CellBounds, some: _SomeRows, schedule: Descent) -> Tensor:
    lines, sizes = Lines.of(cell), [torch.zeros_like(layer.bias) for layer in network.layers]
    slopes = some.slopes[None]
    start = Multipliers(slopes, torch.zeros_like(slopes), slopes[..., :0])
    before = slopes.shape[-1]
    lines = lines._replace(**{name: getattr(lines, name)[..., :before] for name in lines._fields[:5]})
    return descend(network, lines, FixedRows(some.rows(network, sizes)), start, schedule).slopes[0]


def tightened(
    network: StagedNetwork,
    cells: CellBounds,
    sizes: list[Float[Tensor, "_"]],
    stages: tuple[StageRows, ...],
    chunk: int = 1 << 22,
    *,
    always: bool = False,
) -> CellBounds:
    """Tighten the bounds of the neurons of each cell by what is decided before them.

    Args:
        network: The network in its box.
        cells: The cells.
        sizes: Sizes of the terms of the values of each layer.
        stages: Neurons to bound, stage by stage.
        chunk: Greatest number of entries of a tensor.
        always: Whether to bound a stage even if nothing before it is decided.
    """
    cells = cells.tied()
    for rows in stages:
        layer = network.stages[rows.stage - 1]
        if not always and not cells.side[:, : layer.start].any():
            continue
        at = layer.start + rows.neurons
        open_rows = torch.nonzero(cells.relaxed[:, at].any(dim=0))[:, 0]
        if not len(open_rows):
            continue
        some = _of_rows(rows, torch.cat([open_rows, open_rows + len(rows.neurons)]))
        target = some.rows(network, sizes)
        portion = max(1, _portion(network, chunk) // len(some.neurons))
        parts = [_bounds(network, cells[part], target, some, sizes) for part in _slices(len(cells.side), portion)]
        least, most = (
            torch.cat([-part[:, len(open_rows) :] for part in parts]),
            torch.cat([part[:, : len(open_rows)] for part in parts]),
        )
        lower, upper = cells.lower.clone(), cells.upper.clone()
        chosen = at[open_rows]
        lower[:, chosen] = torch.maximum(lower[:, chosen], least)
        upper[:, chosen] = torch.minimum(upper[:, chosen], most)
        cells = CellBounds(lower, upper, cells.side, cells.coupling).tied()
    return cells


def _slices(count: int, portion: int) -> list[slice]:
    return [slice(start, start + portion) for start in range(0, count, portion)]


def _bounds(
    network: StagedNetwork, cells: CellBounds, target: Rows, some: _SomeRows, sizes: list[Tensor]
) -> Float[Tensor, "cells rows"]:
    lines = Lines.of(cells)
    slopes = some.slopes[None]
    found = backward(network, lines, target, slopes, torch.zeros_like(slopes), sizes)
    return proven(network, found)
