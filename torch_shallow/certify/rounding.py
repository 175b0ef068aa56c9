"""How far rounding may move the values of a network."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.trace.program import ReLUProgram


def expected_rounding(
    program: ReLUProgram, x: Float[np.ndarray, "points inputs"], unit: float
) -> tuple[Float[np.ndarray, "points neurons"], Float[np.ndarray, "points outputs"]]:
    """Standard deviation of the rounding error of each pre-activation and each output, in a model of random rounding.

    A sum of n terms is n roundings of at most `unit` times the sum of their sizes; errors of earlier neurons are
    carried on by the weights, independently (Higham & Mary, "A new approach to probabilistic rounding error analysis",
    2019).

    Args:
        program: the network.
        x: points.
        unit: the unit roundoff.
    """
    values, errors = x, np.zeros_like(x)
    preactivations = [np.zeros((len(x), 0))]

    def step(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        terms = np.abs(values) @ np.abs(weight).T + np.abs(bias)
        return np.sqrt((errors**2) @ (weight**2).T + weight.shape[1] * (unit * terms) ** 2)

    for stage in program.stages:
        error = step(stage.weight, stage.bias)
        hidden = np.maximum(values @ stage.weight.T + stage.bias, 0.0)
        preactivations.append(error)
        values, errors = np.concatenate([values, hidden], axis=1), np.concatenate([errors, error], axis=1)
    return np.concatenate(preactivations, axis=1), step(program.out_weight, program.out_bias)
