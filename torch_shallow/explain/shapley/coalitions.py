"""All coalitions of one part of a game, in blocks: those of the first seven players, for each of the others."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.functions import compiled
from torch_shallow.explain.shapley.block import expand, play_block
from torch_shallow.explain.shapley.packed import BLOCK_PLAYERS, LANES, Parts, Reduced, Table
from torch_shallow.explain.shapley.weights import write_weights


@compiled("contract", "nsz")
def play_part(
    reduced: Reduced,
    parts: Parts,
    table: Table,
    joined: int,
    absent: int,
    players: int,
    neurons: int,
    values: np.ndarray,
) -> None:
    """Add the Shapley values of what the neurons of a part add to the game, less what they add if nobody joins.

    Args:
        reduced: the game.
        parts: the part of it: its players, those that move neurons least first, and its neurons.
        table: work space; `outside` is added to.
        joined: how many players outside of the part have joined in all coalitions that count.
        absent: how many have not, in all that count.
        players: number of players of the part.
        neurons: number of its neurons.
        values: of shape (inputs, outputs); added to.
    """
    low = min(players, BLOCK_PLAYERS)
    outputs = values.shape[1]
    write_weights(joined, absent, players, table.on, table.off)
    _copy_part(reduced, parts, table, players, neurons)
    for o in range(outputs):
        table.sums[o, 0] = table.sums[o, 1] = 0.0
        for lane in range(LANES):
            table.inside[o, lane] = 0.0
    for others in range(1 << (players - low)):
        size = _join_others(table, neurons + outputs, low, others)
        play_block(table, neurons)
        for lane in range(LANES):
            t = size + table.members[lane]
            table.weights_off[lane] = table.off[t] if lane < 1 << low else 0.0
            table.weights_both[lane] = table.on[t] + table.off[t] if lane < 1 << low else 0.0
        for o in range(outputs):
            total, if_off = _add_up(table.y[o], table.weights_both, table.weights_off, table.inside[o])
            table.sums[o, 0] += total - if_off
            table.sums[o, 1] += if_off
            for bit in range(players - low):
                if (others >> bit) & 1 == 1:
                    values[reduced.players[parts.players[low + bit]], o] += total
    for o in range(outputs):
        for bit in range(low):
            for lane in range(1 << low):
                if (lane >> bit) & 1 == 1:
                    values[reduced.players[parts.players[bit]], o] += table.inside[o, lane]
        for p in range(players):
            values[reduced.players[parts.players[p]], o] -= table.sums[o, 1]
        table.outside[0, o] += table.sums[o, 0]
        table.outside[1, o] -= table.sums[o, 1]


@compiled("contract", "nsz")
def _copy_part(reduced: Reduced, parts: Parts, table: Table, players: int, neurons: int) -> None:
    """Copy what is needed of the neurons and outputs, so that it lies together."""
    n, outputs = reduced.status.shape[0], table.y.shape[0]
    for i in range(neurons + outputs):
        is_neuron = i < neurons
        row = reduced.left[parts.neurons[i]] if is_neuron else n + i - neurons
        table.bias[i] = reduced.bias[row] if is_neuron else 0.0
        for p in range(max(players, BLOCK_PLAYERS)):
            table.joins[p, i] = reduced.joins[row, parts.players[p]] if is_neuron and p < players else 0.0
        table.first[i], table.behind[i] = neurons, 0
        for j in range(min(i, neurons) - 1, -1, -1):
            table.hidden[i, j] = reduced.hidden[row, parts.neurons[j]]
            if table.hidden[i, j] != 0.0:
                table.first[i], table.behind[i] = j, max(table.behind[i], j + 1)
            if not is_neuron:  # so that nobody has the value 0
                table.bias[i] -= table.hidden[i, j] * max(reduced.values[reduced.left[parts.neurons[j]]], 0.0)
        table.rises[i] = table.falls[i] = 0.0
        for p in range(BLOCK_PLAYERS):
            change = table.joins[p, i]
            table.forms[i, 1 + p] = table.joins_of_block[i, 1 + p] = change
            table.rises[i] += max(change, 0.0)
            table.falls[i] += min(change, 0.0)
    for lane in range(LANES):
        table.members[lane] = 0
        for bit in range(BLOCK_PLAYERS):
            table.member[bit, lane] = (lane >> bit) & 1
            table.members[lane] += (lane >> bit) & 1
    for i in range(neurons):
        if table.first[i] == neurons:  # reads no other neuron
            table.forms[i, 0] = 0.0
            expand(table.forms[i], table.member, table.alone[i])


@compiled("contract", "nsz")
def _join_others(table: Table, rows: int, low: int, others: int) -> int:
    """Write the values of all rows for a coalition of players outside of the block; returns its size."""
    size = 0
    for i in range(rows):
        table.values[i] = table.bias[i]
    while others >> size:
        size += 1
    bits, size = size, 0
    for bit in range(bits):
        if (others >> bit) & 1 == 1:
            size += 1
            joins = table.joins[low + bit]
            for i in range(rows):
                table.values[i] += joins[i]
    return size


@compiled("contract", "nsz", "reassoc")
def _add_up(y: np.ndarray, both: np.ndarray, off: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Add the weighted values of a block, for each coalition to `inside`; returns their sums by both weights."""
    total = if_off = 0.0
    for lane in range(LANES):
        weighted = y[lane] * both[lane]
        inside[lane] += weighted
        total += weighted
        if_off += y[lane] * off[lane]
    return total, if_off
