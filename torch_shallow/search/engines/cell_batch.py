"""Batches of cells that are bounded together, stored as rows of tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_shallow.bounds.backward import CellBounds, Lines, Relaxed, backward, proven, relaxed_point
from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.multipliers import Descent, Multipliers, descend, flat_or_steep
from torch_shallow.bounds.preactivations import BoxBounds, tightened
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.bounds.triangles import solve_triangles

MISSED = 1e-8  # relative: a point that misses a cell by no more than this lies in it up to rounding


@dataclass(frozen=True, eq=False)
class CellBatch:
    """A batch of cells.

    Attributes:
        cells: Bounds of the neurons of each cell.
        multipliers: The multipliers that gave the bounds.
        bound: Proven bound of the least goal in each cell.
        x: Inputs of the best point of each cell's relaxation.
        looseness: How much the relaxation of each neuron adds to the bound; 0 where a neuron is stable.
    """

    cells: CellBounds
    multipliers: Multipliers
    bound: Float[Tensor, "cells"]
    x: Float[Tensor, "cells inputs"]
    looseness: Float[Tensor, "cells neurons"]

    def __len__(self) -> int:
        return len(self.bound)

    def __getitem__(self, cells: Tensor | slice) -> CellBatch:
        """Select cells, in the given order."""
        found, multipliers = self.cells[cells], self.multipliers.of(cells)
        return CellBatch(found, multipliers, self.bound[cells], self.x[cells], self.looseness[cells])

    @property
    def undecided(self) -> Int[Tensor, "cells"]:
        """Number of neurons of each cell that may have either sign."""
        return self.cells.unstable.sum(dim=1)

    @staticmethod
    def joined(batches: list[CellBatch]) -> CellBatch:
        """Concatenate batches, keeping the order of their cells."""
        parts = [(*_tensors(batch),) for batch in batches]
        lower, upper, side, slopes, splits, weights, bound, x, loose = (
            torch.cat(tensors) for tensors in zip(*parts, strict=True)
        )
        cells = replace(batches[0].cells, lower=lower, upper=upper, side=side)
        return CellBatch(cells, Multipliers(slopes, splits, weights), bound, x, loose)


def _tensors(batch: CellBatch) -> tuple[Tensor, ...]:
    cells, multipliers = batch.cells, batch.multipliers
    return cells.lower, cells.upper, cells.side, *multipliers, batch.bound, batch.x, batch.looseness


@dataclass(frozen=True, eq=False)
class CellBounder:
    """Bounds the cells of one question.

    Attributes:
        network: The network in its box.
        box: Bounds that hold in the whole box.
        goals: The outputs to bound.
        schedule: How the multipliers of a cell are chosen.
    """

    network: StagedNetwork
    box: BoxBounds
    goals: Goals
    schedule: Descent

    @property
    def least(self) -> float:
        """Lower bound of the goals in the box; a cell bounded below it has no point that satisfies the constraints."""
        return float(self.box.least[: self.goals.num_goals].min())

    @property
    def whole(self) -> tuple[CellBounds, Multipliers]:
        """The whole box as a cell, and the multipliers to start from."""
        cell = self.box.cell
        slopes = flat_or_steep(Lines.of(cell))
        return cell, Multipliers(slopes, torch.zeros_like(slopes), self.goals.first_weights(1))

    def bounded(
        self,
        cells: CellBounds,
        start: Multipliers,
        ceiling: Float[Tensor, "cells"],
        enough: float,
        schedule: Descent | None = None,
    ) -> CellBatch:
        """Bound a batch of cells.

        Args:
            cells: The cells, with the known bounds of their neurons.
            start: Multipliers to start from.
            ceiling: Bounds already proven.
            enough: Value below which a bound need not be lowered.
            schedule: How to choose the multipliers; by default, as given to the bounder.
        """
        cells = tightened(self.network, cells, self.box.sizes, self.box.stages)
        lines = Lines.of(cells)
        best = descend(self.network, lines, self.goals, start, schedule or self.schedule, max(enough, self.least))
        return self._measured(cells, lines, best, ceiling)

    def _measured(
        self, cells: CellBounds, lines: Lines, chosen: Multipliers, ceiling: Float[Tensor, "cells"]
    ) -> CellBatch:
        """Return the proven bounds that the multipliers give, with what they tell about the neurons."""
        found = backward(
            self.network, lines, self.goals.rows(chosen.weights), chosen.slopes, chosen.splits, self.box.sizes
        )
        point = relaxed_point(self.network, lines, found, chosen.slopes)
        bound = torch.minimum(proven(self.network, found)[:, 0], ceiling)
        bound = torch.where(cells.empty | (bound < self.least), -torch.inf, bound)
        through = torch.cat([point.entering[..., :0], *found.through], dim=-1)
        looseness = torch.where(cells.unstable, looseness_of(cells, lines, through, point)[:, 0], 0.0)
        return CellBatch(cells, chosen, bound, found.at[:, 0], looseness)

    def quick_bounds(self, cells: CellBounds, chosen: Multipliers) -> Float[Tensor, "cells"]:
        """Bound cells with given multipliers, ignoring rounding: an estimate of how good a branching is."""
        rows = self.goals.rows(chosen.weights)
        return backward(self.network, Lines.of(cells), rows, chosen.slopes, chosen.splits).bound[:, 0]

    def by_program(self, batch: CellBatch, enough: float) -> CellBatch:
        """Return a batch of one cell with the bound of its linear program, and the inputs of its solution.

        While the solution misses the cell and the bound is above `enough`, the price of a miss is multiplied by 100.
        """
        lines = Lines.of(batch.cells)
        for price in (1e2, 1e4, 1e6):
            solution = solve_triangles(self.network, batch.cells, self.goals, price)
            if solution is None:
                break
            found = self._measured(batch.cells, lines, solution.multipliers, batch.bound)
            batch = replace(found, x=solution.x[None])
            if solution.missed <= MISSED or float(batch.bound[0]) <= enough:
                break
        return batch

    def in_region(self, x: Float[Tensor, "inputs"]) -> Float[Tensor, "inputs"] | None:
        """Return the best point of the activation region of `x`, up to rounding; None if it is not found."""
        entering = self.network(x)[0]
        side, coupling = torch.where(entering > 0.0, 1.0, -1.0).double(), self.box.cell.coupling
        lower, upper = torch.where(side > 0.0, 0.0, -torch.inf), torch.where(side > 0.0, torch.inf, 0.0)
        if coupling is not None:
            side[coupling.distance] = 0.0
        cell = CellBounds(lower[None], upper[None], side[None], coupling)
        solution = solve_triangles(self.network, cell, self.goals)
        return None if solution is None else solution.x


def looseness_of(
    cells: CellBounds, lines: Lines, through: Float[Tensor, "cells rows neurons"], point: Relaxed
) -> Float[Tensor, "cells rows neurons"]:
    """Return how much the relaxation of each neuron loosens the bounds, judged at the point that attains them.

    The looseness of a difference is added to both of its neurons.
    """
    leaving = point.entering.clamp(min=0.0)
    if cells.coupling is not None:
        first, second, at = cells.coupling.first, cells.coupling.second, cells.coupling.distance
        leaving[..., at] = leaving[..., second] - leaving[..., first]
    gap = (through * (point.leaving - leaving)).clamp(min=0.0)
    loose = gap + 0.1 * through.abs() * lines.offset
    if cells.coupling is not None:
        loose[..., first] += loose[..., at]
        loose[..., second] += loose[..., at]
    return loose
