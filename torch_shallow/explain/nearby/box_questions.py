"""The nearest point in the maximum norm as a question of its own, where there are few inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.domain import Box
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import Posed

FEW_INPUTS = 6  # up to here, `torch_shallow.search.ask` knows cells by their vertices


def box_questions(sought: Sought, slack: float) -> tuple[Posed, ...]:
    """The greatest value of minus the distance, which is the least of some affine functions of the step.

    Where cells are known by their vertices, that search is the faster one if many neurons are undecided.

    Args:
        sought: what is looked for.
        slack: rounding of an output, relative to its terms.

    Returns:
        A question for each alternative; none for another norm, many inputs or whole numbers.
    """
    if sought.norm != np.inf or sought.program.num_inputs > FEW_INPUTS or sought.whole is not None:
        return ()
    return tuple(_box_question(single, slack) for single in sought.single)


def _box_question(sought: Sought, slack: float) -> Posed:
    program, d = sought.program, sought.program.num_inputs
    terms = sought.slack / slack  # by which constraints are measured, so that all have one slack
    terms = np.where(terms > 0.0, terms, 1.0)
    distances = np.zeros((2 * d, program.out_weight.shape[1]))
    distances[:, :d] = np.concatenate([np.eye(d), -np.eye(d)])
    weight = np.concatenate([distances, program.out_weight / terms[:, None]])
    bias = np.concatenate([np.zeros(2 * d), program.out_bias / terms])
    lower, upper = np.maximum(sought.lower, -sought.reach), np.minimum(sought.upper, sought.reach)
    posed = replace(program, out_shape=(len(bias),), out_weight=weight, out_bias=bias)
    return Posed(posed, Box(lower, upper), 2 * d, sought.floor, sought.enough, slack)
