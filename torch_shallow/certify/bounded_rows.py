"""Compiled rows of neurons under settled signs, with proven bounds of them, rounded outward.

Rows are pairs of float64 numbers (see `twofold.py`), each with a bound of its error in the domain. A bound is a pair
`(b, a)` for b + a |x|_1, where a belongs to entries without bounds. A sum of n non-negative numbers is off by at most
n u / (1 - n u) of it, u = 2^-53 (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2);
`Facts.rounding` exceeds that for everything summed up to one bound here.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.certify.sign_multipliers import Basis
from torch_shallow.certify.twofold import add_product
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

TINY = 1e-290  # exceeds the effect of underflow
NONE = np.iinfo(np.int64).min


class Facts(Bundle):
    """Data to be bounded. A row has a coefficient for each input, then a constant."""

    children: np.ndarray  # int64 (cuts, 2)
    always: np.ndarray  # uint8 (cuts, bytes): neurons active in all known regions below a cut, packed
    never: np.ndarray  # uint8 (cuts, bytes): neurons active in none of them
    patterns: np.ndarray  # uint8 (regions, bytes)
    cut_neurons: np.ndarray  # int64 (cuts,)
    cuts: np.ndarray  # float64 (cuts, inputs + 1)
    cut_lows: np.ndarray  # float64 (cuts or 0, inputs + 1): low parts of the cuts, if any
    cut_errors: np.ndarray  # float64 (cuts, 2): errors of the cuts in the domain
    domain: np.ndarray  # float64 (domain rows, inputs + 1): half-spaces of the domain besides its box
    scaled: np.ndarray  # float64 (faces + domain rows + cuts, coordinates + 1): over `Basis`, in unit length
    lengths: np.ndarray  # float64 (faces + domain rows + cuts,): the lengths by which these were divided
    weights: np.ndarray  # float64 (neurons + outputs, inputs + neurons + 1): coefficients of [x, h, 1]
    ranges: np.ndarray  # int64 (neurons + outputs, 2): first and last neuron that each reads
    offsets: np.ndarray  # int64 (stages + 1,)
    read_stages: np.ndarray  # bool (stages, stages): which stages each stage reads
    lower: np.ndarray  # float64 (inputs,)
    upper: np.ndarray  # float64 (inputs,)
    stretch: np.ndarray  # float64 (coordinates + 1, inputs + 1): takes a row to the coordinates of `Basis`
    maps: np.ndarray  # float64 (regions, outputs, inputs + 1)
    map_lows: np.ndarray  # float64 (regions or 0, outputs, inputs + 1)
    map_errors: np.ndarray  # float64 (regions, outputs, 2)
    rounding: float
    fine: float  # result of `twofold.fine`


class Way(Bundle):
    """Position of the walk, and the data of its path."""

    counts: np.ndarray  # int64 (5,)
    cuts: np.ndarray  # int64 (depth + 1,): cuts on the path
    sides: np.ndarray  # int64 (depth + 1,)
    rows: np.ndarray  # float64 (neurons + outputs, inputs + 1): rows of neurons settled as active
    lows: np.ndarray  # float64 (neurons + outputs, inputs + 1): their low parts
    errors: np.ndarray  # float64 (neurons + outputs, 2): their errors
    sizes: np.ndarray  # float64 (neurons + outputs, 2): their largest values in the domain, term by term
    off: np.ndarray  # float64 (neurons + outputs, 2): error of each activation; for an output, e
    active: np.ndarray  # uint8 (neurons,)
    settled: np.ndarray  # int64 (neurons,): depth at which each was settled; -1 if it is not
    half_spaces: np.ndarray  # float64 (faces + domain rows + depth + 1, coordinates + 1): of the cell, in unit length
    target: np.ndarray  # float64 (coordinates + 1,)
    residual: np.ndarray  # float64 (3, inputs + 1): two parts, and the sizes of its terms
    chosen: np.ndarray  # int64 (2, 2 coordinates + 2): places of multipliers, tried and best; NONE after the last
    values: np.ndarray  # float64 (2, 2 coordinates + 2): multipliers; those of the same place are to be added up
    basis: Basis


@compiled()
def compose(facts: Facts, way: Way, i: int) -> None:
    """Write the row of a neuron or an output, its error and size, and e of the statement as `off`."""
    inputs = way.rows.shape[1] - 1
    neurons = way.settled.shape[0]
    for k in range(inputs + 1):
        way.rows[i, k] = facts.weights[i, k if k < inputs else inputs + neurons]
        way.lows[i, k] = 0.0
    size, slope = size_of(facts, way, i)
    error, error_slope, off, off_slope = 0.0, 0.0, 0.0, 0.0
    for j in range(facts.ranges[i, 0], facts.ranges[i, 1]):
        weight = facts.weights[i, inputs + j]
        if weight == 0.0:
            continue
        off += abs(weight) * way.off[j, 0]
        off_slope += abs(weight) * way.off[j, 1]
        if way.active[j] == 1:
            for k in range(inputs + 1):
                high, low = way.rows[i, k], way.lows[i, k]
                way.rows[i, k], way.lows[i, k] = add_product(high, low, weight, way.rows[j, k], way.lows[j, k])
            size += abs(weight) * way.sizes[j, 0]
            slope += abs(weight) * way.sizes[j, 1]
            error += abs(weight) * way.errors[j, 0]
            error_slope += abs(weight) * way.errors[j, 1]
    more = 1.0 + facts.rounding
    way.errors[i, 0] = (error + facts.fine * size) * more + TINY
    way.errors[i, 1] = (error_slope + facts.fine * slope) * more + (TINY if slope > 0.0 else 0.0)
    way.off[i, 0], way.off[i, 1] = off * more, off_slope * more
    way.sizes[i, 0], way.sizes[i, 1] = size_of(facts, way, i)
    total = 0.0
    for k in range(inputs + 1):
        total += abs(way.rows[i, k]) + abs(way.lows[i, k])
    if not total < np.inf:
        way.errors[i, 0] = np.inf


@compiled()
def size_of(facts: Facts, way: Way, i: int) -> tuple[float, float]:
    """Return the largest value of a row in the domain, term by term."""
    inputs, slope = way.rows.shape[1] - 1, 0.0
    size = abs(way.rows[i, inputs])
    for k in range(inputs):
        reach = max(abs(facts.lower[k]), abs(facts.upper[k]))
        if reach < np.inf:
            size += abs(way.rows[i, k]) * reach
        else:
            slope = max(slope, abs(way.rows[i, k]))
    return size * (1.0 + facts.rounding), slope


@compiled()
def least_value(facts: Facts, way: Way, neuron: int, sign: float) -> tuple[float, float]:
    """Return the least value of a neuron's row times a sign on the cell, b - a |x|_1, by the tried multipliers."""
    residual, inputs = way.residual, way.rows.shape[1] - 1
    for k in range(inputs + 1):
        residual[0, k], residual[1, k] = sign * way.rows[neuron, k], sign * way.lows[neuron, k]
        residual[2, k] = abs(way.rows[neuron, k])
    error, error_slope = way.errors[neuron, 0], way.errors[neuron, 1]
    at, cut = 0, 0
    while at < way.chosen.shape[1] and way.chosen[0, at] != NONE:
        place, value = way.chosen[0, at], way.values[0, at]
        at += 1
        if place >= 0:
            cut = way.cuts[place]
            error += value * facts.cut_errors[cut, 0]
            error_slope += value * facts.cut_errors[cut, 1]
            value *= way.sides[place]
        for k in range(inputs + 1):
            row = facts.cuts[cut, k] if place >= 0 else facts.domain[~place, k]
            low = facts.cut_lows[cut, k] if place >= 0 and facts.cut_lows.shape[0] > 0 else 0.0
            residual[0, k], residual[1, k] = add_product(residual[0, k], residual[1, k], -value, row, low)
            residual[2, k] += abs(value * row)
    least, slope = least_of_residual(facts, way, 1.0)
    more = 1.0 + facts.rounding
    bound = (least - error * more) - facts.rounding * abs(least)
    return (bound if bound > -np.inf else -np.inf), (slope + error_slope) * more


