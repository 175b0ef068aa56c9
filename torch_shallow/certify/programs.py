"""The sign of every neuron on a region, by linear programs and their duals."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.geometry.minimiser import minimiser


def check_programs(subject: Examined, regions: Int[np.ndarray, "regions"]) -> Check:
    """Bound every neuron on some regions by linear programs, which know nothing of rays."""
    tally, worst = Tally(), 0.0
    for block in subject.blocks(regions, subject.program.num_neurons * (subject.chart.num_coordinates + 1)):
        neurons = subject.neuron_rows(block)
        for region, rows, sizes, active in zip(
            block.tolist(), neurons.rows, neurons.sizes, neurons.active, strict=True
        ):
            wrong = sign_by_programs(subject.half_spaces(region), rows, sizes, active, limit(subject))
            worst = max(worst, wrong.max(initial=0.0))
            tally.add_all(~(wrong <= limit(subject)), partial(_failure, subject, region, wrong))
    return Check(
        "linear programs",
        "no neuron takes the other sign on a region, proven by the dual solution of a linear program",
        "regions",
        len(regions),
        subject.num_regions,
        worst,
        f"{limit(subject):.0e}",
        tuple(tally.kept),
        tally.count,
    )


def limit(subject: Examined) -> float:
    """The largest relative value of the wrong sign that counts as rounding."""
    return 10 * subject.tolerance


def failure(subject: Examined, region: int, neuron: int, value: float) -> Failure:
    """A neuron with a value of the wrong sign somewhere on a region."""
    active = subject.partition.patterns(np.array([region]))[0, neuron]
    return Failure(
        f"{subject.name(neuron)} should be {'positive' if active else 'negative'} or zero on the whole region, but has "
        f"the other sign by a relative {value:.2g}",
        region=int(region),
        neuron=int(subject.program.network.neurons[neuron]),
    )


def _failure(subject: Examined, region: int, wrong: Float[np.ndarray, "neurons"], neuron: int) -> Failure:
    return failure(subject, region, neuron, float(wrong[neuron]))


def sign_by_programs(
    half_spaces: Float[np.ndarray, "rows homogeneous"],
    neuron_rows: Float[np.ndarray, "homogeneous neurons"],
    sizes: Float[np.ndarray, "neurons"],
    active: Bool[np.ndarray, "neurons"],
    limit: float,
) -> Float[np.ndarray, "neurons"]:
    """How far each neuron may have the other sign on a cell: no more than `limit` where it is proven not to.

    By Farkas' lemma `z = (a, t)` is not negative on the cell `H (v, 1) >= 0` if it is a sum `y H + (0, s)` with
    y, s >= 0. The dual solution of the linear program "least z on the cell" is such a y; whatever the solver says of
    it, what is missing to the sum is computed here, relative to 1 + sum(y), the price of moving every half-space by 1.
    If this is no proof, least squares over all y, s >= 0 give the distance of z from such sums, which is the largest
    value of -z at a unit vector of the cell's cone.

    Args:
        half_spaces: the cell, in unit rows H.
        neuron_rows: each neuron's pre-activation over homogeneous coordinates.
        sizes: what to measure values against.
        active: the pattern.
        limit: what counts as a proof.
    """
    targets = (neuron_rows * np.where(active, 1.0, -1.0) / np.where(sizes > 0.0, sizes, 1.0)).T
    wrong = _missing(targets, np.zeros((len(targets), len(half_spaces))), half_spaces)
    if len(half_spaces):
        # Neurons that cut are, up to a factor, among the half-spaces.
        products = np.maximum(targets @ half_spaces.T, 0.0)
        nearest = np.where(products == products.max(axis=1, keepdims=True), products, 0.0)
        wrong = np.minimum(wrong, _missing(targets, nearest, half_spaces))
    open_ones = np.flatnonzero(~(wrong <= limit))
    minimise = minimiser(half_spaces) if len(open_ones) and half_spaces[:, :-1].size else None
    for neuron in open_ones:
        target = targets[neuron : neuron + 1]
        if minimise is not None:
            _, dual = minimise(target[0, :-1])
            wrong[neuron] = _missing(target, dual[None], half_spaces)[0]
        if not wrong[neuron] <= limit:
            wrong[neuron] = _distance(target[0], half_spaces)
    return wrong


def _missing(
    targets: Float[np.ndarray, "neurons homogeneous"],
    duals: Float[np.ndarray, "neurons rows"],
    half_spaces: Float[np.ndarray, "rows homogeneous"],
) -> Float[np.ndarray, "neurons"]:
    """What each sum `y H + (0, s)`, with the best s >= 0, lacks to its target, relative to 1 + sum(y)."""
    missing = targets - duals @ half_spaces
    missing[:, -1] = np.minimum(missing[:, -1], 0.0)
    return np.linalg.norm(missing, axis=1) / (1.0 + duals.sum(axis=1))


def _distance(target: Float[np.ndarray, "homogeneous"], half_spaces: Float[np.ndarray, "rows homogeneous"]) -> float:
    from scipy.optimize import nnls

    positive = np.zeros((1, len(target)))
    positive[0, -1] = 1.0
    try:
        return float(nnls(np.concatenate([half_spaces, positive]).T, target)[1])
    except RuntimeError:  # no convergence, so no proof
        return np.inf
