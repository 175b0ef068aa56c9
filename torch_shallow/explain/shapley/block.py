"""The coalitions of a block: those of seven players, for one coalition of the others.

As long as these seven move neurons little, most neurons keep their sign in the block. These need no value for each
coalition, for they are affine in the block's players and in the neurons that do not.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.functions import compiled
from torch_shallow.explain.shapley.packed import BLOCK_PLAYERS, HIDDEN, LANES, Table


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
    """Add constants and players of active neurons."""
    c0, c1, c2, c3, c4, c5, c6, c7 = form[0], form[1], form[2], form[3], form[4], form[5], form[6], form[7]
    for number in range(active.shape[0]):
        j = np.uint64(active[number])  # so that nobody looks whether it is negative
        w = weights[j]
        c0, c1, c2, c3 = c0 + w * forms[j, 0], c1 + w * forms[j, 1], c2 + w * forms[j, 2], c3 + w * forms[j, 3]
        c4, c5, c6, c7 = c4 + w * forms[j, 4], c5 + w * forms[j, 5], c6 + w * forms[j, 6], c7 + w * forms[j, 7]
    form[0], form[1], form[2], form[3], form[4], form[5], form[6], form[7] = c0, c1, c2, c3, c4, c5, c6, c7


@compiled("contract", "nsz", "reassoc")
def _bounds(form: np.ndarray, most: np.ndarray, width: int) -> tuple[float, float]:
    """Bounds of a form in the block; exact if it has no neurons."""
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
    """Write the values of the block's players in a form, for all their coalitions."""
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
    """Write the ReLU of values and a constant."""
    for lane in range(LANES):
        value = z[lane] + constant
        result[lane] = value if value > 0.0 else 0.0
