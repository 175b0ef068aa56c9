"""Search for the signs and bounds of slopes, and the choice of the networks that are searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.bounds.bounding_box import is_bounded
from torch_shallow.domain import Domain
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.function import known_function, known_network
from torch_shallow.explain.globally.in_chart import continuous
from torch_shallow.explain.subject import Subject, subject_of
from torch_shallow.functions import TreeFunction
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Answer
from torch_shallow.search.steepness.steepness import Steepness

if TYPE_CHECKING:
    from torch_shallow.search.steepness.slope_engine import Bounded

NEURONS = 0.5  # share of a time limit that bounding the neurons may take


def searched_subject(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None,
    example_input: Tensor | None,
) -> Subject | None:
    """The subject of a search, for a deep model in a bounded domain; None for anything else."""
    is_model = isinstance(shallow, nn.Module | ExportedProgram) and not isinstance(shallow, SoftReLU)
    if domain is None or not is_model or known_function(shallow) is not None:
        return None
    subject = subject_of(shallow, domain, example_input, drop_head=True)
    return subject if is_bounded(subject.domain, subject.program.in_shape) else None


def looked_at(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None,
    example_input: Tensor | None,
    options: SearchOptions,
    name: str,
) -> tuple[TreeFunction, str]:
    """Return a network that is not searched: with all regions, or with those of an unbounded domain found in time.

    Returns:
        The function, and the reason why it does not know all regions; empty if it does.

    Raises:
        TransformError: search options are given with a network whose regions are known, or the network may jump.
    """
    deep = not isinstance(shallow, SoftReLU) and known_function(shallow) is None
    if deep and isinstance(shallow, nn.Module | ExportedProgram):
        network, reason = options.regions_of(shallow, domain, example_input)
        return continuous(network.function, name), reason
    options.refuse("a network whose regions are known, all of which are examined")
    return continuous(known_network(shallow, domain), name), ""


@dataclass(frozen=True, eq=False)
class SlopeEnds:
    """Result of a search for the slopes of each output in each input, as minus the least slope and the greatest one.

    Attributes:
        found: greatest value found of minus the slope, and of the slope.
        bound: proven upper bounds of both in all regions.
        points: interior points of regions that have the values found.
        rounding: size up to which values count as zero.
        fixed: which inputs have only one value.
    """

    found: Float[np.ndarray, "2 outputs inputs"]
    bound: Float[np.ndarray, "2 outputs inputs"]
    points: Float[np.ndarray, "2 outputs inputs inputs"]
    rounding: Float[np.ndarray, "outputs inputs"]
    fixed: Bool[np.ndarray, "inputs"]


@dataclass(eq=False)
class SlopeSearch:
    """A search for slopes of a program, one after another.

    Attributes:
        program: the network.
        domain: domain of the search; bounded.
        asking: the options, and the effort spent.
    """

    program: ReLUProgram
    domain: Domain
    asking: Asking

    @cached_property
    def moving(self) -> Bool[np.ndarray, "inputs"]:
        """Which inputs have more than one value."""
        return Steepness(self.program, self.domain).moving

    @cached_property
    def bounded(self) -> Bounded:
        """The program with bounds on the domain."""
        from torch_shallow.search.steepness.slope_engine import Bounded  # numba takes a while to import

        limit = self.asking.options.time_limit
        until = np.inf if limit is None else self.asking.begun + NEURONS * limit
        with self.asking.watched():
            return Bounded.of(self.program, self.domain, until)

    def ends(
        self,
        rounding: Float[np.ndarray, "outputs inputs"],
        wanted: Bool[np.ndarray, "2 outputs inputs"],
        exact: bool,
        until_broken: bool = False,
    ) -> SlopeEnds:
        """Find the ends of the slopes, or at least on which side of 0 they are.

        Args:
            rounding: size up to which values count as zero.
            wanted: which ends to search for; the others are estimated from some points.
            exact: whether to continue the search when the sign is known.
            until_broken: whether one positive end among those wanted is enough.
        """
        from torch_shallow.search.steepness.steepest import interior_points, local_models, steepest

        inputs, whole = self.program.num_inputs, self.bounded
        x = interior_points(whole)
        slopes = local_models(self.program, x) * self.moving
        signed = np.stack([-slopes, slopes])
        at = signed.argmax(axis=1)
        found = np.take_along_axis(signed, at[:, None], axis=1)[:, 0]
        points, bound = x[at], np.full(found.shape, np.inf)
        bound[..., ~self.moving] = found[..., ~self.moving] = 0.0
        wanted = wanted & self.moving
        for side, row, column in np.argwhere(wanted):
            if until_broken and (wanted & (found > rounding)).any():
                break
            zero = rounding[row, column]
            known = found[side, row, column]
            if known > zero and not exact:
                continue
            direction = np.zeros(inputs)
            direction[column] = 1.0 if side else -1.0
            one = with_output(self.program, row)
            limits = {} if exact else {"floor": zero, "enough": zero}
            asked = Steepness(one, self.domain, direction=direction, **limits)
            if exact:
                asked = replace(asked, floor=known)
            answer = self.ask(asked, whole.of_output(row), steepest)
            if answer is None:
                break
            bound[side, row, column] = max(answer.bound, known)
            if answer.x is not None and answer.value > known:
                found[side, row, column], points[side, row, column] = answer.value, answer.x
        return SlopeEnds(found, bound, points, rounding, ~self.moving)

    def ask(self, asked: Steepness, bounded: Bounded, steepest: Callable[..., Answer]) -> Answer | None:
        """Answer one question; None if no time is left."""
        asking, options = self.asking, self.asking.options
        limit = options.time_limit
        left = None if limit is None else limit - asking.seconds
        if left is not None and left <= 0.0:
            asking.reason, asking.is_over = asking.reason or f"time_limit={limit}", True
        if asking.is_over:
            return None
        found = steepest(
            asked,
            bounded,
            points=(),
            workers=options.workers,
            time_limit=left,
            progress=options.progress,
            patience=asking.patient(),
        )
        asking.cells += found.cells
        if found.reason:
            limited = limit is not None and found.reason.startswith("time_limit")
            asking.reason, asking.is_over = f"time_limit={limit}" if limited else found.reason, True
        return found


def with_output(program: ReLUProgram, output: int) -> ReLUProgram:
    """The program with a single output."""
    rows = slice(output, output + 1)
    return replace(program, out_shape=(1,), out_weight=program.out_weight[rows], out_bias=program.out_bias[rows])


def rounding_of_slopes(program: ReLUProgram, tolerance: float) -> Float[np.ndarray, "outputs inputs"]:
    """Size up to which slopes count as zero: a share of the terms they are summed from, or the rounding of bounds."""
    d = program.num_inputs
    sizes = np.eye(d)
    for weight in (*(stage.weight for stage in program.stages), program.out_weight):
        sizes = np.concatenate([sizes, np.abs(weight) @ sizes])
    most = sizes[len(sizes) - program.num_outputs :]
    of_bounds = 2e-14 * (d + program.num_neurons) * (len(program.stages) + 1)
    rounding: np.ndarray = np.maximum(tolerance * program.slope_terms, of_bounds * most)
    return rounding
