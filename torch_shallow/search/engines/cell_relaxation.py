"""Linear relaxation of a program on a cell, in a boxed simplex tableau, with bounds by weak duality.

Each neuron with z = W [x; h] + b and l <= z <= u has two variables, h and n = h - z, whose true values are relu(z) and
relu(-z), and a row t = s (z - l) - h >= 0 with s = u / (u - l): the chord above the ReLU (Ehlers 2017). An active
neuron has n = 0, an inactive one h = 0, so all cells share one tableau and differ only in their bounds.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import dot, mending

UNDECIDED = -1
ROUNDING = 1e-14  # share of the summed sizes of its terms by which a bound may be off


class Relaxation(Bundle):
    """A scaled program (`bounds/scaled.py`). Columns: inputs, neurons and, if there are several goals, the value."""

    weights: np.ndarray  # float64 (neurons, inputs + neurons)
    biases: np.ndarray  # float64 (neurons,)
    rows: np.ndarray  # float64 (extra rows, columns + 1): further rows, with their constants
    objective: np.ndarray  # float64 (columns + 1,)
    outputs: np.ndarray  # float64 (outputs, inputs + neurons + 1): goals and constraints, for evaluating points
    kept: np.ndarray  # float64 (outputs,): least admissible value of each constraint; -inf for a goal
    price: np.ndarray  # float64 (columns,): work space
    sources: np.ndarray  # float64 (inputs + neurons,): work space
    scores: np.ndarray  # float64 (neurons,): work space


class CellState(Bundle):
    """Bounds and signs of the neurons on a cell."""

    status: np.ndarray  # int8 (neurons,): 1 for active, 0 for inactive, -1 for undecided
    low: np.ndarray  # float64 (neurons,): least pre-activation
    high: np.ndarray  # float64 (neurons,)
    chord_low: np.ndarray  # float64 (neurons,): the bounds between which the tableau's chord is drawn
    chord_high: np.ndarray  # float64 (neurons,)


@compiled()
def slack_tableau(relaxation, state, lp):
    """Write, from the state, the tableau of the basis of all rows."""
    weights, biases = relaxation.weights, relaxation.biases
    count = biases.shape[0]
    inputs = weights.shape[1] - count
    columns = lp.loose.shape[0]
    for j in range(count):
        below, chord = lp.tableau[j], lp.tableau[count + j]
        s = state.chord_high[j] / (state.chord_high[j] - state.chord_low[j])
        for q in range(columns + 1):
            below[q] = 0.0
            chord[q] = 0.0
        for k in range(inputs + count):
            below[k] = -weights[j, k]
            chord[k] = s * weights[j, k]
        below[inputs + j] += 1.0
        chord[inputs + j] -= 1.0
        below[columns] = -biases[j]
        chord[columns] = s * (biases[j] - state.chord_low[j])
    for e in range(relaxation.rows.shape[0]):
        for q in range(columns + 1):
            lp.tableau[2 * count + e, q] = relaxation.rows[e, q]


@compiled()
def bound_neuron(relaxation, state, lp, j):
    """Write the bounds of a neuron's variables."""
    count = relaxation.biases.shape[0]
    inputs, columns = relaxation.weights.shape[1] - count, lp.loose.shape[0]
    h, n, t = inputs + j, columns + j, columns + count + j
    status, low, high = state.status[j], state.low[j], state.high[j]
    lp.lower[h], lp.upper[h] = max(0.0, low), max(0.0, high)
    lp.lower[n], lp.upper[n] = max(0.0, -high), max(0.0, -low)
    if status == 1:
        lp.lower[n] = 0.0
        lp.upper[n] = 0.0
    elif status == 0:
        lp.lower[h] = 0.0
        lp.upper[h] = 0.0
    s = state.chord_high[j] / (state.chord_high[j] - state.chord_low[j])
    lp.lower[t], lp.upper[t] = 0.0, -s * state.chord_low[j]


