"""Upper bound of the largest singular value of the local models on a cell, for several outputs."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.search.steepness.slope_form import over_shares, slack_of, write_form

SQUARINGS = 24  # of a matrix, after which its trace gives its largest eigenvalue
ROUNDING = 1e-14  # rounding error of each squaring, per row


@compiled()
def bound_spectrum(program, ways, status, form):
    """Return the bound without the linear program; the form is left as that of the output that loses most.

    Each output has its affine function C d + s, with s the greatest value over the shares; it bounds J d and, with -d,
    -J d. So the local model J is within C + E, where no d of length 1 makes any entry of E d larger than that of s.
    """
    outputs, inputs = program.out.shape[0], program.reads.shape[1]
    square, worst = 0.0, 0
    for o in range(outputs):
        choose_output(ways, o)
        write_form(program, ways, status, form)
        rest = form.totals[0] + over_shares(status, form) + slack_of(program, form)
        form.rests[o] = max(rest, 0.0)
        square += form.rests[o] * form.rests[o]
        for i in range(inputs):
            form.rows[o, i] = form.columns[i]
        if form.rests[o] > form.rests[worst]:
            worst = o
    choose_output(ways, worst)
    write_form(program, ways, status, form)
    over_shares(status, form)
    length = 0.0
    for i in range(inputs):
        length += form.columns[i] * form.columns[i]
    for i in range(inputs):
        form.direction[i] = form.columns[i] / np.sqrt(length) if length > 0.0 else 0.0
    for o in range(outputs):
        ways.sides[o] = np.nan
    return (largest_singular_value(form) + np.sqrt(square)) * (1.0 + ROUNDING * outputs)


@compiled()
def choose_output(ways, output):
    """Restrict the ways to one output."""
    for o in range(ways.sides.shape[0]):
        ways.sides[o] = 1.0 if o == output else 0.0


@compiled("contract", "reassoc", "nsz")
def largest_singular_value(form):
    """Return an upper bound for the rows: the m-th root of the trace of the m-th power of the Gram matrix."""
    gram, other = form.gram[0], form.gram[1]
    outputs, inputs = form.rows.shape
    for a in range(outputs):
        for b in range(outputs):
            total = 0.0
            for i in range(inputs):
                total += form.rows[a, i] * form.rows[b, i]
            gram[a, b] = total
    logarithm, share = 0.0, 1.0
    for _ in range(SQUARINGS):
        trace = 0.0
        for a in range(outputs):
            trace += gram[a, a]
        if trace <= 0.0:
            break
        logarithm += share * np.log(trace)
        share *= 0.5
        for a in range(outputs):
            for b in range(outputs):
                total = 0.0
                for c in range(outputs):
                    total += (gram[a, c] / trace) * (gram[c, b] / trace)
                other[a, b] = total
        for a in range(outputs):
            for b in range(outputs):
                gram[a, b] = other[a, b]
    if share == 1.0:
        return 0.0
    trace = 0.0
    for a in range(outputs):
        trace += gram[a, a]
    if trace > 0.0:
        logarithm += share * np.log(trace)
    return np.exp(0.5 * logarithm) * (1.0 + ROUNDING * (inputs + outputs * SQUARINGS))
