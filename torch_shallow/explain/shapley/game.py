"""Compiled game between two points: reduced, split into parts and halves, and evaluated."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.explain.shapley.coalitions import play_part
from torch_shallow.explain.shapley.packed import GameStack, Packed, Work
from torch_shallow.explain.shapley.reduction import collect_part, find_parts, reduce_program, write_weights

ELSEWHERE, PLAYER, JOINED, ABSENT = 0, 1, 2, 3  # state of an input; `ELSEWHERE` has no part in what is played
DONE = 0
NODE = 1 << 8  # cost of a part or a half, in coalitions


@compiled("contract", "nsz", vectorise=True)
def play(
    packed: Packed,
    work: Work,
    x: np.ndarray,
    background: np.ndarray,
    values: np.ndarray,
    largest: int,
    budget: int,
    reduce: bool,
) -> int:
    """Add up the Shapley values of the games between one point and some others.

    Where a part of a game is large, it is split into halves: the coalitions with a given player, and those without. In
    each half, more neurons keep their sign.

    Results are added to `values`, of shape (inputs, outputs). Parts of more players than `largest` are split, and at
    most `budget` coalitions are evaluated in a game. Neurons that keep their sign are looked for only if `reduce` is
    True.

    Returns:
        0; or the number of players in the largest part of the first game that exceeds the budget.
    """
    for row in range(background.shape[0]):
        biggest = _play_pair(packed, work, x, background[row], values, largest, budget, reduce)
        if biggest != DONE:
            return biggest
    return DONE


@compiled("contract", "nsz")
def _play_pair(
    packed: Packed,
    work: Work,
    x: np.ndarray,
    reference: np.ndarray,
    values: np.ndarray,
    largest: int,
    budget: int,
    reduce: bool,
) -> int:
    stack, d, n = work.stack, x.shape[0], work.reduced.status.shape[0]
    for i in range(d):
        stack.places[0, i] = PLAYER if x[i] != reference[i] else ELSEWHERE
    depth, biggest, used, begun = 1, 1, 0, False
    while depth > 0:
        at = depth - 1
        joined, absent, players = _enter(stack, at, x, reference)
        # Analysing the neurons costs as much as several coalitions for each variable of their affine forms.
        analyse = reduce and (players > 40 or (1 << players) > 64 * (players + n))
        used += NODE if begun else 0  # a game that is not split costs only its coalitions
        reduce_program(packed, work.reduced, stack.base, stack.change, analyse)
        for o in range(values.shape[1]):
            if not begun:
                stack.references[at, o] = work.reduced.values[n + o]
            work.table.outside[0, o] = work.table.outside[1, o] = 0.0
        find_parts(work.reduced, work.parts)
        _count_constant(work, at, joined, absent)
        for root in range(players):
            if work.parts.parents[root] != root:
                continue
            members, neurons = collect_part(work.reduced, work.parts, root)
            biggest = max(biggest, members) if not begun else biggest
            _sort_players(work, members, neurons)
            if neurons == 0 or members <= largest:
                _count_affine(work, joined, absent, members, values)
                if neurons > 0:
                    used += 1 << members
                    play_part(work.reduced, work.parts, work.table, joined, absent, members, neurons, values)
            elif depth + 2 > stack.places.shape[0]:
                return biggest
            else:
                _push_halves(work, at, depth, members)
                depth += 2
            if used > budget:
                return biggest
        for i in range(d):
            for o in range(values.shape[1]):
                if stack.places[at, i] == JOINED:
                    values[i, o] += work.table.outside[0, o]
                elif stack.places[at, i] == ABSENT:
                    values[i, o] += work.table.outside[1, o]
        depth, begun = depth - 1, True
        if depth > at:
            for i in range(d):
                stack.places[at, i] = stack.places[depth, i]
            for o in range(values.shape[1]):
                stack.references[at, o] = stack.references[depth, o]
    return DONE


@compiled()
def _enter(stack: GameStack, at: int, x: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    """Write the box of the game to be played, and return the numbers of joined, absent and active players."""
    joined = absent = players = 0
    for i in range(x.shape[0]):
        place = stack.places[at, i]
        stack.base[i] = x[i] if place == JOINED else reference[i]
        stack.change[i] = x[i] - reference[i] if place == PLAYER else 0.0
        joined += 1 if place == JOINED else 0
        absent += 1 if place == ABSENT else 0
        players += 1 if place == PLAYER else 0
    return joined, absent, players


@compiled("contract", "nsz")
def _count_constant(work: Work, at: int, joined: int, absent: int) -> None:
    """Add the value if none of the players joins, minus the part that is counted elsewhere."""
    reduced, table = work.reduced, work.table
    write_weights(joined, absent, 0, table.on, table.off)
    for o in range(table.outside.shape[1]):
        constant = reduced.values[reduced.status.shape[0] + o] - work.stack.references[at, o]
        table.outside[0, o] += constant * table.on[0]
        table.outside[1, o] -= constant * table.off[0]


@compiled("contract", "nsz")
def _count_affine(work: Work, joined: int, absent: int, members: int, values: np.ndarray) -> None:
    """Add what the players of a part contribute without its neurons."""
    reduced, table = work.reduced, work.table
    write_weights(joined, absent, 1, table.on, table.off)
    for i in range(members):
        p = work.parts.players[i]
        for o in range(values.shape[1]):
            added = reduced.joins[reduced.status.shape[0] + o, p]
            values[reduced.players[p], o] += added * table.on[1]
            table.outside[0, o] += added * table.on[1]
            table.outside[1, o] -= added * table.off[1]


@compiled("contract", "nsz")
def _push_halves(work: Work, at: int, depth: int, members: int) -> None:
    """Push the two halves of a part onto the stack, divided by the player that moves its neurons most."""
    reduced, parts, stack = work.reduced, work.parts, work.stack
    n, chosen = reduced.status.shape[0], members - 1
    for half in range(2):
        places = stack.places[depth + half]
        for i in range(places.shape[0]):
            places[i] = ELSEWHERE if stack.places[at, i] == PLAYER else stack.places[at, i]
        for i in range(members):
            places[reduced.players[parts.players[i]]] = PLAYER
        places[reduced.players[parts.players[chosen]]] = JOINED if half == 1 else ABSENT
        for o in range(stack.references.shape[1]):
            stack.references[depth + half, o] = reduced.values[n + o]


@compiled("contract", "nsz")
def _sort_players(work: Work, members: int, neurons: int) -> None:
    """Sort the players of a part by how much they move its neurons, ascending."""
    reduced, parts, shares = work.reduced, work.parts, work.table.shares
    for i in range(members):
        shares[i] = 0.0
    for j in range(neurons):
        row, width = reduced.left[parts.neurons[j]], 0.0
        for i in range(members):
            width += abs(reduced.joins[row, parts.players[i]])
        for i in range(members):
            if width > 0.0:
                shares[i] += abs(reduced.joins[row, parts.players[i]]) / width
    for i in range(1, members):
        share, player, place = shares[i], parts.players[i], i
        while place > 0 and shares[place - 1] > share:
            shares[place], parts.players[place] = shares[place - 1], parts.players[place - 1]
            place -= 1
        shares[place], parts.players[place] = share, player
