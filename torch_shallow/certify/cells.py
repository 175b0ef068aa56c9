"""Does every neuron have one sign on every cell?"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.certify.examined import Examined, NeuronRows
from torch_shallow.certify.programs import failure, limit, sign_by_programs
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.rays.generators import (
    DONE,
    FULL,
    GIVEN_UP,
    Cone,
    copy_ray,
    intersect,
    whole_space,
    with_more_room,
)
from torch_shallow.geometry.tree_kernels import write_path

TOO_MANY = -1


class Verdicts(Bundle):
    """What was found on each region's cell."""

    rays: np.ndarray  # int64: number of rays; TOO_MANY if there are too many, 0 if the cell has no interior
    worst: np.ndarray  # float64: largest relative value of the wrong sign
    neurons: np.ndarray  # int64: the neuron that has it


@compiled()
def examine_cells(
    cone: Cone,
    domain: Cone,
    half_spaces: Float[np.ndarray, "most homogeneous"],
    region_parents: Int[np.ndarray, "regions"],
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
    rows: Float[np.ndarray, "regions homogeneous neurons"],
    sizes: Float[np.ndarray, "regions neurons"],
    active: Bool[np.ndarray, "regions neurons"],
    tolerance: float,
    max_rays: int,
    first: int,
    values: Float[np.ndarray, "neurons"],
    verdicts: Verdicts,
) -> int:
    """Compute the lines and rays of each region's cell anew from its half-spaces, and every neuron's sign there.

    `domain` is the cone of the domain, whose half-spaces are the first of `half_spaces`; `cone` has room for others,
    `values` for the neurons.

    Returns:
        The next region: all are done, or `cone` needs more room and the call is to be repeated from there.
    """
    for region in range(first, rows.shape[0]):
        count = write_path(half_spaces, domain.counts[0], region_parents[region], cut_parents, cut_rows)
        for i in range(3):
            cone.counts[i] = domain.counts[i]
        for i in range(domain.counts[1]):
            for k in range(rows.shape[1]):
                cone.lines[i, k] = domain.lines[i, k]
        for i in range(domain.counts[2]):
            copy_ray(domain.rays, domain.sets, i, cone.rays, cone.sets, i)
        status = intersect(cone, half_spaces, count, tolerance, max_rays)
        if status == FULL:
            return region
        num_lines, num_rays = cone.counts[1], cone.counts[2]
        verdicts.rays[region] = num_rays if status == DONE else TOO_MANY
        worst, neuron = 0.0, -1
        for r in range(num_lines + num_rays if status == DONE else 0):
            ray = cone.lines[r] if r < num_lines else cone.rays[r - num_lines]
            for i in range(values.shape[0]):
                values[i] = 0.0
            for k in range(ray.shape[0]):
                for i in range(values.shape[0]):
                    values[i] += ray[k] * rows[region, k, i]
            for i in range(values.shape[0]):
                wrong = abs(values[i]) if r < num_lines else (-values[i] if active[region, i] else values[i])
                if not wrong <= worst * sizes[region, i]:
                    worst, neuron = wrong / sizes[region, i], i
        verdicts.worst[region], verdicts.neurons[region] = worst, neuron
    return rows.shape[0]


THINNER = 0.1  # than the tolerance of the search: a cell with no more room than this has no interior


def check_cells(subject: Examined, regions: Int[np.ndarray, "regions"], max_rays: int = 1024) -> Check:
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


def _both_signs(subject: Examined, block: Int[np.ndarray, "regions"], verdicts: Verdicts, at: int) -> Failure:
    return failure(subject, int(block[at]), int(verdicts.neurons[at]), float(verdicts.worst[at]))


class _Examiner:
    """Drives the compiled loop, and makes room for it."""

    def __init__(self, subject: Examined, max_rays: int) -> None:
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
