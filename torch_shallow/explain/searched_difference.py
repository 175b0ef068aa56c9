"""Search for the largest difference of two networks, separately for each output and sign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.domain import Box, Domain
from torch_shallow.explain.asking import Asking, claim_of
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.explain.subject import Subject
from torch_shallow.geometry.chart import make_chart
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.ascent import climb
from torch_shallow.search.question import Answer, Posed
from torch_shallow.search.violations import middle_of, terms_of

GLANCES = 64  # points evaluated first, so that there is a value however soon the search is stopped
CLIMBS = 40  # ascent steps from each of them
NEAR = 1e-9  # differences that a search need not tell apart, relative to the difference found


def searched_range(
    subject: Subject, at_most: float | None, tolerance: float, asking: Asking
) -> tuple[OutputRange, Bool[Tensor, "*out_shape"]]:
    """Bound the range of a difference, and say for which outputs it is known as well as was asked for.

    Args:
        subject: the difference a - b.
        at_most: if given, ask only which outputs differ by more than this.
        tolerance: differences that need not be told apart, relative to the terms that outputs are summed from.
        asking: the run of questions.
    """
    program, domain = subject.program, subject.domain
    points, count, ends = _some_points(program, domain), 2 * program.num_outputs, []
    claims = []
    for number in range(count):
        output, sign = number // 2, 1.0 if number % 2 else -1.0
        weight, bias = sign * program.out_weight[output, None], sign * program.out_bias[output, None]
        of_one = replace(program, out_shape=(1,), out_weight=weight, out_bias=bias)
        x, value = _climbed(of_one, domain, points, 0 if asking.no_time_left() else CLIMBS)
        posed = _beyond(Posed(of_one, domain), value, at_most, tolerance)
        found = None
        if value <= posed.enough:
            found = asking.ask(posed, share=1.0 / (count - number), number=number)
        found = asking.glance(posed) if found is None else found
        if found.x is None or found.value < value:
            found = replace(found, x=x, value=value, bound=max(value, found.bound))
        ends.append(found)
        about = f"output {output}, {'a - b' if number % 2 else 'b - a'}"
        claims.append(claim_of(posed, found, np.inf if at_most is None else at_most, about))
    asking.certify(claims)
    lower, upper = ends[::2], ends[1::2]
    shape, place = program.out_shape, (*program.out_shape, *program.in_shape)

    def tensor(values: object, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.array(values)).reshape(shape).to(subject.device)

    nowhere = np.full((len(lower), program.num_inputs), np.nan)
    found_range = OutputRange(
        tensor([-each.value for each in lower], shape),
        tensor([each.value for each in upper], shape),
        tensor([each.x for each in lower], place),
        tensor([each.x for each in upper], place),
        tensor([-1] * len(lower), shape),
        tensor([-1] * len(lower), shape),
        tensor(nowhere, place),
        tensor(nowhere, place),
        residual=0.0,
        attained=True,
        programs=0,
        lower_bound=tensor([-each.bound for each in lower], shape),
        upper_bound=tensor([each.bound for each in upper], shape),
        cells=asking.cells,
        seconds=asking.seconds,
        reason=asking.reason,
    )
    pairs = zip(lower, upper, strict=True)
    return found_range, tensor([_is_known(low, high, at_most) for low, high in pairs], shape)


def _is_known(low: Answer, high: Answer, at_most: float | None) -> bool:
    """Whether the larger side of an output is exact, or it is known on which side of a limit it is."""
    value, bound = max(low.value, high.value), max(low.bound, high.bound)
    if at_most is not None and (value > at_most or bound <= at_most):
        return True
    return not any(each.reason and each.bound > value for each in (low, high))


def _beyond(posed: Posed, value: float, at_most: float | None, tolerance: float) -> Posed:
    """Ask for what exceeds a known value, or, with a limit, only whether anything exceeds the limit.

    Excesses by rounding are ignored, because the search would have to prove that there are none.
    """
    floor = value + NEAR * abs(value) + tolerance * float(terms_of(posed, middle_of(posed)).max())
    return replace(posed, floor=floor) if at_most is None else replace(posed, floor=at_most, enough=at_most)


def _climbed(
    program: ReLUProgram, domain: Domain, points: Float[np.ndarray, "points inputs"], steps: int
) -> tuple[Float[np.ndarray, "inputs"], float]:
    """The best of some points and its value; in a box, after climbing from each of them by some steps."""
    if steps and isinstance(domain, Box):
        network = StagedNetwork.of(program, *domain.bounds(program.in_shape))
        points = np.concatenate([points, climb(network, 1, torch.from_numpy(points), steps).numpy()])
    values = program(points)[:, 0]
    return points[values.argmax()], float(values.max())


def _some_points(program: ReLUProgram, domain: Domain) -> Float[np.ndarray, "points inputs"]:
    """Some points of a bounded domain: at least one, and always the same ones."""
    lower, upper = bounding_box(domain, program.in_shape)
    drawn = np.random.default_rng(0).random((GLANCES, len(lower)))
    points = np.clip(lower + np.concatenate([np.full((1, len(lower)), 0.5), drawn]) * (upper - lower), lower, upper)
    if isinstance(domain, Box):
        return points
    inside = points[domain.contains(torch.from_numpy(points), tolerance=0.0).numpy()]
    if len(inside):
        return inside
    chart = make_chart(program, domain)
    return chart.lift(chart.inner[None])
