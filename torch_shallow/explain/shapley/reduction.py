"""Reduction of a program to the box between two points, where neurons that keep their sign are linear."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.decorator import compiled
from torch_shallow.explain.shapley.packed import GameParts, Packed, Reduced


@compiled()
def write_weights(
    joined: int,
    absent: int,
    players: int,
    on: Float[np.ndarray, "sizes"],
    off: Float[np.ndarray, "sizes"],
) -> None:
    """Write the weights of the value of a coalition for the players inside of it and (negatively) for those outside.

    The game has `joined + absent + players` players, and only coalitions count that contain all of the first, none of
    the second, and any `t` of the third. With n players and s members, the weights are (s - 1)! (n - s)! / n! and
    s! (n - s - 1)! / n!, for all s = joined + t, and 0 where nobody is inside or outside.
    """
    n = joined + absent + players
    for t in range(players + 1):
        on[t] = off[t] = 0.0
    if n == 0:
        return
    first = 1 if joined == 0 else 0  # the least t for which someone is inside
    if first <= players:
        s = joined + first
        weight = 1.0 / n
        for i in range(s - 1):  # 1 / (n binomial(n - 1, s - 1))
            weight *= (i + 1) / (n - 1 - i)
        for t in range(first, players + 1):
            on[t] = weight
            s = joined + t
            if s < n:
                weight *= s / (n - s)
    for t in range(players + 1):
        s = joined + t
        if s < n:  # the weight of this value for a player who is about to join
            off[t] = on[t + 1] if t < players else on[t] * s / (n - s) if s > 0 else 1.0 / n


@compiled()
def find_parts(reduced: Reduced, parts: GameParts) -> None:
    """Write the forest of the players and relevant neurons: those of one part have the same root."""
    k, m = reduced.counts[0], reduced.counts[1]
    n = reduced.status.shape[0]
    for i in range(k + m):
        parts.parents[i] = i
    for j in range(m - 1, -1, -1):
        parts.relevant[j] = 0
        for row in range(n, reduced.hidden.shape[0]):
            if reduced.hidden[row, j] != 0.0:
                parts.relevant[j] = 1
        for later in range(j + 1, m):
            if parts.relevant[later] == 1 and reduced.hidden[reduced.left[later], j] != 0.0:
                parts.relevant[j] = 1
    for j in range(m):
        if parts.relevant[j] == 0:
            continue
        row = reduced.left[j]
        for p in range(k):
            if reduced.joins[row, p] != 0.0:
                _join(parts.parents, k + j, p)
        for earlier in range(j):
            if reduced.hidden[row, earlier] != 0.0:
                _join(parts.parents, k + j, k + earlier)


@compiled()
def collect_part(reduced: Reduced, parts: GameParts, root: int) -> tuple[int, int]:
    """Write the players and the relevant neurons of the part with a given root, and return their numbers."""
    players = neurons = 0
    k = reduced.counts[0]
    for p in range(k):
        if find(parts.parents, p) == root:
            parts.players[players] = p
            players += 1
    for j in range(reduced.counts[1]):
        if parts.relevant[j] == 1 and find(parts.parents, k + j) == root:
            parts.neurons[neurons] = j
            neurons += 1
    return players, neurons


@compiled()
def find(parents: np.ndarray, i: int) -> int:
    """Find the root of an element's tree."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled()
def _join(parents: np.ndarray, a: int, b: int) -> None:
    a, b = find(parents, a), find(parents, b)
    parents[max(a, b)] = min(a, b)


INACTIVE, ACTIVE, LEFT = 0, 1, 2


@compiled("contract", "nsz")
def reduce_program(packed: Packed, reduced: Reduced, base: np.ndarray, change: np.ndarray, analyse: bool) -> None:
    """Write the reduced program for inputs between `base` and `base + change`, entry by entry.

    Signs are determined as in `preactivation_bounds`, by affine forms, and exactly for neurons that read only the
    input. Neurons that keep their sign are merged into the weights. If `analyse` is False, all neurons remain.
    """
    rows, d, k = packed.weight.shape[0], base.shape[0], 0
    n = packed.weight.shape[1] - d
    for i in range(d):
        if change[i] != 0.0:
            reduced.players[k] = i
            k += 1
    m = 0
    for row in range(rows):
        _fold(packed, reduced, base, change, row, k, m)
        if row >= n:
            continue
        lower, upper = _bounds(reduced, row, k, m) if analyse else (-1.0, 1.0)
        if lower >= 0.0:
            reduced.status[row] = ACTIVE
        elif upper <= 0.0:
            reduced.status[row] = INACTIVE
        else:
            reduced.status[row], reduced.number[row], reduced.left[m] = LEFT, m, row
            slope = upper / (upper - lower)
            reduced.slopes[m], reduced.errors[m] = slope, -slope * lower
            m += 1
    reduced.counts[0], reduced.counts[1] = k, m


@compiled("contract", "nsz")
def _fold(packed: Packed, reduced: Reduced, base: np.ndarray, change: np.ndarray, row: int, k: int, m: int) -> None:
    """Write a row in terms of the players and of the `m` neurons that remain so far."""
    weight, joins, hidden = packed.weight[row], reduced.joins[row], reduced.hidden[row]
    d, bias = base.shape[0], packed.bias[row]
    for i in range(d):
        bias += weight[i] * base[i]
    for p in range(k):
        joins[p] = weight[reduced.players[p]] * change[reduced.players[p]]
    for j in range(hidden.shape[0]):
        hidden[j] = 0.0
    for u in range(packed.known[row]):
        w = weight[d + u]
        if w == 0.0 or reduced.status[u] == INACTIVE:
            continue
        if reduced.status[u] == LEFT:
            hidden[reduced.number[u]] += w
            continue
        bias += w * reduced.bias[u]
        of_u = reduced.joins[u]
        for p in range(k):
            joins[p] += w * of_u[p]
        of_u = reduced.hidden[u]
        for j in range(m):
            hidden[j] += w * of_u[j]
    reduced.bias[row] = reduced.values[row] = bias
    for j in range(m):
        reduced.values[row] += hidden[j] * max(reduced.values[reduced.left[j]], 0.0)


@compiled("contract", "nsz")
def _bounds(reduced: Reduced, row: int, k: int, m: int) -> tuple[float, float]:
    """Bounds of a row's value on the box, from its affine form, which is stored in the next place.

    Behind remaining neurons, `relu(z)` is `slope * z` plus an error between 0 and its limit.
    """
    joins, errors = reduced.row_joins, reduced.row_errors
    bias = reduced.bias[row]
    for p in range(k):
        joins[p] = reduced.joins[row, p]
    for j in range(m):
        errors[j] = reduced.hidden[row, j]
    for j in range(m):
        w = reduced.hidden[row, j] * reduced.slopes[j]
        if w == 0.0:
            continue
        bias += w * reduced.form_bias[j]
        of_j = reduced.form_joins[j]
        for p in range(k):
            joins[p] += w * of_j[p]
        of_j = reduced.form_errors[j]
        for e in range(j):
            errors[e] += w * of_j[e]
    lower = upper = bias
    for p in range(k):
        lower += min(joins[p], 0.0)
        upper += max(joins[p], 0.0)
    for e in range(m):
        lower += min(errors[e], 0.0) * reduced.errors[e]
        upper += max(errors[e], 0.0) * reduced.errors[e]
    if m < reduced.form_bias.shape[0]:
        reduced.form_bias[m] = bias
        for p in range(k):
            reduced.form_joins[m, p] = joins[p]
        for e in range(m):
            reduced.form_errors[m, e] = errors[e]
    return lower, upper
