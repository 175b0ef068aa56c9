"""Find the affine maps nearest to given values in the maximum norm among those that give each point its class."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.approximation.classes import Classes
from torch_shallow.approximation.minimax import EXACT, FIRST, LEAST, OPTIONS, ROUNDS, solved
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.geometry.highs import linear_program

SHARE = 0.25  # share of the network's lead that the maps' lead must reach
LITTLE = 1.0  # weight of values relative to the lead, if no maps give each point its class


class ClassMaps:
    """Find affine maps that give the network's class at points where that class leads by more than a margin.

    Among these maps, linear programming finds those with the smallest largest deviation. If there are none, it finds
    approximately those that violate the conditions least. Only points that matter become rows of the program, as in
    `NearestMap`.

    Args:
        classes: the classes.
        weight: unit of each output, by which deviations are divided.
        margin: points with at most this lead may have any class.
        room: approximate amount by which the deviation may rise to give the only class of a cell a lead.
    """

    def __init__(self, classes: Classes, weight: Float[np.ndarray, "outputs"], margin: float, room: float) -> None:
        self.classes, self.weight, self.margin, self.room = classes, weight, margin, room

    def fitted(
        self,
        cell: SampledCell,
        y: Float[np.ndarray, "points outputs"],
        terms: list[Int[np.ndarray, "terms"]],
    ) -> tuple[Float[np.ndarray, "outputs homogeneous"], bool]:
        """Return the maps, and whether they give all points their class.

        Args:
            cell: the cell.
            y: outputs of the network at its points.
            terms: for each output, the inputs that may have a coefficient.
        """
        points, outputs = y.shape
        half = np.where(cell.upper > cell.lower, cell.upper - cell.lower, 2.0) / 2
        middle = cell.lower + (cell.upper - cell.lower) / 2
        rows = np.column_stack([(cell.x - middle) / half, np.ones(points)])
        sizes = np.maximum(np.ptp(y, axis=0), LEAST * np.abs(y).max(axis=0)) / self.weight
        height = float(sizes.max(initial=0.0)) or 1.0
        values, unknowns = y / (self.weight * height), rows.shape[1]
        own, leads = self.classes.leads(y)
        sure = leads > self.margin
        least = SHARE * leads / height
        if len(np.unique(own[sure])) == 1:
            least = np.maximum(least, min(SHARE * 0.1 * float(leads.max()), self.room / 2) / height)
        # For each class, its score minus those of the others, for maps in units of `weight` and `height`.
        scores = self.classes.scores
        ahead = np.array([scores[i] - np.delete(scores, i, axis=0) for i in range(len(scores))]) * self.weight
        free = np.full(outputs * unknowns + 2, np.inf)
        lower, upper = -free, free.copy()
        for output, some in enumerate(terms):
            fixed = output * unknowns + np.setdiff1d(np.arange(unknowns - 1), some)
            lower[fixed] = upper[fixed] = 0.0
        lower[-2:], upper[-1] = 0.0, 0.0
        program = linear_program(np.zeros((0, len(free))), (0.0, 0.0), (lower, upper), OPTIONS)
        cost = np.append(np.zeros(len(free) - 2), [1.0, 0.0])
        start = np.linalg.lstsq(rows, values, rcond=None)[0]
        wrong = np.abs(values - rows @ start).max(axis=1)
        order = np.concatenate([np.argsort(-wrong)[: FIRST * unknowns], np.argsort(np.where(sure, leads, np.inf))])
        chosen = np.zeros(points, dtype=bool)
        solution = np.append(start.T.reshape(-1), [0.0, 0.0])
        new, is_met = np.unique(order[: 2 * FIRST * unknowns]), True
        for _ in range(ROUNDS):
            chosen[new] = True
            self._choose(program, rows[new], values[new], ahead[own[new]], least[new], sure[new])
            status = solved(program, cost)
            if status and is_met:
                is_met, cost[-2:] = False, (LITTLE, 1.0)
                program.changeColBounds(len(free) - 1, 0.0, np.inf)
                status = solved(program, cost)
            if status:  # the caller judges the result
                break
            solution = np.array(program.getSolution().col_value)
            found = rows @ solution[:-2].reshape(outputs, unknowns).T
            over = np.abs(values - found).max(axis=1) - solution[-2] * (1.0 + EXACT)
            lacks = least - solution[-1] - np.einsum("po,pko->pk", found, ahead[own]).min(axis=1)
            worse = np.maximum(over, np.where(sure, lacks, -np.inf))
            worse[chosen] = 0.0
            new = np.flatnonzero(worse > 1e-9)
            if not len(new):
                break
            new = new[np.argsort(-worse[new])][: FIRST * unknowns]
        scaled = solution[:-2].reshape(outputs, unknowns) * self.weight[:, None] * height
        weights = scaled[:, :-1] / half
        return np.column_stack([weights, scaled[:, -1] - weights @ middle]), is_met

    @staticmethod
    def _choose(
        program: object,
        rows: Float[np.ndarray, "new unknowns"],
        values: Float[np.ndarray, "new outputs"],
        ahead: Float[np.ndarray, "new others outputs"],
        least: Float[np.ndarray, "new"],
        sure: np.ndarray,
    ) -> None:
        """Add the rows of some points: deviations of each output, and leads over each other class."""
        count, outputs = values.shape
        eye, ones = np.eye(outputs), np.ones((count * outputs, 1))
        of_outputs = np.einsum("pu,ok->poku", rows, eye).reshape(count * outputs, -1)
        flat = values.reshape(-1)
        above = np.column_stack([of_outputs, ones, 0.0 * ones])  # found + deviation >= value
        below = np.column_stack([-of_outputs, ones, 0.0 * ones])
        leading = np.einsum("pu,pko->pkou", rows[sure], ahead[sure]).reshape(-1, of_outputs.shape[1])
        zeros = np.zeros((len(leading), 1))
        every = np.concatenate([above, below, np.column_stack([leading, zeros, zeros + 1.0])])
        sides = np.concatenate([flat, -flat, np.repeat(least[sure], ahead.shape[1])])
        columns = every.shape[1]
        program.addRows(  # type: ignore[attr-defined]
            len(every),
            sides,
            np.full(len(every), np.inf),
            every.size,
            columns * np.arange(len(every), dtype=np.int32),
            np.tile(np.arange(columns, dtype=np.int32), len(every)),
            every.reshape(-1),
        )
