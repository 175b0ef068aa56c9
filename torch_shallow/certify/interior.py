"""Checks at interior points: each region lies where it should, with the model's own pattern and Jacobian."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.examined import THIN, Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.geometry.exact_cell import MOST_COORDINATES

TINY = 1e-300  # replaces a size of 0


def check_interior_points(subject: Examined) -> Check:
    """Check that every region's point is inside its half-spaces and the domain, and located in the region.

    For a region too thin for float64, exact arithmetic decides whether it has an interior point. If it has none, no
    input leads there; this is not a failure if the region is as thin as what the search leaves out, and the error of
    all others is proven.
    """
    partition, tally, count = subject.partition, Tally(), subject.num_regions
    least, cuts = subject.margins
    outside = ~(least >= -subject.tolerance)
    doubtful = np.flatnonzero(outside)
    outside[doubtful] = ~(subject.measured_margins(doubtful) >= -subject.tolerance)
    outside |= ~subject.is_thick & (subject.chart.num_coordinates > MOST_COORDINATES)
    message = "its interior point has a margin of {:.2g}"
    tally.add_where(outside, message, least, region=range(count), cut=cuts)
    thin = np.flatnonzero(~outside & ~subject.is_thick)
    empty = np.array([not subject.has_interior(region) for region in thin.tolist()], dtype=bool)
    none = thin[empty]
    harmless = np.full(len(none), subject.errors is not None)
    harmless[harmless] = subject.measured_margins(none[harmless]) >= -subject.left_out
    tally.add_where(~harmless, "its half-spaces leave no interior", region=none, cut=cuts[none])
    for block in subject.blocks(np.flatnonzero(subject.is_thick), subject.program.num_inputs):
        x = partition.interior_points(block)
        at = subject.locate(x)
        tally.add_where(at < 0, "its interior point is in no known region", region=block, point=x)
        other = (at >= 0) & (at != block)
        tally.add_where(other, "its interior point is located in region {}", at, region=block, point=x)
    tally.worst = float(least.min())
    claim = "every region's interior point is inside its half-spaces and the domain, and located there"
    note = f"{len(thin):,} regions are too thin for it; exact arithmetic finds points inside" * (len(thin) > 0)
    note += f" of all but {harmless.sum():,}, which no input leads to" * bool(harmless.any())
    return tally.check("interior points", claim, "regions", count, count, f"> {THIN:.0e}", note)


def check_patterns(subject: Examined, model: DeepModel) -> Check:
    """Check that the pre-activations of the model at each interior point have the signs of the pattern."""
    tally, program, partition = Tally(), subject.program, subject.partition
    regions, neurons = subject.clear_regions, len(program.network.active)
    if model.num_neurons != neurons:
        regions = regions[:0]
        tally.add(Failure(f"the model has {model.num_neurons} ReLUs, the network was made from {neurons}"))
    for block in subject.blocks(regions, program.num_inputs + 4 * neurons):
        x = partition.interior_points(block)
        z = model.preactivations(x)
        active = program.whole_pattern(partition.patterns(block))
        wrong = np.where(active, -z, z)
        rounding, _ = model.rounding(x, np.any(wrong > 0.0, axis=1))
        tally.measure(wrong)
        failed = ~(wrong <= ALLOWED * EPSILON * rounding)
        some = np.flatnonzero(failed.any(axis=1))
        failed[some] &= ~(wrong[some] <= subject.doubts(block[some]))
        _add_neurons(subject, tally, block, x, failed, z, active)
    claim = "at every interior point the model's ReLUs are active where the region's pattern says so"
    return tally.check("deep pattern", claim, "regions", len(regions), subject.num_regions, "rounding")


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
    """Check that the model's Jacobian at every interior point is the region's weight."""
    tally, function, regions = Tally(), subject.function, subject.clear_regions
    entries, units = subject.program.num_inputs * subject.program.num_outputs, subject.program.units
    # Maps over fewer coordinates than inputs also have rounding errors in entries of inputs that are not read.
    least = 2.0**-20 * (subject.program.slope_terms * units).max(axis=1, keepdims=True, initial=0.0) / units
    terms = np.maximum(subject.program.slope_terms, least)
    for block in subject.blocks(regions, 4 * entries + subject.program.num_neurons):
        x = function.tree.interior_points(block)
        found = function.affine_maps(torch.tensor(block, device=function.device))[0].cpu().numpy()
        difference = np.abs(found - model.jacobians(x))
        relative = np.where(difference > 0.0, difference / np.where(terms > 0.0, terms, TINY), 0.0)
        relative = relative.max(axis=(1, 2), initial=0.0)
        other = np.flatnonzero(~(relative <= subject.tolerance))
        relative[other] = np.where(_is_near_a_kink(subject, model, block[other]), 0.0, relative[other])
        tally.measure(relative)
        message = "its weight differs from the model's Jacobian by a relative {:.3g}"
        tally.add_where(~(relative <= subject.tolerance), message, relative, region=block, point=x)
    claim = (
        "at every interior point the model's Jacobian, by automatic differentiation, is the region's weight (relative "
        "to the sizes of the terms of each entry)"
    )
    return tally.check("deep Jacobian", claim, "regions", len(regions), subject.num_regions, subject.tolerance)


def _is_near_a_kink(subject: Examined, model: DeepModel, regions: Int[np.ndarray, "some"]) -> Bool[np.ndarray, "some"]:
    """Return where some neuron is so close to zero that the Jacobian may be that of its other side."""
    doubts = subject.doubts(regions)
    if len(regions) == 0 or model.num_neurons != doubts.shape[1]:
        return np.zeros(len(regions), dtype=bool)
    return (np.abs(model.preactivations(subject.partition.interior_points(regions))) <= doubts).any(axis=1)
