"""Upper bounds of a program's slopes on a cell: affine functions of the shares of neurons, by backward substitution.

The change of an input by d changes the neurons by p = a y with y = R d + W p, and the outputs by C d + O p. The share a
of a neuron is 1 where it is active and 0 where it is not; on a cell that leaves it open it is in between. Each product
a p_i with p_i between l and u lies below the planes u a and p_i - l (1 - a), and above l a and p_i - u (1 - a)
(McCormick 1976). A mix of the two planes, with a weight for each entry of W, leaves an affine function of shares and d.
With the best weights this bounds as well as the linear program with a variable for each product, whose projection is
the hull of each neuron (Anderson et al. 2020).
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

UNDECIDED = -1
ROUNDING = 1e-15  # rounding error of a sum, per term, as a share of the sizes of its terms


class SlopeProgram(Bundle):
    """Dependence of the changes of a program's neurons and outputs on those of its inputs and on each other."""

    reads: np.ndarray  # float64 (neurons, inputs): R
    hidden: np.ndarray  # float64 (neurons, neurons): W, whose entries from the diagonal on are zero
    skip: np.ndarray  # float64 (outputs, inputs): C
    out: np.ndarray  # float64 (outputs, neurons): O
    in_ball: np.ndarray  # bool (1,): whether d is of Euclidean length 1 rather than in a box
    angles: np.ndarray  # float64 (neurons, neurons): absolute scalar products of the rows of R


class Ways(Bundle):
    """Changes of inputs and sums of outputs that a cell is about."""

    least: np.ndarray  # float64 (inputs,): bounds of d
    most: np.ndarray  # float64 (inputs,)
    sides: np.ndarray  # float64 (outputs,): factor of each output; NaN if it may be 1 or -1
    corners: np.ndarray  # float64 (0 or outputs, outputs): corners of the cell's cone of sides, if it has one
    corner: np.ndarray  # int64 (1,): the corner that gives the sides


class SlopeForm(Bundle):
    """The affine function, the data from which it was made, and work space."""

    mixes: np.ndarray  # float64 (1 or outputs, neurons, neurons + 1): of each corner, the weight of the first plane of
    #   each product, inputs last
    low: np.ndarray  # float64 (neurons,): bounds of p
    high: np.ndarray  # float64 (neurons,)
    entering: np.ndarray  # float64 (2, neurons): bounds of R d
    sizes: np.ndarray  # float64 (neurons,): sizes of the terms of y
    prices: np.ndarray  # float64 (neurons,): coefficients of p
    gains: np.ndarray  # float64 (neurons,): coefficients of a
    pulls: np.ndarray  # float64 (neurons,): in the ball, half of the factor of a (R d), for one output
    along: np.ndarray  # float64 (neurons,): in the ball, how far the pulls go along the columns
    columns: np.ndarray  # float64 (inputs,): coefficients of d
    shares: np.ndarray  # float64 (neurons,): a where the function is greatest
    changes: np.ndarray  # float64 (neurons,): p there, by the mixed planes
    direction: np.ndarray  # float64 (inputs,): d there
    scores: np.ndarray  # float64 (neurons + inputs,): loss due to each undecided entry
    quick: np.ndarray  # float64 (outputs,): the bound at each corner without the linear program
    outputs: np.ndarray  # float64 (3, outputs): bounds of the changes of outputs, and sizes of their terms
    totals: np.ndarray  # float64 (2,): constant, and sum of the sizes of all terms
    rows: np.ndarray  # float64 (outputs, inputs): d-dependent part of each output's function
    rests: np.ndarray  # float64 (outputs,): greatest value of the rest of each output's function
    gram: np.ndarray  # float64 (2, outputs, outputs): work space
    kept: np.ndarray  # float64 (outputs,): work space


