"""Is an incomplete network silent exactly where it knows nothing?"""

from __future__ import annotations

import numpy as np

from torch_shallow.certify.deep import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.places import Places
from torch_shallow.certify.report import Check, Failure
from torch_shallow.certify.subject import Subject
from torch_shallow.certify.tally import Tally


def check_unexplored(subject: Subject, model: DeepModel, places: Places) -> Check:
    """At random points the output is NaN where the model's own pattern is that of no known region, and only there.

    Points at which a neuron is zero up to rounding lie between regions, one of which may be unknown: they are left out.
    """
    program, tally, silent, examined = subject.program, Tally(), 0, 0
    known_patterns = set(map(bytes, subject.partition.packed_patterns))
    for block in subject.blocks(np.arange(len(places.points)), program.num_inputs + 4 * model.num_neurons):
        x = places.points[block]
        neurons = program.network.neurons
        z, rounding = model.preactivations(x)[:, neurons], model.rounding(x)[0][:, neurons]
        decided = (np.abs(z) > ALLOWED * EPSILON * rounding).all(axis=1)
        known = np.array([bytes(pattern) in known_patterns for pattern in np.packbits(z > 0.0, axis=1)])
        is_nan = np.isnan(subject.evaluate(x)).any(axis=1)
        silent, examined = silent + int((decided & is_nan).sum()), examined + int(decided.sum())
        for at in np.flatnonzero(decided & (known == is_nan)):
            of_region = "a known region" if known[at] else "no known region"
            found = "NaN" if is_nan[at] else "a number"
            tally.add(Failure(f"the model's pattern is that of {of_region}, the output {found}", point=tuple(x[at])))
    return Check(
        "known or NaN",
        "the output is NaN where the model's pattern is that of no known region, and only there",
        places.unit,
        examined,
        None,
        failures=tuple(tally.kept),
        num_failures=tally.count,
        note=f"NaN at {silent:,} points"
        + f"; {len(places.points) - examined:,} others are between regions" * (examined < len(places.points)),
    )
