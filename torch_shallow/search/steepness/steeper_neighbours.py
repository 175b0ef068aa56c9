"""Climbing from a region to steeper neighbours, as long as there is one."""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.search.steepness.region_interior import interior_of_region
from torch_shallow.search.steepness.slope_form import SlopeProgram
from torch_shallow.search.steepness.steepness import Steepness

STEPS = 64  # at most
TRIED = 12  # neighbours of a region, the steepest first, that are tested for an interior
MORE = 1e-9  # relative gain that makes a neighbour steeper


def climb(
    asked: Steepness,
    program: SlopeProgram,
    scaled: ScaledProgram,
    walls: Float[np.ndarray, "rows inputs1"],
    v: Float[np.ndarray, "free"],
    until: float = np.inf,
) -> Float[np.ndarray, "free"]:
    """Return an interior point of a region at least as steep as that of `v`, in scaled inputs.

    Neighbours differ in the sign of one neuron. A linear program tells whether such a region has an interior.

    Args:
        asked: What is steep.
        program: The slopes of the network.
        scaled: The network in scaled inputs.
        walls: Half-spaces of the domain, `walls @ (x, 1) >= 0`.
        v: An interior point of a region.
        until: Time on the monotonic clock at which to stop.
    """
    pattern = pattern_at(scaled, v)
    value = -np.inf
    for _ in range(STEPS):
        if time.monotonic() >= until:
            return v
        own, others = neighbouring_slopes(program, pattern)
        value = max(value, asked.of(own))
        neighbours = pattern ^ np.eye(len(pattern), dtype=bool)
        values = np.array([asked.of(slopes) for slopes in others])
        for j in np.argsort(-values, kind="stable")[:TRIED]:
            if values[j] <= value + MORE * abs(value):
                return v
            inner, _ = interior_of_region(scaled, walls, neighbours[j].astype(np.int8))
            if inner is not None:
                v, value, pattern = inner, float(values[j]), neighbours[j]
                break
        else:
            return v
    return v


def pattern_at(scaled: ScaledProgram, v: Float[np.ndarray, "free"]) -> Bool[np.ndarray, "neurons"]:
    """Return which neurons are active at a point, in scaled inputs."""
    count, n = len(scaled.neurons), scaled.num_free
    sources = np.concatenate([v, np.zeros(count)])
    active = np.zeros(count, dtype=bool)
    for j in range(count):
        z = scaled.weights[j] @ sources + scaled.biases[j]
        sources[n + j], active[j] = max(z, 0.0), z > 0.0
    return active


def neighbouring_slopes(
    program: SlopeProgram, pattern: Bool[np.ndarray, "neurons"]
) -> tuple[Float[np.ndarray, "outputs inputs"], Float[np.ndarray, "neurons outputs inputs"]]:
    """Return the local model of a pattern, and those of all patterns that differ from it in one neuron.

    The neuron adds or removes a single product: what its activation does to the outputs, times its own slopes.
    """
    count, inputs = program.reads.shape
    entering, leaving, effect = np.zeros((count, inputs)), np.zeros((count, inputs)), program.out.copy()
    for k in range(count):
        entering[k] = program.reads[k] + program.hidden[k, :k] @ leaving[:k]
        leaving[k] = pattern[k] * entering[k]
    for k in np.flatnonzero(pattern)[::-1]:
        effect[:, :k] += np.outer(effect[:, k], program.hidden[k, :k])
    own: np.ndarray = program.skip + program.out @ leaving
    signed = np.where(pattern, -1.0, 1.0) * effect
    return own, own + signed.T[:, :, None] * entering[:, None]


def slopes_of(
    program: SlopeProgram, patterns: Bool[np.ndarray, "some neurons"]
) -> Float[np.ndarray, "some outputs inputs"]:
    """Return the local models of some patterns, in the inputs that are not fixed."""
    count, inputs = program.reads.shape
    changes = np.zeros((count, len(patterns), inputs))
    for k in range(count):
        of_k = program.reads[k] + np.tensordot(program.hidden[k, :k], changes[:k], 1)
        changes[k] = patterns[:, k, None] * of_k
    slopes: np.ndarray = program.skip[:, None] + np.tensordot(program.out, changes, 1)
    return slopes.transpose(1, 0, 2)
