"""Check that every neuron has one sign on every cell, by lines and rays, or by linear programs and their duals."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.certify.examined import Examined, NeuronRows
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.highs import minimiser
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


def check_programs(subject: Examined, regions: Int[np.ndarray, "regions"]) -> Check:
    """Bound every neuron on some regions by linear programs, independently of rays."""
    tally = Tally()
    for block in subject.blocks(regions, subject.program.num_neurons * (subject.chart.num_coordinates + 1)):
        neurons = subject.neuron_rows(block)
        for region, rows, sizes, active in zip(
            block.tolist(), neurons.rows, neurons.sizes, neurons.active, strict=True
        ):
            wrong = sign_by_programs(subject.half_spaces(region), rows, sizes, active, limit(subject))
            tally.measure(wrong)
            places = np.full(len(wrong), region), np.arange(len(wrong))
            tally.add_all(~(wrong <= limit(subject)), partial(_both_signs, subject, *places, wrong))
    claim = "no neuron takes the other sign on a region, proven by the dual solution of a linear program"
    return tally.check("linear programs", claim, "regions", len(regions), subject.num_regions, limit(subject))


def limit(subject: Examined) -> float:
    """Return the largest relative value of the wrong sign that counts as rounding."""
    return 10 * subject.tolerance


def _both_signs(
    subject: Examined,
    regions: Int[np.ndarray, "places"],
    neurons: Int[np.ndarray, "places"],
    wrong: Float[np.ndarray, "places"],
    at: int,
) -> Failure:
    """Describe a neuron with a value of the wrong sign somewhere on a region."""
    region, neuron = int(regions[at]), int(subject.program.network.neurons[neurons[at]])
    sign = "positive" if subject.partition.patterns(np.array([region]))[0, neurons[at]] else "negative"
    expected = f"{subject.program.neuron_name(neuron)} should be {sign} or zero on the whole region"
    found = f"has the other sign by a relative {wrong[at]:.2g}"
    return Failure(f"{expected}, but {found}", region=region, neuron=neuron)


def sign_by_programs(
    half_spaces: Float[np.ndarray, "rows homogeneous"],
    neuron_rows: Float[np.ndarray, "homogeneous neurons"],
    sizes: Float[np.ndarray, "neurons"],
    active: Bool[np.ndarray, "neurons"],
    limit: float,
) -> Float[np.ndarray, "neurons"]:
    """Return how far each neuron may have the wrong sign on a cell: at most `limit` where it is proven not to.

    By Farkas' lemma, `z = (a, t)` is non-negative on the cell `H (v, 1) >= 0` if it is a sum `y H + (0, s)` with
    y, s >= 0. The dual solution of the linear program "least z on the cell" is such a y; whatever the solver says of
    it, the shortfall of the sum is computed here, relative to 1 + sum(y), the price of moving every half-space by 1.
    If this is no proof, least squares over all y, s >= 0 give the distance of z from such sums, which is the largest
    value of -z at a unit vector of the cell's cone.

    Args:
        half_spaces: Half-spaces of the cell, in unit rows H.
        neuron_rows: Pre-activation of each neuron over homogeneous coordinates.
        sizes: Scales against which values are measured.
        active: Activation pattern.
        limit: Largest value that counts as a proof.
    """
    targets = (neuron_rows * np.where(active, 1.0, -1.0) / np.where(sizes > 0.0, sizes, 1.0)).T
    wrong = _missing(targets, np.zeros((len(targets), len(half_spaces))), half_spaces)
    if len(half_spaces):
        # Neurons that cut are among the half-spaces, up to a factor.
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
    """Return the shortfall of each sum `y H + (0, s)` with the best s >= 0 from its target, relative to 1 + sum(y)."""
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


TOO_MANY = -1


class Verdicts(Bundle):
    """Results for each region's cell."""

    rays: np.ndarray  # int64: number of rays; TOO_MANY if there are too many, 0 if the cell has no interior
    worst: np.ndarray  # float64: largest relative value of a wrong sign
    neurons: np.ndarray  # int64: neuron with that value


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
    """Recompute the lines and rays of each region's cell from its half-spaces, and every neuron's sign there.

    `domain` is the cone of the domain, whose half-spaces are the first of `half_spaces`; `cone` has room for others,
    `values` for the neurons.

    Returns:
        The next region: either all are done, or `cone` needs more room and the call is to be repeated from there.
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


THINNER = 0.1  # share of the search's tolerance: a cell with no more room than this has no interior


def check_cells(subject: Examined, regions: Int[np.ndarray, "regions"], max_rays: int = 1024) -> Check:
    """Recompute the lines and rays of each cell from the half-spaces on its path, and all neurons' values there.

    The tree splits the domain into cells. If no neuron takes, on any cell, the sign opposite to the cell's pattern,
    every cell lies in the activation region of its pattern; if all patterns differ, each cell is that region. A cell
    with more than `max_rays` rays is left to linear programs.
    """
    tally, given_up = Tally(), 0
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
        tally.measure(verdicts.worst)
        tally.add_where(verdicts.rays == 0, "its half-spaces leave no interior", region=block)
        describe = partial(_both_signs, subject, block, verdicts.neurons, verdicts.worst)
        tally.add_all(~(verdicts.worst <= limit(subject)), describe)
    claim = "every neuron, cutting or not, has one sign on the lines and rays of a region's cell: that of the pattern"
    note = f"{given_up:,} cells of more than {max_rays:,} rays were checked by linear programs instead" * (given_up > 0)
    return tally.check("cells", claim, "regions", len(regions), subject.num_regions, limit(subject), note)


class _Examiner:
    """Drives the compiled loop, and provides its storage."""

    def __init__(self, subject: Examined, max_rays: int) -> None:
        domain = subject.chart.inequalities
        most = len(domain) + subject.paths.longest
        self._subject, self._max_rays = subject, max_rays
        # A region may be as thin as the tolerance of the search.
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
        """Return the results for each region's cell."""
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
