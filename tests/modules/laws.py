"""Points at which a shallow network is examined, and the values with which it is compared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tests.zoo import Specimen
from torch_shallow.domain import Box, Domain
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram

SCALES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)


def deep(specimen: Specimen, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the model's own outputs, in float64 unless asked otherwise; its weights are those in `dtype`."""
    with torch.no_grad():
        return specimen.model(dtype).to(x.dtype)(x)


def random_points(shallow: ShallowReLU, count: int, seed: int = 0) -> Tensor:
    """Return points of all scales, moved into the domain where they are outside."""
    rng = np.random.default_rng(seed)
    size, domain = shallow.partition.program.num_inputs, shallow.domain
    points = np.concatenate([scale * rng.standard_normal((count // len(SCALES), size)) for scale in SCALES])
    return torch.from_numpy(put_into(points, domain, shallow)).reshape(-1, *shallow.in_shape)


def put_into(points: np.ndarray, domain: Domain, shallow: ShallowReLU) -> np.ndarray:
    if isinstance(domain, Box):
        lower, upper = domain.bounds(shallow.in_shape)
        width = np.where(np.isfinite(upper - lower), upper - lower, 1.0)
        inner = np.where(np.isfinite(lower), lower, np.where(np.isfinite(upper), upper, 0.0)) + width * np.tanh(points)
        return np.clip(np.where(np.isfinite(upper - lower), inner, points), lower, upper)
    a, b = domain.inequalities(shallow.in_shape)
    inner = shallow.partition.interior_points()[0]
    rise, room = (points - inner) @ a.T, b - a @ inner
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(rise > 0.0, room / rise, np.inf).min(axis=1, initial=np.inf)
    return inner + np.minimum(1.0, 0.999 * share)[:, None] * (points - inner)


def patterns_at(program: ReLUProgram, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return patterns by plain matrix products, and where they are clear; elsewhere rounding decides."""
    flat = x.double().reshape(len(x), -1).numpy()
    z = program.preactivations(flat)
    size = 1.0 + np.abs(flat).max(axis=1, keepdims=True)
    return z > 0.0, ((np.abs(z) > 1e-7 * size) | (z == 0.0).all(axis=0)).all(axis=1)


def sizes_of_terms(shallow: ShallowReLU, x: Tensor) -> Tensor:
    """Return the sizes of the terms summed for the output throughout the program, the scale of rounding errors."""
    program = shallow.partition.program
    sources = x.reshape(-1, program.num_inputs).double().abs().numpy()
    for stage in program.stages:
        sources = np.concatenate([sources, sources @ np.abs(stage.weight).T + np.abs(stage.bias)], axis=1)
    return torch.from_numpy(sources @ np.abs(program.out_weight).T + np.abs(program.out_bias))


def corner_points(shallow: ShallowReLU, most: int = 60) -> Tensor:
    """Return vertices of some regions, and a point of each of their facets."""
    shape = shallow.in_shape
    points = []
    for region in shallow.regions[:: max(1, shallow.num_regions // most)]:
        vertices, rays = (found.flatten(1) for found in (region.vertices(), region.rays()))
        points.append(vertices)
        facets = region.facets()
        for normal, offset in zip(facets.A, facets.b, strict=True):
            size = 1e-7 * (1.0 + vertices.abs() @ normal.abs() + offset.abs())
            touching = vertices[(vertices @ normal - offset).abs() <= size]
            along = rays[(rays @ normal).abs() <= 1e-9 * normal.norm()]
            if len(touching):
                points.append((touching.mean(0) + along.sum(0))[None])
    found = torch.cat(points) if points else torch.zeros(0, int(np.prod(shape)), dtype=torch.float64)
    return found.reshape(-1, *shape)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Assert equality up to `tolerance (1 + |y|)`; a NaN is never equal."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).abs() / (1.0 + expected.double().abs())
    assert not difference.isnan().any()
    assert difference.max() <= tolerance if difference.numel() else True
