"""Does every neuron have one sign on every cell?"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Int

from torch_shallow.certify.cell_signs import TOO_MANY, Verdicts, examine_cells
from torch_shallow.certify.programs import failure, limit, sign_by_programs
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.certify.subject import NeuronRows, Subject
from torch_shallow.geometry.rays.generators import FULL, GIVEN_UP, Cone, intersect, whole_space, with_more_room

THINNER = 0.1  # than the tolerance of the search: a cell with no more room than this has no interior


def check_cells(subject: Subject, regions: Int[np.ndarray, "regions"], max_rays: int = 1024) -> Check:
    """Compute the lines and rays of each cell anew, from the half-spaces on its path, and all neurons' values there.

    The tree splits the domain into cells. If on each cell no neuron has a value of the sign that is not in the cell's
    pattern, every cell lies in the activation region of its pattern; if all patterns differ, each cell is that region.
    A cell of more than `max_rays` rays is left to linear programs.
    """
    tally, worst, given_up = Tally(), 0.0, 0
    examiner = _Examiner(subject, max_rays)
    for block in subject.blocks(regions, subject.program.num_neurons * (subject.chart.num_coordinates + 1)):
        neurons = subject.neuron_rows(block)
        verdicts = examiner.examine(block, neurons)
        for at in np.flatnonzero(verdicts.rays == TOO_MANY).tolist():
            given_up += 1
            wrong = sign_by_programs(
                subject.half_spaces(int(block[at])),
                neurons.rows[at],
                neurons.sizes[at],
                neurons.active[at],
                limit(subject),
            )
            if len(wrong):
                verdicts.worst[at], verdicts.neurons[at] = wrong.max(), wrong.argmax()
        worst = max(worst, verdicts.worst.max(initial=0.0))
        tally.add_all(
            verdicts.rays == 0,
            partial(_empty, block),
        )
        tally.add_all(
            ~(verdicts.worst <= limit(subject)),
            partial(_both_signs, subject, block, verdicts),
        )
    return Check(
        "cells",
        "every neuron, cutting or not, has one sign on the lines and rays of a region's cell: that of the pattern",
        "regions",
        len(regions),
        subject.num_regions,
        worst,
        f"{limit(subject):.0e}",
        tuple(tally.kept),
        tally.count,
        f"{given_up:,} cells of more than {max_rays:,} rays were checked by linear programs instead" * (given_up > 0),
    )


def _empty(block: Int[np.ndarray, "regions"], at: int) -> Failure:
    return Failure("its half-spaces leave no interior", region=int(block[at]))


def _both_signs(subject: Subject, block: Int[np.ndarray, "regions"], verdicts: Verdicts, at: int) -> Failure:
    return failure(subject, int(block[at]), int(verdicts.neurons[at]), float(verdicts.worst[at]))


class _Examiner:
    """Drives the compiled loop, and makes room for it."""

    def __init__(self, subject: Subject, max_rays: int) -> None:
        domain = subject.chart.inequalities
        most = len(domain) + subject.paths.longest
        self._subject, self._max_rays = subject, max_rays
        # A region that was found may be as thin as the tolerance of the search.
        self._tolerance = min(subject.tolerance, THINNER * subject.partition.search.tolerance)
        self._half_spaces = np.zeros((most, domain.shape[1]))
        self._half_spaces[: len(domain)] = domain
        cone = whole_space(domain.shape[1], most)
        status = GIVEN_UP if subject.chart.num_corners > max_rays else FULL
        while status == FULL:
            status = intersect(cone, self._half_spaces, len(domain), self._tolerance, max_rays)
            cone = with_more_room(cone) if status == FULL else cone
        self._domain_given_up = status == GIVEN_UP
        self._domain = Cone(*(array.copy() for array in cone))
        self._cone = cone

    def examine(self, regions: Int[np.ndarray, "regions"], neurons: NeuronRows) -> Verdicts:
        """The verdict on each region's cell."""
        paths, count = self._subject.paths, len(regions)
        verdicts = Verdicts(np.full(count, TOO_MANY), np.zeros(count), np.full(count, -1))
        values = np.zeros(neurons.rows.shape[2])
        done = count if self._domain_given_up else 0
        while done < count:
            done = examine_cells(
                self._cone,
                self._domain,
                self._half_spaces,
                paths.regions[regions],
                paths.cuts,
                self._subject.cut_rows,
                neurons.rows,
                neurons.sizes,
                neurons.active,
                self._tolerance,
                self._max_rays,
                done,
                values,
                verdicts,
            )
            if done < count:
                self._cone = with_more_room(self._cone)
        return verdicts
