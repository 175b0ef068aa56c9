"""Is every region where it is said to be, with the model's own pattern and Jacobian?"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.geometry.tree_kernels import margins

TINY = 1e-300  # in place of a size of 0


def check_interior_points(subject: Examined) -> Check:
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


def check_patterns(subject: Examined, model: DeepModel) -> Check:
    """At every interior point the values entering the model's ReLUs have the signs of the pattern."""
    tally, program, partition = Tally(), subject.program, subject.partition
    examined, worst, neurons = subject.num_regions, 0.0, len(program.network.active)
    if model.num_neurons != neurons:
        examined = 0
        tally.add(Failure(f"the model has {model.num_neurons} ReLUs, the network was made from {neurons}"))
    for block in subject.blocks(np.arange(examined), program.num_inputs + 4 * neurons):
        x = partition.interior_points(block)
        z = model.preactivations(x)
        active = program.whole_pattern(partition.patterns(block))
        wrong = np.where(active, -z, z)
        rounding, _ = model.rounding(x, np.any(wrong > 0.0, axis=1))
        worst = max(worst, wrong.max(initial=0.0))
        _add_neurons(subject, tally, block, x, ~(wrong <= ALLOWED * EPSILON * rounding), z, active)
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
    subject: Examined,
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


def check_jacobians(subject: Examined, model: DeepModel) -> Check:
    """At every interior point the model's Jacobian is the region's weight."""
    tally, function, count, worst = Tally(), subject.function, subject.num_regions, 0.0
    terms, entries = subject.program.slope_terms, subject.program.num_inputs * subject.program.num_outputs
    for block in subject.blocks(np.arange(count), 4 * entries + subject.program.num_neurons):
        x = function.tree.interior_points(block)
        found = function.affine_maps(torch.tensor(block, device=function.device))[0].cpu().numpy()
        difference = np.abs(found - model.jacobians(x))
        relative = np.where(difference > 0.0, difference / np.where(terms > 0.0, terms, TINY), 0.0)
        relative = relative.max(axis=(1, 2), initial=0.0)
        worst = max(worst, float(relative.max()))
        tally.add_all(~(relative <= subject.tolerance), partial(_other_weight, block, x, relative))
    return Check(
        "deep Jacobian",
        "at every interior point the model's Jacobian, by automatic differentiation, is the region's weight (relative "
        "to the terms that each entry is added up from)",
        "regions",
        count,
        count,
        worst,
        f"{subject.tolerance:.0e}",
        tuple(tally.kept),
        tally.count,
    )


def _other_weight(
    block: Int[np.ndarray, "regions"],
    x: Float[np.ndarray, "regions inputs"],
    relative: Float[np.ndarray, "regions"],
    at: int,
) -> Failure:
    what = f"its weight differs from the model's Jacobian by a relative {relative[at]:.3g}"
    return Failure(what, region=int(block[at]), point=tuple(x[at]))
