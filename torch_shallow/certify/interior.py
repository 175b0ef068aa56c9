"""Is every region where it is said to be, with the model's own pattern and Jacobian?"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.certify.compiled import margins
from torch_shallow.certify.deep import DeepModel
from torch_shallow.certify.report import Check, Failure
from torch_shallow.certify.rounding import expected_rounding
from torch_shallow.certify.subject import Subject
from torch_shallow.certify.tally import Tally

EPSILON = float(np.finfo(np.float64).eps)


def check_interior_points(subject: Subject) -> Check:
    """Every region's point is inside: of its half-spaces, of the domain, and where the network locates it."""
    partition, tally, count = subject.partition, Tally(), subject.num_regions
    least, cuts = np.full(count, np.inf), np.full(count, -1)
    margins(partition.points, subject.paths.regions, subject.paths.cuts, subject.cut_rows, least, cuts)
    floor = 16 * EPSILON
    tally.add_all(
        ~(least > floor),
        lambda region: Failure(
            f"its interior point has a margin of {least[region]:.2g}", region=region, cut=int(cuts[region])
        ),
    )
    for block in subject.blocks(np.arange(count), subject.program.num_inputs):
        x = partition.interior_points(block)
        at = subject.locate(x)
        tally.add_all(at != block, partial(_elsewhere, block, x, at))
    return Check(
        "interior points",
        "every region's interior point is inside its half-spaces and the domain, and located there",
        "regions",
        count,
        count,
        float(least.min()),
        f"> {floor:.0e}",
        tuple(tally.kept),
        tally.count,
    )


def _elsewhere(
    block: Int[np.ndarray, "regions"],
    x: Float[np.ndarray, "regions inputs"],
    found: Int[np.ndarray, "regions"],
    at: int,
) -> Failure:
    where = "in no known region" if found[at] < 0 else f"located in region {found[at]}"
    return Failure(f"its interior point is {where}", region=int(block[at]), point=tuple(x[at]))


def check_patterns(subject: Subject, model: DeepModel) -> Check:
    """At every interior point the values entering the model's ReLUs have the signs of the pattern."""
    tally, program, partition = Tally(), subject.program, subject.partition
    examined, worst, neurons = subject.num_regions, 0.0, len(program.network.active)
    if model.num_neurons != neurons:
        examined = 0
        tally.add(Failure(f"the model has {model.num_neurons} ReLUs, the network was made from {neurons}"))
    for block in subject.blocks(np.arange(examined), program.num_inputs + 4 * neurons):
        x = partition.interior_points(block)
        z = model.preactivations(x)
        noise = np.zeros_like(z)  # neurons that keep their sign in the domain do so by more than rounding
        noise[:, program.network.neurons], _ = expected_rounding(program, x, EPSILON)
        active = program.whole_pattern(partition.patterns(block))
        wrong = np.where(active, -z, z)
        worst = max(worst, wrong.max(initial=0.0))
        _add_neurons(subject, tally, block, x, ~(wrong <= 8 * noise), z, active)
    return Check(
        "deep pattern",
        "at every interior point the model's ReLUs are active where the region's pattern says so",
        "regions",
        examined,
        subject.num_regions,
        worst,
        "rounding",
        tuple(tally.kept),
        tally.count,
    )


def _add_neurons(
    subject: Subject,
    tally: Tally,
    block: Int[np.ndarray, "regions"],
    x: Float[np.ndarray, "regions inputs"],
    failed: np.ndarray,
    z: np.ndarray,
    active: np.ndarray,
) -> None:
    regions, neurons = np.nonzero(failed)
    tally.add_all(
        np.ones(len(regions), dtype=bool),
        lambda i: Failure(
            f"the model has {z[regions[i], neurons[i]]:.6g} entering {subject.program.neuron_name(int(neurons[i]))}, "
            f"which should be {'active' if active[regions[i], neurons[i]] else 'inactive'}",
            region=int(block[regions[i]]),
            neuron=int(neurons[i]),
            point=tuple(x[regions[i]]),
        ),
    )


def check_jacobians(subject: Subject, model: DeepModel) -> Check:
    """At every interior point the model's Jacobian is the region's weight."""
    tally, shallow, count = Tally(), subject.shallow, subject.num_regions
    entries = subject.program.num_inputs * subject.program.num_outputs
    differences, sizes = np.zeros(count), np.zeros(count)
    for block in subject.blocks(np.arange(count), 4 * entries + subject.program.num_neurons):
        found = shallow.affine_maps(torch.tensor(block, device=shallow.device))[0].cpu().numpy()
        expected = model.jacobians(shallow.partition.interior_points(block))
        differences[block] = np.abs(found - expected).max(axis=(1, 2))
        sizes[block] = np.abs(expected).max(axis=(1, 2))
    scale = np.maximum(sizes, 1e-3 * sizes.max())
    relative = differences / np.where(scale > 0.0, scale, 1.0)
    limit = subject.tolerance
    tally.add_all(
        ~(relative <= limit),
        lambda region: Failure(
            f"its weight differs from the model's Jacobian by {differences[region]:.3g}, entries being up to "
            f"{sizes[region]:.3g}",
            region=region,
            point=tuple(shallow.partition.interior_points(np.array([region]))[0]),
        ),
    )
    return Check(
        "deep Jacobian",
        "at every interior point the model's Jacobian, by automatic differentiation, is the region's weight (relative "
        "to its largest entry, or a thousandth of the largest of all regions)",
        "regions",
        count,
        count,
        float(relative.max()),
        f"{limit:.0e}",
        tuple(tally.kept),
        tally.count,
    )
