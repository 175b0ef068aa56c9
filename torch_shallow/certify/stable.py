"""Do the neurons that the program leaves out keep their sign in the box?"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.certify.deep import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.places import Places
from torch_shallow.certify.report import Check, Failure
from torch_shallow.certify.subject import Subject
from torch_shallow.certify.tally import Tally
from torch_shallow.domain import Box


def check_stable_neurons(
    subject: Subject, model: DeepModel, places: Places, rng: np.random.Generator, most: int = 1000
) -> Check:
    """At points and vertices of the box no neuron that the program leaves out has the other sign.

    Args:
        subject: a network whose program has not all neurons of the model.
        model: the model.
        places: points of the box.
        rng: chooses the vertices.
        most: up to so many points, and so many vertices.
    """
    tally, program, network, worst = Tally(), subject.program, subject.program.network, 0.0
    left_out = np.setdiff1d(np.arange(len(network.active)), network.neurons)
    x = places.points[:most]
    if isinstance(subject.shallow.domain, Box):
        corners = np.stack(subject.shallow.domain.bounds(program.in_shape))
        x = np.concatenate([x, np.where(rng.random((most, program.num_inputs)) < 0.5, *corners)])
    for block in subject.blocks(np.arange(len(x)), program.num_inputs + 4 * len(network.active)):
        z = model.preactivations(x[block])[:, left_out]
        wrong = np.where(network.active[left_out], -z, z)
        rounding, _ = model.rounding(x[block], np.any(wrong > 0.0, axis=1))
        wrong -= ALLOWED * EPSILON * rounding[:, left_out]
        worst = max(worst, float(wrong.max(initial=0.0)))
        at = wrong.argmax(axis=1, keepdims=True)
        failed = np.take_along_axis(wrong, at, axis=1)[:, 0] > 0.0
        tally.add_all(failed, partial(_changed, subject, x[block], left_out[at[:, 0]]))
    return Check(
        "stable neurons",
        f"none of the {len(left_out):,} neurons that keep their sign, by the bounds of the reading, has the "
        "other sign at random points and vertices of the box",
        "points",
        len(x),
        None,
        worst,
        "rounding",
        tuple(tally.kept),
        tally.count,
    )


def _changed(
    subject: Subject, x: Float[np.ndarray, "points inputs"], neurons: Int[np.ndarray, "points"], at: int
) -> Failure:
    neuron, program = int(neurons[at]), subject.program
    sign = "active" if program.network.active[neuron] else "inactive"
    return Failure(f"{program.neuron_name(neuron)} is not {sign} here", neuron=neuron, point=tuple(x[at]))
