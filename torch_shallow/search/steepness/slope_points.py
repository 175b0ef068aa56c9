"""Slope of a program at a point, by the pattern there."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.boxed_simplex import dot
from torch_shallow.search.steepness.spectrum import largest_singular_value

NEAR = 1e-11  # a neuron this close to zero, in the units of the scaled program, has no certain sign


@compiled()
def read_pattern(relaxation, x, pattern):
    """Write which neurons are active at a point; return False if one is too close to zero to have a certain sign."""
    weights, sources = relaxation.weights, relaxation.sources
    count = relaxation.biases.shape[0]
    inputs = weights.shape[1] - count
    sure = True
    for i in range(inputs):
        sources[i] = x[i]
    for j in range(count):
        z = relaxation.biases[j] + dot(weights[j][: inputs + j], sources)
        sources[inputs + j] = max(z, 0.0)
        pattern[j] = 1 if z > 0.0 else 0
        sure = sure and abs(z) > NEAR
    return sure


@compiled("contract", "reassoc", "nsz")
def slope_along(program, pattern, ways, form):
    """Return the sum of the changes of outputs along a known direction; an output of either sign counts by its size."""
    count, inputs = program.reads.shape
    total = 0.0
    for k in range(count + program.out.shape[0]):
        is_output = k >= count
        if not is_output and pattern[k] == 0:
            form.changes[k] = 0.0
            continue
        row = program.out[k - count] if is_output else program.hidden[k]
        read = program.skip[k - count] if is_output else program.reads[k]
        change = 0.0
        for i in range(inputs):
            change += read[i] * ways.most[i]
        for i in range(count if is_output else k):
            change += row[i] * form.changes[i]
        if not is_output:
            form.changes[k] = change
        elif ways.sides[k - count] == ways.sides[k - count]:
            total += ways.sides[k - count] * change
        else:
            total += abs(change)
    return total


@compiled("contract", "reassoc", "nsz")
def slope_of_sum(program, pattern, ways, form):
    """Return the greatest slope, in the best direction, of the sum of outputs with known sides, or of one output."""
    best = -np.inf
    for first in range(program.out.shape[0]):
        if ways.sides[first] == ways.sides[first] and first > 0:
            continue
        for o in range(program.out.shape[0]):
            side = ways.sides[o]
            if side != side:
                side = 1.0 if o == first else 0.0
            form.kept[o] = side
        write_columns(program, pattern, form)
        total, square = 0.0, 0.0
        for i in range(form.columns.shape[0]):
            slope = form.columns[i]
            total += max(slope * ways.least[i], slope * ways.most[i])
            square += slope * slope
        best = max(best, np.sqrt(square) if program.in_ball[0] else total)
    return best


@compiled()
def greatest_singular_value(program, pattern, form):
    """Return the greatest singular value of the local model of several outputs."""
    for output in range(program.out.shape[0]):
        for o in range(program.out.shape[0]):
            form.kept[o] = 1.0 if o == output else 0.0
        write_columns(program, pattern, form)
        for i in range(form.columns.shape[0]):
            form.rows[output, i] = form.columns[i]
    return largest_singular_value(form)


@compiled("contract", "reassoc", "nsz")
def write_columns(program, pattern, form):
    """Write the slopes of a weighted sum of the outputs."""
    count, inputs = program.reads.shape
    for i in range(count):
        form.prices[i] = 0.0
    for i in range(inputs):
        form.columns[i] = 0.0
    for o in range(program.out.shape[0]):
        weight = form.kept[o]
        if weight != 0.0:
            for i in range(count):
                form.prices[i] += weight * program.out[o, i]
            for i in range(inputs):
                form.columns[i] += weight * program.skip[o, i]
    for r in range(count):
        k = count - 1 - r
        price = form.prices[k]
        if pattern[k] == 1 and price != 0.0:
            for i in range(k):
                form.prices[i] += price * program.hidden[k, i]
            for i in range(inputs):
                form.columns[i] += price * program.reads[k, i]
