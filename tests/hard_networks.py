"""Random networks that are hard for floating point, by family; each is rebuilt from its family and seed.

They have one to three inputs and few neurons, so that `exact_reference` can tell what is right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tests.exact_reference import HalfSpace, Layer
from torch_shallow.domain import Box, Domain, Polytope, WholeSpace

Random = np.random.Generator
Layers = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class HardNetwork:
    """Linear-ReLU-...-Linear in float64.

    Attributes:
        name: Family and number.
        layers: Weight and bias of each layer.
        domain: The domain.
    """

    name: str
    layers: tuple[Layer, ...]
    domain: Domain

    def __str__(self) -> str:
        return self.name

    @property
    def num_inputs(self) -> int:
        return len(self.layers[0][0][0])

    def model(self) -> nn.Sequential:
        """Return the network."""
        parts: list[nn.Module] = []
        for weight, bias in self.layers:
            linear = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
            linear.weight.data = torch.tensor(weight, dtype=torch.float64)
            linear.bias.data = torch.tensor(bias, dtype=torch.float64)
            parts += [linear, nn.ReLU()]
        return nn.Sequential(*parts[:-1]).eval()

    def example(self) -> torch.Tensor:
        """Return a batch that tells the shape of the input."""
        return torch.zeros(1, self.num_inputs, dtype=torch.float64)

    def half_spaces(self) -> list[HalfSpace]:
        """Return the domain in the form for `exact_cells`."""
        domain, d = self.domain, self.num_inputs
        if isinstance(domain, Polytope):
            return [(a.tolist(), float(b)) for a, b in zip(domain.A, domain.b, strict=True)]
        if not isinstance(domain, Box):
            return []
        lower, upper = (np.broadcast_to(bound, (d,)) for bound in (domain.lower, domain.upper))
        axes = np.eye(d)
        bounds = [(axes[i].tolist(), float(upper[i])) for i in range(d)]
        bounds += [((-axes[i]).tolist(), -float(lower[i])) for i in range(d)]
        return [(a, b) for a, b in bounds if math.isfinite(b)]

    def __repr__(self) -> str:
        layers = ", ".join(f"({weight!r}, {bias!r})" for weight, bias in self.layers)
        domain = self.domain
        where = f"Polytope({domain.A.tolist()}, {domain.b.tolist()})" if isinstance(domain, Polytope) else repr(domain)
        return f"N({layers}) on {where}"


def fixed(name: str, *layers: Layer, domain: Domain | None = None) -> HardNetwork:
    """Return a network with the given weights."""
    return HardNetwork(name, layers, domain or WholeSpace())


def scaled(network: HardNetwork, exponents: Sequence[int]) -> HardNetwork:
    """Scale a function by a power of two without changing its regions: each layer by 2^exponent, with its biases."""
    layers, total = [], 1.0
    for (weight, bias), exponent in zip(network.layers, exponents, strict=True):
        scale = 2.0**exponent
        total *= scale
        layers.append(((np.array(weight) * scale).tolist(), (np.array(bias) * total).tolist()))
    return HardNetwork(f"{network.name}, scaled", tuple(layers), network.domain)


def floats(rng: Random, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def eighths(rng: Random, *shape: int) -> np.ndarray:
    return np.round(8 * rng.standard_normal(shape)) / 8


def integers(rng: Random, *shape: int) -> np.ndarray:
    return rng.integers(-3, 4, size=shape).astype(np.float64)


def random_layers(rng: Random, entries: Callable[..., np.ndarray] | None = None, most: int = 5) -> Layers:
    """Return one to three hidden layers of up to `most` neurons on one to three inputs."""
    entries = entries or (floats if rng.integers(2) else eighths)
    widths = [
        int(rng.integers(1, 4)),
        *rng.integers(2, most + 1, size=rng.integers(1, 4)).tolist(),
        int(rng.integers(1, 3)),
    ]
    return [(entries(rng, b, a), entries(rng, b)) for a, b in itertools.pairwise(widths)]


def random_domain(rng: Random, d: int) -> Domain:
    kind = rng.integers(3)
    if kind == 0:
        return WholeSpace()
    if kind == 1:
        return Box(*([-1.0, 1.0] if rng.integers(2) else [-8.0, 8.0]))
    rows = eighths(rng, d + 2, d)
    return Polytope(rows, np.abs(eighths(rng, d + 2)) + 0.5)


def small_integers(rng: Random) -> tuple[Layers, Domain]:
    layers = random_layers(rng, integers)
    return layers, random_domain(rng, layers[0][0].shape[1])


def scaled_layers(rng: Random) -> tuple[Layers, Domain]:
    """Scale each layer by a power of two; half of the time biases follow, so that all regions stay the same."""
    layers = random_layers(rng)
    follow, total, found = bool(rng.integers(2)), 1.0, []
    for weight, bias in layers:
        scale = 2.0 ** int(rng.integers(-20, 21))
        total *= scale
        found.append((weight * scale, bias * (total if follow else scale)))
    return found, random_domain(rng, layers[0][0].shape[1])


def decayed(rng: Random) -> tuple[Layers, Domain]:
    layers, factor = random_layers(rng), 10.0 ** -int(rng.integers(4, 13))
    return [(factor * w, factor * b) for w, b in layers], random_domain(rng, layers[0][0].shape[1])


def near_duplicates(rng: Random) -> tuple[Layers, Domain]:
    """Make some neurons nearly equal to others; half of the time the next layer reads their enlarged difference."""
    layers = random_layers(rng)
    number = int(rng.integers(len(layers) - 1))
    (weight, bias), (after, last) = layers[number], layers[number + 1]
    delta = 10.0 ** -rng.uniform(7, 14)
    which = rng.integers(len(weight), size=rng.integers(1, 3))
    more = weight[which] + delta * eighths(rng, len(which), weight.shape[1]) * rng.integers(2)
    more_bias = bias[which] + delta * eighths(rng, len(which))
    columns = eighths(rng, len(after), len(which))
    if rng.integers(2):
        columns = columns / delta
        after = after.copy()
        np.subtract.at(after.T, which, columns.T)
    layers[number] = np.concatenate([weight, more]), np.concatenate([bias, more_bias])
    layers[number + 1] = np.concatenate([after, columns], axis=1), last
    return layers, random_domain(rng, layers[0][0].shape[1])


def far_boxes(rng: Random) -> tuple[Layers, Domain]:
    """Choose boxes that are large, or small and far away."""
    layers = random_layers(rng)
    d = layers[0][0].shape[1]
    if rng.integers(2):
        size = 10.0 ** int(rng.integers(6, 13))
        return layers, Box(-size, size)
    centre = 1e3 * rng.choice([-1.0, 1.0], size=d)
    weight, bias = layers[0]
    layers[0] = weight, 5e-7 * bias - weight @ centre
    return layers, Box(centre - 5e-7, centre + 5e-7)


def through_origin(rng: Random) -> tuple[Layers, Domain]:
    """Choose polytopes whose walls meet at 0, and networks with or without biases."""
    layers = random_layers(rng)
    d = layers[0][0].shape[1]
    inside = eighths(rng, d) + 0.01
    walls = eighths(rng, int(rng.integers(1, 4)), d)
    walls = walls * -np.where(walls @ inside > 0.0, 1.0, -1.0)[:, None]
    offsets = np.zeros(len(walls))
    if rng.integers(2):
        walls, offsets = np.concatenate([walls, np.eye(d), -np.eye(d)]), np.append(offsets, np.full(2 * d, 4.0))
    if rng.integers(2):
        layers = [(weight, 0.0 * bias) for weight, bias in layers]
    return layers, Polytope(walls, offsets)


def without_biases(rng: Random) -> tuple[Layers, Domain]:
    layers = [(weight, 0.0 * bias) for weight, bias in random_layers(rng)]
    return layers, random_domain(rng, layers[0][0].shape[1])


def steep_slivers(rng: Random) -> tuple[Layers, Domain]:
    """Make a thin peak of any height along a line, with another layer on top of it half of the time."""
    d, width, height = int(rng.integers(1, 4)), 10.0 ** -rng.uniform(7, 13), 10.0 ** rng.uniform(-2, 3)
    normal, offset = eighths(rng, d) + 0.5, float(eighths(rng)) * int(rng.integers(2))
    first = np.tile(normal, (3, 1)), offset - width * np.arange(3.0)
    peak = height / width * np.array([[1.0, -2.0, 1.0]])
    layers: Layers = [first, (peak, eighths(rng, 1))]
    if rng.integers(2):
        weight, bias = layers[1]
        layers[1] = np.concatenate([weight, -weight]), np.append(bias, eighths(rng, 1))
        layers.append((eighths(rng, 1, 2), eighths(rng, 1)))
    return layers, random_domain(rng, d)


FAMILIES: dict[str, Callable[[Random], tuple[Layers, Domain]]] = {
    "small integers": small_integers,
    "scaled layers": scaled_layers,
    "decayed": decayed,
    "near duplicates": near_duplicates,
    "far boxes": far_boxes,
    "through the origin": through_origin,
    "no biases": without_biases,
    "steep slivers": steep_slivers,
}


def hard_network(family: str, seed: int) -> HardNetwork:
    """Return the network of a family and a seed; its domain has an interior."""
    rng = np.random.default_rng([seed, *family.encode()])
    layers, domain = FAMILIES[family](rng)
    return HardNetwork(f"{family} {seed}", tuple((w.tolist(), b.tolist()) for w, b in layers), domain)


def _peak(e: float, height: float) -> Sequence[Layer]:
    weight = [[-height / e, 2 * height / e, -height / e]]
    return ([[1.0]] * 3, [0.0, -e, -2 * e]), (weight, [height])


def _bent(a: float) -> Sequence[Layer]:
    return ([[1.0, 0.0], [1.0, a]], [0.0, 0.0]), ([[1 / a, -1 / a]], [0.0])


# Cases that once failed: slivers, far kinks, slopes of very different sizes, walls that meet where numbers are 0.
EXAMPLES = (
    fixed(
        "unit kinks in a large box",
        ([[1.0]] * 3, [0.0, -1.0, -2.0]),
        ([[1.0, -2.0, 1.0]], [0.0]),
        domain=Box(-1e11, 1e11),
    ),
    fixed("thin valley", *_peak(3e-11, 100.0), domain=Box(-1.0, 1.0)),
    fixed("far kink", ([[1.0]] * 4, [0.0, -1.0, -2.0, -1e11]), ([[1.0, -2.0, 1.0, 1.0]], [0.0])),
    fixed("thin wedge", *_bent(1e-11)),
    fixed("cancelling biases", ([[1.0]], [1e13]), ([[1.0]], [-1e13]), ([[1.0]], [0.0]), domain=Box(-1.0, 1.0)),
    *(
        fixed(f"sliver of {e:g}", ([[1.0], [1.0]], [0.0, -e]), ([[1.0, -1.0]], [0.0]), domain=Box(-1.0, 1.0))
        for e in (1e-8, 1e-9, 1e-10, 1e-11)
    ),
    *(
        fixed(
            f"corners of {e:g}",
            ([[1.0], [-1.0]], [0.0, 0.0]),
            ([[1.0, 1.0]], [e - 1.0]),
            ([[1.0]], [0.0]),
            domain=Box(-1.0, 1.0),
        )
        for e in (1e-8, 1e-11)
    ),
    fixed(
        "walls that meet at 0",
        ([[1.0, 2.0], [2.0, -1.0]], [0.0, -0.5]),
        ([[1.0, 1.0]], [0.25]),
        domain=Polytope([[-1.0, 0.5], [0.5, -1.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 0.0, 1.0, 1.0]),
    ),
)

# Its outputs are not float64 numbers, so it can only be refused.
OVERFLOWING = fixed("overflow", ([[1e200]], [0.0]), ([[1e200]], [0.0]))
