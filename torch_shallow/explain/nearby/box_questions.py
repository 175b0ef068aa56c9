"""The nearest point in the maximum norm as an ordinary question of the search, for few inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.domain import Box
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import Posed

FEW_INPUTS = 6  # largest number of inputs for which `torch_shallow.search.ask` represents cells by their vertices


def box_questions(sought: Sought, slack: float) -> tuple[Posed, ...]:
    """Ask for the greatest value of minus the distance, which is the least of some affine functions of the step.

    Where cells are represented by their vertices, this search is faster if many neurons are undecided.

    Args:
        sought: the point that is sought.
        slack: rounding error of an output, relative to its terms.

    Returns:
        A question for each alternative; none for another norm, many inputs or integer entries.
    """
    if sought.norm != np.inf or sought.program.num_inputs > FEW_INPUTS or sought.whole is not None:
        return ()
    return tuple(_box_question(single, slack) for single in sought.single)


def _box_question(sought: Sought, slack: float) -> Posed:
    program, d = sought.program, sought.program.num_inputs
    terms = sought.slack / slack  # sizes by which constraints are scaled, so that all have the same slack
    terms = np.where(terms > 0.0, terms, 1.0)
    distances = np.zeros((2 * d, program.out_weight.shape[1]))
    distances[:, :d] = np.concatenate([np.eye(d), -np.eye(d)])
    weight = np.concatenate([distances, program.out_weight / terms[:, None]])
    bias = np.concatenate([np.zeros(2 * d), program.out_bias / terms])
    lower, upper = np.maximum(sought.lower, -sought.reach), np.minimum(sought.upper, sought.reach)
    posed = replace(program, out_shape=(len(bias),), out_weight=weight, out_bias=bias)
    return Posed(posed, Box(lower, upper), 2 * d, sought.floor, sought.enough, slack)
