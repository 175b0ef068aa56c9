"""Shapley values of all games between some points and a background."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.explain.function import Function
from torch_shallow.explain.shapley.by_values import play_by_values
from torch_shallow.explain.shapley.game import DONE, play
from torch_shallow.explain.shapley.packed import Packed, Work, pack, work_space
from torch_shallow.explain.shapley.source import check_coalitions, program_between, program_of
from torch_shallow.shallow.visited.data import with_progress

LARGEST = 15  # a part of more players is split into halves
FEW = 10  # a game of so few players is played on a large network itself
ROWS_AT_ONCE, PAIRS_AT_ONCE = 64, 8
Values = Float[np.ndarray, "rows inputs outputs"]


def solve(
    function: Function,
    x: Float[Tensor, "rows inputs"],
    background: Float[Tensor, "others inputs"],
    max_players: int,
    *,
    progress: bool = False,
    largest: int = LARGEST,
    reduce: bool = True,
) -> Values:
    """Shapley values, mean over the background.

    Args:
        function: what is explained.
        x: the points at which all features have joined.
        background: those at which none has.
        max_players: see `shap_values`.
        progress: show a bar.
        largest: a part of so many players is not split.
        reduce: look for neurons that keep their sign; the result is the same.

    Raises:
        TransformError: see `shap_values`.
    """
    program = program_of(function)
    values = np.zeros((len(x), function.num_inputs, function.num_outputs))
    blocks = [slice(start, min(start + ROWS_AT_ONCE, len(x))) for start in range(0, len(x), ROWS_AT_ONCE)]
    options = (largest, max_players, reduce)
    if program is not None:
        for row in range(len(x)):
            check_coalitions(function, x[row], background)
        points, others = x.cpu().numpy(), background.cpu().numpy()
        table = _Table(pack(program), others, *options)
        with ThreadPoolExecutor(table.threads) as pool:
            for block in with_progress(blocks, "Shapley values", len(x), progress):
                tasks = [(row, part) for row in range(block.start, block.stop) for part in table.parts]
                found = pool.map(lambda task: table.play(points[task[0]], task[1]), tasks)
                for (row, _), part in zip(tasks, found, strict=True):
                    values[row] += part
    else:
        for block in with_progress([slice(row, row + 1) for row in range(len(x))], "Shapley values", len(x), progress):
            for reference in background:
                values[block.start] += _play_alone(function, x[block.start], reference, *options)
    return values / len(background)


class _Table:
    """Where threads play the games of one program, each with work space of its own."""

    def __init__(
        self,
        packed: Packed,
        background: Float[np.ndarray, "others inputs"],
        largest: int,
        max_players: int,
        reduce: bool,
    ) -> None:
        self.packed, self.background, self.reduce = packed, background, reduce
        self.largest, self.max_players = largest, max_players
        self.parts = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, len(background), PAIRS_AT_ONCE)]
        self.threads = torch.get_num_threads()
        self.free: SimpleQueue[Work] = SimpleQueue()
        for _ in range(self.threads):
            self.free.put(work_space(packed))

    def play(self, x: Float[np.ndarray, "inputs"], part: slice) -> Float[np.ndarray, "inputs outputs"]:
        """The sum over a part of the background.

        Raises:
            TransformError: a game takes too many coalitions.
        """
        work = self.free.get()
        values = np.zeros((len(x), work.table.inside.shape[0]))
        budget = 2 << self.max_players
        try:
            members = play(self.packed, work, x, self.background[part], values, self.largest, budget, self.reduce)
        finally:
            self.free.put(work)
        if members != DONE:
            raise TransformError(_too_many(members, self.max_players))
        return values


def _play_alone(
    function: Function,
    x: Float[Tensor, "inputs"],
    reference: Float[Tensor, "inputs"],
    largest: int,
    max_players: int,
    reduce: bool,
) -> Float[np.ndarray, "inputs outputs"]:
    """The game of one pair, on what is left of a large network between them, or by values."""
    players = int((x != reference).sum())
    if players > FEW or players > max_players:
        point, other = x.cpu().numpy(), reference.cpu().numpy()
        program = program_between(function, point, other)
        if program is not None:
            table = _Table(pack(program), other[None], largest, max_players, reduce)
            return table.play(point, slice(None))
    if players > max_players:
        raise TransformError(
            f"max_players: {players} features differ between a row of x and one of the background, and of this network "
            f"only values can be looked at there (it is trained, not complete, or too large), for more than "
            f"2**{max_players} coalitions; pass a larger max_players (a step more takes twice as long), a background "
            "closer to x, or the deep network."
        )
    return play_by_values(function, x, reference)


def _too_many(players: int, max_players: int) -> str:
    return (
        f"max_players: {players} features reach common neurons that change sign between a row of x and one of the "
        f"background, and to play their game takes more than 2 * 2**{max_players} coalitions; pass a larger "
        "max_players (a step more takes twice as long), a background closer to x, or a network with fewer inputs."
    )