@compiled()
def least_of_residual(facts: Facts, way: Way, sign: float) -> tuple[float, float]:
    """Return the least value of the residual times a sign in the box, b - a |x|_1, minus all rounding so far."""
    inputs, slope = way.rows.shape[1] - 1, 0.0
    least, low_part = sign * way.residual[0, inputs], sign * way.residual[1, inputs]
    terms = way.residual[2, inputs]
    for k in range(inputs):
        value, value_low = sign * way.residual[0, k], sign * way.residual[1, k]
        low, high = facts.lower[k], facts.upper[k]
        wrong = facts.fine * way.residual[2, k]
        end = low if value >= 0.0 else high
        if abs(end) < np.inf:
            least, low_part = add_product(least, low_part, end, value, value_low)
            terms += way.residual[2, k] * (max(abs(low), abs(high)) if abs(low) + abs(high) < np.inf else abs(end))
        else:
            wrong += abs(value) * (1.0 + facts.rounding)
        if not abs(low) + abs(high) < np.inf:
            slope = max(slope, wrong)
    bound = (least - facts.fine * terms * (1.0 + facts.rounding)) - facts.rounding * abs(least) - TINY
    return (bound if bound > -np.inf else -np.inf), slope


@compiled()
def error_of_leaf(facts: Facts, way: Way, region: int) -> float:
    """Return E on a region."""
    inputs, neurons, worst = way.rows.shape[1] - 1, way.settled.shape[0], 0.0
    for output in range(facts.maps.shape[1]):
        i = neurons + output
        compose(facts, way, i)
        for k in range(inputs + 1):
            found = facts.maps[region, output, k]
            low = facts.map_lows[region, output, k] if facts.map_lows.shape[0] > 0 else 0.0
            high, low = add_product(found, low, -1.0, way.rows[i, k], way.lows[i, k])
            way.residual[0, k], way.residual[1, k] = high, low
            way.residual[2, k] = abs(found) + abs(way.rows[i, k])
        least, slope = least_of_residual(facts, way, 1.0)
        most, most_slope = least_of_residual(facts, way, -1.0)
        error = max(-least, -most, 0.0) + way.errors[i, 0] + way.off[i, 0] + facts.map_errors[region, output, 0]
        growth = max(slope, most_slope) + way.errors[i, 1] + way.off[i, 1] + facts.map_errors[region, output, 1]
        error, growth = error * (1.0 + facts.rounding), growth * (1.0 + facts.rounding)
        if not (error <= worst and growth <= worst):
            worst = max(error, growth) if error < np.inf and growth < np.inf else np.inf
    return worst
