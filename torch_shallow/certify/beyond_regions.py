"""Checks beyond the program and the known regions: hooks, stable neurons, unexplored cells."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.equality import Places
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.domain import Box
from torch_shallow.program.hooks import hooked_parts

POINTS = 10
ROUNDING = 1e3  # in units of the precision times the largest output


def check_hooks(model: nn.Module, copied: DeepModel, x: Float[np.ndarray, "points inputs"]) -> Check:
    """Compare the model's outputs with and without its hooks, which are not part of what was transformed.

    Args:
        model: The model with its hooks; it is called once.
        copied: A copy of it without hooks, in its own precision.
        x: Points at which to compare.
    """
    x = x[:POINTS]
    expected = copied.final_outputs(x)
    with torch.no_grad():
        output = model(copied.tensor(x))
    found = output.reshape(len(x), -1).double().cpu().numpy()
    # Both run the same code in the same precision: only the order of sums may differ.
    unit = torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    allowed = ROUNDING * unit * np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    tally, same = Tally(), np.isclose(found, expected, rtol=0.0, atol=allowed, equal_nan=True).all(axis=1)
    tally.add_where(~same, "the output differs with the hooks", point=x)
    claim = f"the forward hooks of {', '.join(hooked_parts(model))}, which were left out, do not change the output"
    return tally.check("hooks", claim, "points", len(x), None)


def check_stable_neurons(
    subject: Examined, model: DeepModel, places: Places, rng: np.random.Generator, most: int = 1000
) -> Check:
    """Check at points and vertices of the box that no neuron left out of the program changes its sign.

    Args:
        subject: A network whose program lacks some neurons of the model.
        model: The model.
        places: Points of the box.
        rng: Random generator that chooses the vertices.
        most: Greatest number of points, and of vertices.
    """
    tally, program, network = Tally(), subject.program, subject.program.network
    left_out = np.setdiff1d(np.arange(len(network.active)), network.neurons)
    x = places.points[:most]
    if isinstance(subject.function.domain, Box):
        corners = np.stack(subject.function.domain.bounds(program.in_shape))
        x = np.concatenate([x, np.where(rng.random((most, program.num_inputs)) < 0.5, *corners)])
    for block in subject.blocks(np.arange(len(x)), program.num_inputs + 4 * len(network.active)):
        z = model.preactivations(x[block])[:, left_out]
        wrong = np.where(network.active[left_out], -z, z)
        rounding, _ = model.rounding(x[block], np.any(wrong > 0.0, axis=1))
        wrong -= ALLOWED * EPSILON * rounding[:, left_out]
        tally.measure(wrong)
        at = wrong.argmax(axis=1, keepdims=True)
        failed = np.take_along_axis(wrong, at, axis=1)[:, 0] > 0.0
        tally.add_all(failed, partial(_changed, subject, x[block], left_out[at[:, 0]]))
    claim = (
        f"none of the {len(left_out):,} neurons that keep their sign, by the bounds found on reading the model, has "
        "the other sign at random points and vertices of the box"
    )
    return tally.check("stable neurons", claim, "points", len(x), None, "rounding")


def _changed(
    subject: Examined, x: Float[np.ndarray, "points inputs"], neurons: Int[np.ndarray, "points"], at: int
) -> Failure:
    neuron, program = int(neurons[at]), subject.program
    sign = "active" if program.network.active[neuron] else "inactive"
    return Failure(f"{program.neuron_name(neuron)} is not {sign} here", neuron=neuron, point=tuple(x[at]))


def check_unexplored(subject: Examined, model: DeepModel, places: Places) -> Check:
    """Check at random points that the output is NaN exactly where the model's own pattern belongs to no known region.

    Points at which a neuron is zero up to rounding lie between regions, one of which may be unknown; they are skipped.
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
        for wrong, of_region, found in (
            (known & is_nan, "a known region", "NaN"),
            (~known & ~is_nan, "no known region", "a number"),
        ):
            message = f"the model's pattern is that of {of_region}, the output {found}"
            tally.add_where(decided & wrong, message, point=x)
    claim = "the output is NaN where the model's pattern is that of no known region, and only there"
    others = len(places.points) - examined
    note = f"NaN at {silent:,} points" + f"; {others:,} others are between regions" * (others > 0)
    return tally.check("known or NaN", claim, places.unit, examined, None, note=note)
