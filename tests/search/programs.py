"""Small programs and domains for tests, with all kinds of degeneracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.program.relu_program import ReLUProgram, Stage


def dense_program(num_inputs: int, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> ReLUProgram:
    """Return a program with the given stages, whose output is the sum of everything."""
    stages = tuple(
        Stage(str(k), np.asarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64))
        for k, (w, b) in enumerate(zip(weights, biases, strict=True))
    )
    sources = num_inputs + sum(stage.num_neurons for stage in stages)
    return ReLUProgram((num_inputs,), (1,), stages, np.ones((1, sources)), np.zeros(1))


def arrangement(weight: np.ndarray, bias: np.ndarray) -> ReLUProgram:
    """Return one hidden layer whose rows are hyperplanes."""
    return dense_program(weight.shape[1], [weight], [bias])


def mlp(*sizes: int) -> ReLUProgram:
    """Return the random network of `known_counts`: default initialisation in float32 from seed 0."""
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    weights, biases, before = [], [], 0
    for layer in layers:
        weight = layer.weight.detach().double().numpy()
        skipped = np.zeros((weight.shape[0], sizes[0] + before - weight.shape[1]))
        weights.append(np.concatenate([skipped, weight], axis=1))
        biases.append(layer.bias.detach().double().numpy())
        before += weight.shape[0]
    program = dense_program(sizes[0], weights[:-1], biases[:-1])
    return ReLUProgram(program.in_shape, (sizes[-1],), program.stages, weights[-1], biases[-1])


def draw_program(data: st.DataObject, max_inputs: int = 3, max_neurons: int = 6) -> ReLUProgram:
    """Draw integer weights in up to three stages that read all earlier ones, with repeated, opposite and zero rows."""
    num_inputs = data.draw(st.integers(1, max_inputs))
    seed, no_bias = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.booleans())
    rng = np.random.default_rng(seed)
    weights, biases, before = [], [], 0
    for size in data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)):
        if before + size > max_neurons:
            break
        weight = rng.integers(-2, 3, (size, num_inputs + before)).astype(np.float64)
        bias = np.zeros(size) if no_bias else rng.integers(-2, 3, size).astype(np.float64)
        for i in range(1, size):
            kind = data.draw(st.sampled_from(["as drawn", "repeated", "opposite", "zero", "parallel"]))
            if kind == "zero":
                weight[i] = 0.0
            elif kind != "as drawn":
                weight[i] = -weight[0] if kind == "opposite" else weight[0]
                if kind != "parallel":
                    bias[i] = -bias[0] if kind == "opposite" else bias[0]
        weights.append(weight)
        biases.append(bias)
        before += size
    return dense_program(num_inputs, weights, biases)


def draw_domain(data: st.DataObject, num_inputs: int) -> Domain:
    """Draw all of R^n, a box with fixed, half-infinite and infinite entries, or a bounded or unbounded polytope."""
    kind = data.draw(st.sampled_from(["space", "cube", "box", "polytope"]))
    if kind == "space":
        return WholeSpace()
    if kind == "cube":
        return Box(-1.0, 1.0)
    if kind == "box":
        pairs = [(-1.0, 2.0), (0.0, 0.0), (1.0, 1.0), (-np.inf, 1.0), (0.0, np.inf), (-np.inf, np.inf)]
        chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=num_inputs, max_size=num_inputs))
        return Box([low for low, _ in chosen], [high for _, high in chosen])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = data.draw(st.integers(1, 5))
    return Polytope(rng.integers(-2, 3, (rows, num_inputs)).astype(np.float64), rng.integers(1, 4, rows))
