"""Fast search for good points of a question: ascent from many starts at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed

STEPS = 2.0 ** -np.arange(0.0, 12.0, 2.0)  # shares of the way to a vertex


def climb(
    posed: Posed, vertices: Float[np.ndarray, "vertices inputs"], starts: int = 48, rounds: int = 12, tried: int = 6
) -> Float[np.ndarray, "inputs"]:
    """Find a point of a polytope with a high value, by Frank-Wolfe steps from mixtures of its vertices.

    Each point moves towards the vertex where the affine map of its own region is greatest, by the share of the way that
    proves best. The random numbers are the same in every call.

    Args:
        posed: The question.
        vertices: Vertices of the polytope.
        starts: Number of starting points.
        rounds: Number of steps of each point.
        tried: Number of points, the best ones, that go on after half of the rounds.
    """
    random = np.random.default_rng(0)
    mixtures = random.exponential(size=(starts, len(vertices))) ** 2
    x = mixtures / mixtures.sum(axis=1, keepdims=True) @ vertices
    value, row = _least(posed, x)
    for number in range(rounds):
        if number == rounds // 2:
            best = np.argsort(-value, kind="stable")[:tried]
            x, value, row = x[best], value[best], row[best]
        slopes = _slopes(posed.program, x, row)
        target = vertices[(slopes @ vertices.T).argmax(axis=1)]
        moved = x[:, None] + STEPS[:, None] * (target - x)[:, None]
        values, rows = (part.reshape(moved.shape[:2]) for part in _least(posed, moved.reshape(-1, x.shape[1])))
        at = values.argmax(axis=1)
        each = np.arange(len(x))
        better = values[each, at] > value
        x[better] = moved[each, at][better]
        value, row = np.where(better, values[each, at], value), np.where(better, rows[each, at], row)
        if value.max() > posed.enough or not better.any():
            break
    return x[value.argmax()]


def _least(
    posed: Posed, x: Float[np.ndarray, "points inputs"]
) -> tuple[Float[np.ndarray, "points"], Int[np.ndarray, "points"]]:
    """Return, for each point, the quantity to raise and its output: the worst violated constraint, else the least goal.

    Points that violate a constraint rank below all others.
    """
    y, goals = posed.program(x), posed.num_goals
    each = np.arange(len(x))
    row = y[:, :goals].argmin(axis=1)
    value = y[each, row]
    if goals < y.shape[1]:
        worst = goals + y[:, goals:].argmin(axis=1)
        broken = y[each, worst] < 0.0
        row = np.where(broken, worst, row)
        value = np.where(broken, -1e300 * (1.0 + np.arctan(-y[each, worst])), value)
    return value, row


def _slopes(
    program: ReLUProgram, x: Float[np.ndarray, "points inputs"], row: Int[np.ndarray, "points"]
) -> Float[np.ndarray, "points inputs"]:
    """Return the gradient of one output at each point."""
    d, pattern = program.num_inputs, program.pattern(x)
    slopes = program.out_weight[row]
    for stage, start, stop in reversed(list(zip(program.stages, program.offsets, program.offsets[1:], strict=False))):
        own = slopes[:, d + start : d + stop] * pattern[:, start:stop]
        slopes = slopes[:, : d + start] + own @ stage.weight
    return slopes[:, :d]
