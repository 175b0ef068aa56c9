"""Shapley values of all games between some points and a background."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from queue import SimpleQueue

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import TOLERANCE
from torch_shallow.errors import TransformError
from torch_shallow.explain.function import Function, check_known, outputs_at
from torch_shallow.explain.shapley.game import DONE, play
from torch_shallow.explain.shapley.packed import Packed, Work, pack, work_space
from torch_shallow.explain.shapley.reduction import write_weights
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.points import with_progress
from torch_shallow.program.affine_forms import preactivation_bounds
from torch_shallow.program.extraction import read_program
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.partition import Partition

POINTS_AT_ONCE = 1 << 14


def play_by_values(
    function: Function, x: Float[Tensor, "inputs"], reference: Float[Tensor, "inputs"]
) -> Float[np.ndarray, "inputs outputs"]:
    """Compute the Shapley values of the game between two points from the values of all coalitions.

    Raises:
        TransformError: the function is not known at some coalition.
    """
    values = np.zeros((function.num_inputs, function.num_outputs))
    players = np.flatnonzero((x != reference).cpu().numpy())
    k = len(players)
    on, off = np.zeros(k + 1), np.zeros(k + 1)
    write_weights(0, 0, k, on, off)
    at_empty = outputs_at(function, reference[None]).cpu().numpy()
    for start in range(0, 1 << k, POINTS_AT_ONCE):
        numbers = np.arange(start, min(start + POINTS_AT_ONCE, 1 << k))
        joined = (numbers[:, None] >> np.arange(k)) & 1 == 1
        points = reference.repeat(len(numbers), 1)
        points[:, players] = torch.where(torch.from_numpy(joined).to(x.device), x[players], points[:, players])
        y = outputs_at(function, points).cpu().numpy() - at_empty
        sizes = joined.sum(axis=1)
        values[players] += np.where(joined, on[sizes, None], -off[sizes, None]).T @ y
    return values


SMALL = 1 << 20  # weights up to which a program is kept as one matrix, of which there are several copies


def program_of(function: Function) -> ReLUProgram | None:
    """The program of a whole function, valid wherever it is known; None if there is none, or if it is large."""
    if not isinstance(function, TreeFunction):
        sizes = (function.num_inputs, function.num_neurons, function.num_outputs)
        return read_program(function.traced) if _is_small(*sizes) else None
    partition = function.tree
    if function.may_be_discontinuous or not function.complete or not isinstance(partition, Partition):
        return None
    program = partition.program
    sizes = (program.num_inputs, program.num_neurons, program.num_outputs)
    return program if _is_small(*sizes) else None


def check_coalitions(function: Function, x: Float[Tensor, "inputs"], background: Float[Tensor, "rows inputs"]) -> None:
    """Make sure that all coalitions lie in the domain of a function, given that its points do.

    The largest value of an inequality on the box between two points is attained at a corner, which is a coalition.

    Raises:
        TransformError: some coalition lies outside.
    """
    if isinstance(function, TreeFunction):
        limits = function.domain.limits(function.in_shape)
        if limits and limits[0].ndim == 2:
            a, b = (background.new_tensor(array) for array in limits)
            for row in range(len(background)):
                highest = (a * x).maximum(a * background[row]).sum(1)
                size = (a.abs() * x.abs().maximum(background[row].abs())).sum(1) + b.abs()
                check_known((highest <= b + TOLERANCE * size).all()[None])


def program_between(
    function: Function, x: Float[np.ndarray, "inputs"], reference: Float[np.ndarray, "inputs"]
) -> ReLUProgram | None:
    """The program of a large deep network on the box between two points; None if it is too large there, too.

    Without neurons it is not larger than the values are.
    """
    if isinstance(function, TreeFunction):
        return None
    traced = function.traced
    inputs, outputs = len(x), function.num_outputs
    # The largest m with (m + outputs) (inputs + m) <= SMALL.
    most = max(0, (isqrt((inputs - outputs) ** 2 + 4 * SMALL) - inputs - outputs) // 2)
    bounds = preactivation_bounds(traced, np.minimum(x, reference), np.maximum(x, reference), max_unstable=most)
    if len(bounds) < len(traced.layouts) or sum(int(stage.unstable.sum()) for stage in bounds) > most:
        return None
    return read_program(traced, bounds)


def _is_small(inputs: int, neurons: int, outputs: int) -> bool:
    return (neurons + outputs) * (inputs + neurons) <= SMALL


LARGEST = 15  # players of a part above which it is split into halves
FEW = 10  # players of a game up to which it is played on a large network itself
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
    """Compute Shapley values, averaged over the background.

    Parts of more players than `largest` are split. Without `reduce`, neurons that keep their sign are not looked for;
    the result is the same.

    Raises:
        TransformError: a game takes too many coalitions, or a coalition lies where the function is not known.
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
    """The games of one program, played by threads that each have their own work space."""

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
        """Sum of the Shapley values over a part of the background.

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
    """Play the game of one pair, on the reduced program of a large network between them, or by values."""
    players = int((x != reference).sum())
    if players > FEW or players > max_players:
        point, other = x.cpu().numpy(), reference.cpu().numpy()
        program = program_between(function, point, other)
        if program is not None:
            table = _Table(pack(program), other[None], largest, max_players, reduce)
            return table.play(point, slice(None))
    if players > max_players:
        raise TransformError(
            f"max_players: expected at most {max_players} features that differ between a row of x and one of the "
            f"background, found {players}, and this network can only be evaluated there (it is trained, incomplete or "
            "too large); pass a larger max_players (each step doubles the time), a background closer to x, or the "
            "deep network."
        )
    return play_by_values(function, x, reference)


def _too_many(players: int, max_players: int) -> str:
    return (
        f"max_players: expected games of at most 2 * 2**{max_players} coalitions, found one in which {players} "
        "features reach common neurons that change sign between a row of x and one of the background; pass a larger "
        "max_players (each step doubles the time), a background closer to x, or a network with fewer inputs."
    )