@compiled("contract", "reassoc", "nsz")
def bound_changes(program, ways, status, form):
    """Write bounds of the changes of neurons and outputs, by intervals."""
    count, inputs = program.reads.shape
    for k in range(count + program.out.shape[0]):
        is_output = k >= count
        row = program.out[k - count] if is_output else program.hidden[k]
        read = program.skip[k - count] if is_output else program.reads[k]
        least, most, size, square = 0.0, 0.0, 0.0, 0.0
        for i in range(inputs):
            one, other = read[i] * ways.least[i], read[i] * ways.most[i]
            least += min(one, other)
            most += max(one, other)
            size += max(abs(one), abs(other))
            square += read[i] * read[i]
        if program.in_ball[0]:
            most = min(most, np.sqrt(square) * (1.0 + ROUNDING * inputs))
            least = max(least, -most)
        if not is_output:
            form.entering[0, k], form.entering[1, k] = least, most
        for i in range(count if is_output else k):
            one, other = row[i] * form.low[i], row[i] * form.high[i]
            least += min(one, other)
            most += max(one, other)
            size += max(abs(one), abs(other))
        room = ROUNDING * (inputs + count) * size
        least -= room
        most += room
        if is_output:
            form.outputs[0, k - count], form.outputs[1, k - count] = least, most
            form.outputs[2, k - count] = size
            continue
        form.sizes[k] = size
        if status[k] == 1:
            form.low[k], form.high[k] = least, most
        elif status[k] == 0:
            form.low[k], form.high[k] = 0.0, 0.0
        else:
            form.low[k], form.high[k] = min(least, 0.0), max(most, 0.0)


@compiled("contract", "reassoc", "nsz")
def write_form(program, ways, status, form):
    """Write gains, columns and constant of the function; `bound_changes` must have been called on the cell."""
    count, inputs = program.reads.shape
    is_pulled = program.in_ball[0] and (program.out.shape[0] == 1 or ways.corners.shape[0] > 0)
    constant, size = 0.0, 0.0
    for i in range(count):
        form.prices[i] = 0.0
        form.gains[i] = 0.0
        form.pulls[i] = 0.0
    for i in range(inputs):
        form.columns[i] = 0.0
    for o in range(program.out.shape[0]):
        side = ways.sides[o]
        if side != side:
            constant += max(-form.outputs[0, o], form.outputs[1, o])
            continue
        for i in range(count):
            form.prices[i] += side * program.out[o, i]
        for i in range(inputs):
            form.columns[i] += side * program.skip[o, i]
        size += abs(side) * form.outputs[2, o]
    for r in range(count):
        k = count - 1 - r
        price = form.prices[k]
        if status[k] == 0 or price == 0.0:
            continue
        size += abs(price) * form.sizes[k]
        if status[k] == 1:
            for i in range(k):
                form.prices[i] += price * program.hidden[k, i]
            for i in range(inputs):
                form.columns[i] += price * program.reads[k, i]
            continue
        gain = 0.0
        mix, row = form.mixes[ways.corner[0], k], program.hidden[k]
        for i in range(k):
            m = price * row[i]
            w = mix[i]
            first = form.high[i] if m > 0.0 else form.low[i]
            second = form.low[i] if m > 0.0 else form.high[i]
            gain += m * (w * first + (1.0 - w) * second)
            constant -= m * (1.0 - w) * second
            form.prices[i] += m * (1.0 - w)
        w = mix[count]
        if is_pulled:
            w = 0.5
            form.pulls[k] = 0.5 * price
        else:
            first, second = form.entering[1, k], form.entering[0, k]
            if price < 0.0:
                first, second = second, first
            gain += price * (w * first + (1.0 - w) * second)
            constant -= price * (1.0 - w) * second
        for i in range(inputs):
            form.columns[i] += price * (1.0 - w) * program.reads[k, i]
        form.gains[k] = gain
    form.totals[0], form.totals[1] = constant, size


@compiled("contract", "reassoc", "nsz")
def over_directions(program, ways, form):
    """Return the greatest value of the part that depends on d, and write its maximiser to `direction`.

    In the ball it is the length of c + sum s_k u_k R_k, with c the columns, u the pulls, and s_k = 2 a_k - 1; part of
    it is added to the gains (see `pull`).
    """
    total, square = 0.0, 0.0
    for i in range(program.reads.shape[1]):
        slope = form.columns[i]
        form.direction[i] = ways.most[i] if slope > 0.0 else ways.least[i]
        total += slope * form.direction[i]
        square += slope * slope
    if program.in_ball[0]:
        length = np.sqrt(square)
        for i in range(program.reads.shape[1]):
            form.direction[i] = form.columns[i] / length if length > 0.0 else 0.0
        return pull(program, form, square)
    return total


