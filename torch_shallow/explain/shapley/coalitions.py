"""All coalitions of one part of a game, in blocks: those of its first seven players, for each choice of the others."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.explain.shapley.packed import BLOCK_PLAYERS, HIDDEN, LANES, GameParts, Reduced, Table
from torch_shallow.explain.shapley.reduction import write_weights


@compiled("contract", "nsz")
def play_block(table: Table, neurons: int) -> None:
    """Write the outputs of a block, given the values of all rows if none of its players has joined."""
    forms, lanes, active, mixed, narrow = table.forms, table.lanes, 0, 0, 0
    for i in range(neurons + table.y.shape[0]):
        form, weights, is_neuron = forms[i], table.hidden[i], i < neurons
        table.active_before[i], table.mixed_before[i] = active, mixed
        form[0] = table.values[i]
        reads = table.first[i] < table.behind[i]
        width, lower, upper = HIDDEN, form[0] + table.falls[i], form[0] + table.rises[i]
        if reads:
            first, behind = table.first[i], table.behind[i]
            width += table.mixed_before[behind]
            for c in range(1, HIDDEN):
                form[c] = table.joins_of_block[i, c]
            for c in range(HIDDEN, HIDDEN + table.mixed_before[first]):
                form[c] = 0.0
            for c in range(HIDDEN + table.mixed_before[first], width):
                form[c] = weights[table.mixed[c - HIDDEN]]
            for c in range(width, -(-width // 8) * 8):
                form[c] = 0.0
            start, stop = table.active_before[first], table.active_before[behind]
            _add_forms(form, weights, forms, table.active[start:stop])
            for at in range(HIDDEN, width, 8):
                for number in range(max(start, narrow), stop):
                    j = table.active[number]
                    if table.widths[j] > at:
                        for c in range(at, at + 8):
                            form[c] += weights[j] * forms[j, c]
            lower, upper = _bounds(form, table.most, width)
        if is_neuron:
            if upper <= 0.0:
                continue
            if lower >= 0.0:
                table.active[active], table.widths[i] = i, width
                narrow += 1 if width == HIDDEN and narrow == active else 0
                active += 1
                continue
        z = lanes[mixed] if is_neuron else table.y[i - neurons]
        if reads:
            expand(form, table.member, z)
            _add_mixed(z, form[HIDDEN:width], lanes)
        elif not is_neuron:
            z[:] = form[0]
        if is_neuron:
            _rectify(z if reads else table.alone[i], z, 0.0 if reads else form[0])
            table.mixed[mixed], table.most[mixed] = i, upper
            mixed += 1


@compiled("contract", "nsz")
def _add_forms(form: np.ndarray, weights: np.ndarray, forms: np.ndarray, active: np.ndarray) -> None:
    """Add the constants and players of active neurons."""
    c0, c1, c2, c3, c4, c5, c6, c7 = form[0], form[1], form[2], form[3], form[4], form[5], form[6], form[7]
    for number in range(active.shape[0]):
        j = np.uint64(active[number])  # unsigned, so that no check for negative indices is compiled
        w = weights[j]
        c0, c1, c2, c3 = c0 + w * forms[j, 0], c1 + w * forms[j, 1], c2 + w * forms[j, 2], c3 + w * forms[j, 3]
        c4, c5, c6, c7 = c4 + w * forms[j, 4], c5 + w * forms[j, 5], c6 + w * forms[j, 6], c7 + w * forms[j, 7]
    form[0], form[1], form[2], form[3], form[4], form[5], form[6], form[7] = c0, c1, c2, c3, c4, c5, c6, c7


@compiled("contract", "nsz", "reassoc")
def _bounds(form: np.ndarray, most: np.ndarray, width: int) -> tuple[float, float]:
    """Bounds of a form in the block; exact if it contains no neurons."""
    lower = upper = form[0]
    for p in range(1, 1 + BLOCK_PLAYERS):
        lower += min(form[p], 0.0)
        upper += max(form[p], 0.0)
    for m in range(width - HIDDEN):
        change = form[HIDDEN + m] * most[m]
        lower += min(change, 0.0)
        upper += max(change, 0.0)
    return lower, upper


@compiled("contract", "nsz")
def expand(form: np.ndarray, member: np.ndarray, z: np.ndarray) -> None:
    """Evaluate the constant and the players of a form for all coalitions of the block's players."""
    c0, c1, c2, c3, c4, c5, c6, c7 = form[0], form[1], form[2], form[3], form[4], form[5], form[6], form[7]
    m1, m2, m3, m4, m5, m6, m7 = member[0], member[1], member[2], member[3], member[4], member[5], member[6]
    for lane in range(LANES):
        z[lane] = (c0 + c1 * m1[lane] + c2 * m2[lane]) + (c3 * m3[lane] + c4 * m4[lane])
        z[lane] += c5 * m5[lane] + c6 * m6[lane] + c7 * m7[lane]


@compiled("contract", "nsz")
def _add_mixed(z: np.ndarray, weights: np.ndarray, lanes: np.ndarray) -> None:
    """Add the neurons that change sign in the block."""
    mixed = weights.shape[0]
    fours = mixed // 4 * 4
    for m in range(0, fours, 4):
        w0, w1, w2, w3 = weights[m], weights[m + 1], weights[m + 2], weights[m + 3]
        if w0 == 0.0 and w1 == 0.0 and w2 == 0.0 and w3 == 0.0:
            continue
        h0, h1, h2, h3 = lanes[m], lanes[m + 1], lanes[m + 2], lanes[m + 3]
        for lane in range(LANES):
            z[lane] += (w0 * h0[lane] + w1 * h1[lane]) + (w2 * h2[lane] + w3 * h3[lane])
    for m in range(fours, mixed):
        w, h = weights[m], lanes[m]
        for lane in range(LANES):
            z[lane] += w * h[lane]


@compiled("contract", "nsz")
def _rectify(z: np.ndarray, result: np.ndarray, constant: float) -> None:
    """Write the ReLU of values plus a constant."""
    for lane in range(LANES):
        value = z[lane] + constant
        result[lane] = value if value > 0.0 else 0.0


@compiled("contract", "nsz")
def play_part(
    reduced: Reduced,
    parts: GameParts,
    table: Table,
    joined: int,
    absent: int,
    players: int,
    neurons: int,
    values: np.ndarray,
) -> None:
    """Add the Shapley values of the contribution of a part's neurons to the game, minus that if nobody joins.

    `table` is work space, except that its `outside` is added to, like `values`, of shape (inputs, outputs). In all
    coalitions that count, `joined` players outside the part have joined and `absent` players have not. The players of
    the part are sorted by how much they move its neurons, ascending.
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
def _copy_part(reduced: Reduced, parts: GameParts, table: Table, players: int, neurons: int) -> None:
    """Copy the required parts of neurons and outputs into contiguous memory."""
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
            if not is_neuron:  # so that the value is 0 if nobody joins
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
        if table.first[i] == neurons:  # it reads no other neuron
            table.forms[i, 0] = 0.0
            expand(table.forms[i], table.member, table.alone[i])


@compiled("contract", "nsz")
def _join_others(table: Table, rows: int, low: int, others: int) -> int:
    """Write the values of all rows for a coalition of players outside the block, and return its size."""
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
    """Add the weighted values of a block to `inside` for each coalition, and return their sums by both weights."""
    total = if_off = 0.0
    for lane in range(LANES):
        weighted = y[lane] * both[lane]
        inside[lane] += weighted
        total += weighted
        if_off += y[lane] * off[lane]
    return total, if_off