@compiled("contract", "reassoc", "nsz")
def proven_bound(relaxation, state, lp, objective, row, sign):
    """Return an upper bound of `sign` times the variable of a tableau row, or of the objective, by weak duality.

    Only the multipliers come from the tableau; all other data are the given ones, so errors in the tableau do no harm.
    """
    weights, biases, price = relaxation.weights, relaxation.biases, relaxation.price
    count, rows, columns = biases.shape[0], lp.basic.shape[0], lp.loose.shape[0]
    inputs = weights.shape[1] - count
    constant, own = 0.0, -1
    for q in range(columns):
        price[q] = 0.0
    if row == rows:
        for q in range(columns):
            price[q] = sign * objective[q]
        constant = sign * objective[columns]
    else:
        own = lp.basic[row]
        if own < columns:
            price[own] = sign
    size, bound = abs(constant), 0.0
    for j in range(count):
        below = multiplier(lp, row, columns + j, sign)
        chord = multiplier(lp, row, columns + count + j, sign)
        bound += most(lp, columns + j, below) + most(lp, columns + count + j, chord)
        if own == columns + j:
            below -= sign
        elif own == columns + count + j:
            chord -= sign
        if below == 0.0 and chord == 0.0:
            continue
        s = state.chord_high[j] / (state.chord_high[j] - state.chord_low[j])
        of_z = below - s * chord
        price[inputs + j] -= below - chord
        constant += of_z * biases[j] + chord * s * state.chord_low[j]
        size += abs(of_z * biases[j]) + abs(chord * s * state.chord_low[j])
        for k in range(inputs + j):
            price[k] += of_z * weights[j, k]
    for e in range(relaxation.rows.shape[0]):
        variable = columns + 2 * count + e
        extra = multiplier(lp, row, variable, sign)
        bound += most(lp, variable, extra)
        if own == variable:
            extra -= sign
        if extra != 0.0:
            constant -= extra * relaxation.rows[e, columns]
            size += abs(extra * relaxation.rows[e, columns])
            for q in range(columns):
                price[q] -= extra * relaxation.rows[e, q]
    for q in range(columns):
        term = most(lp, q, price[q])
        bound += term
        size += abs(term)
    return bound + constant + ROUNDING * (rows + columns) * size


@compiled()
def multiplier(lp, row, variable, sign):
    """Return `sign` times the coefficient of a variable in a tableau row."""
    place = lp.place[variable]
    return sign * lp.tableau[row, place] if place >= 0 else 0.0


@compiled()
def most(lp, variable, slope):
    """Return the greatest value of a slope times a variable."""
    return slope * (lp.upper[variable] if slope > 0.0 else lp.lower[variable])


@compiled("contract", "reassoc", "nsz")
def evaluate(relaxation, x, num_goals):
    """Evaluate the program itself at a point: return the least goal, or -inf where a constraint is violated."""
    weights, sources = relaxation.weights, relaxation.sources
    count = relaxation.biases.shape[0]
    inputs = weights.shape[1] - count
    for i in range(inputs):
        sources[i] = x[i]
    for j in range(count):
        z = relaxation.biases[j] + dot(weights[j][: inputs + j], sources)
        sources[inputs + j] = max(z, 0.0)
    least = np.inf
    for g in range(relaxation.outputs.shape[0]):
        y = relaxation.outputs[g, inputs + count] + dot(sources, relaxation.outputs[g])
        if g < num_goals:
            least = min(least, y)
        elif y < relaxation.kept[g]:
            return -np.inf
    return least


@compiled()
def read_inputs(lp, x):
    """Write the inputs of the tableau's point, clipped to their bounds."""
    for i in range(x.shape[0]):
        place = lp.place[i]
        value = lp.at[place] if place >= 0 else lp.value[-1 - place]
        x[i] = min(max(value, lp.lower[i]), lp.upper[i])


@compiled()
def current(lp, variable):
    """Return the value of a variable at the tableau's point."""
    place = lp.place[variable]
    return lp.at[place] if place >= 0 else lp.value[-1 - place]


@compiled()
def loss(lp, variable):
    """Return the least drop of the bound, after the first step of the dual, if a variable is forced to zero."""
    rows, columns = lp.basic.shape[0], lp.loose.shape[0]
    place = lp.place[variable]
    if place >= 0:
        return abs(lp.tableau[rows, place]) * lp.at[place]
    row = -1 - place
    least = np.inf
    for q in range(columns):
        slope = mending(lp, row, q, -1.0)
        if slope > 1e-8:
            least = min(least, abs(lp.tableau[rows, q]) / slope)
    return least * lp.value[row]


@compiled()
def decide(relaxation, state, lp, j, side):
    """Fix the side of a neuron."""
    state.status[j] = side
    if side == 1:
        state.low[j] = max(state.low[j], 0.0)
    else:
        state.high[j] = min(state.high[j], 0.0)
    bound_neuron(relaxation, state, lp, j)