@compiled("contract", "reassoc", "nsz")
def pull(program, form, square):
    """Bound the length of c + sum s_k u_k R_k, adding what depends on shares to the gains.

    Its square is at most q + 2 sum s_k u_k R_k c, where q = |c|^2 + sum |u_k u_l R_k R_l|; and the root of any t is at
    most (t + T) / (2 T^(1/2)) for every T > 0; T is chosen near t where the function is greatest.
    """
    count, inputs = program.reads.shape
    linear = 0.0
    for k in range(count):
        form.along[k] = 0.0
        if form.pulls[k] != 0.0:
            along, crossed = 0.0, 0.0
            for i in range(inputs):
                along += form.columns[i] * program.reads[k, i]
            for other in range(count):
                crossed += abs(form.pulls[other]) * program.angles[k, other]
            form.along[k] = form.pulls[k] * along
            square += abs(form.pulls[k]) * crossed
            linear += abs(form.along[k])
    if linear == 0.0:
        return np.sqrt(square)
    near = square + 2.0 * linear
    for _ in range(2):
        at, root = square, np.sqrt(near)
        for k in range(count):
            at += 2.0 * (form.along[k] if form.gains[k] + 2.0 * form.along[k] / root > 0.0 else -form.along[k])
        near = max(at, 1e-3 * near)
    root = np.sqrt(near)
    total = (square + near) / (2.0 * root)
    for k in range(count):
        if form.along[k] != 0.0:
            form.gains[k] += 2.0 * form.along[k] / root
            total -= form.along[k] / root
    return total


@compiled()
def over_shares(status, form):
    """Return the greatest value of the part that depends on shares, each between 0 and 1; write these to `shares`."""
    total = 0.0
    for k in range(form.gains.shape[0]):
        form.shares[k] = 1.0 if status[k] == 1 or form.gains[k] > 0.0 else 0.0
        if status[k] == 0:
            form.shares[k] = 0.0
        total += max(form.gains[k], 0.0)
    return total


@compiled()
def slack_of(program, form):
    """Return the allowance for rounding of a bound."""
    count, inputs = program.reads.shape
    return ROUNDING * 4.0 * (inputs + count) * form.totals[1]


@compiled("contract", "reassoc", "nsz")
def mix_better(program, ways, status, form, step):
    """Move the weights to the lower plane at the current shares and direction, and write the losses to `scores`.

    The loss of a neuron, or of an entry of d, is the part of the bound due to its products.
    """
    count, inputs = program.reads.shape
    for k in range(count + inputs):
        form.scores[k] = 0.0
    for k in range(count):
        if status[k] == 0:
            form.changes[k] = 0.0
            continue
        entering = 0.0
        for i in range(inputs):
            entering += program.reads[k, i] * form.direction[i]
        price, a = form.prices[k], form.shares[k]
        mix, row = form.mixes[ways.corner[0], k], program.hidden[k]
        if status[k] == 1 or price == 0.0:
            total = entering
            for i in range(k):
                total += row[i] * form.changes[i]
            form.changes[k] = total if status[k] == 1 else a * total
            continue
        total, lost = 0.0, 0.0
        for i in range(k):
            m = price * row[i]
            if m == 0.0:
                continue
            first = form.high[i] if m > 0.0 else form.low[i]
            second = form.low[i] if m > 0.0 else form.high[i]
            one, other = first * a, form.changes[i] - second * (1.0 - a)
            w = mix[i]
            mixed = w * one + (1.0 - w) * other
            total += row[i] * mixed
            gap = m * (mixed - a * form.changes[i])
            lost += gap
            form.scores[i] += gap
            mix[i] = w + step * ((1.0 if m * one < m * other else 0.0) - w)
        if form.pulls[k] != 0.0:
            form.changes[k] = total + (entering if price * entering > 0.0 else 0.0)
            form.scores[k] += lost + abs(form.pulls[k]) * np.sqrt(program.angles[k, k])
            continue
        first, second = form.entering[1, k], form.entering[0, k]
        if price < 0.0:
            first, second = second, first
        one, other = first * a, entering - second * (1.0 - a)
        w = mix[count]
        mixed = w * one + (1.0 - w) * other
        lost += price * (mixed - a * entering)
        mix[count] = w + step * ((1.0 if price * one < price * other else 0.0) - w)
        form.changes[k] = total + mixed
        form.scores[k] += lost
    for k in range(count):
        if status[k] == UNDECIDED:
            form.scores[k] += abs(form.gains[k]) * min(form.shares[k], 1.0 - form.shares[k])
