"""The Lipschitz constant: by how much the output can change, at most, for a change of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from operator import index

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import argument_error
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.in_chart import InChart, continuous
from torch_shallow.modes import outside_modes


@dataclass(frozen=True, eq=False)
class LipschitzConstant:
    """The least L with `|f(x) - f(y)| <= L |x - y|` for all x and y of the domain, and where it is reached.

    Attributes:
        value: the constant; 0 of a constant function.
        norm: 1, 2 or inf: of the inputs and of the outputs.
        region: a region in which it is reached.
        point: an interior point of this region.
        direction: a change of the input, of norm 1, in which it is reached: `f(point + t direction)` changes by
            `value * t` as long as it is in the region. Zero in inputs that have only one value.
        before_head: whether f is what enters the network's head (logits), and not its output.
    """

    value: float
    norm: float
    region: int
    point: Float[Tensor, "*in_shape"]
    direction: Float[Tensor, "*in_shape"]
    before_head: bool = False

    def __str__(self) -> str:
        of = " of the values before the head" * self.before_head
        return f"L{self.norm:g} Lipschitz constant{of} {self.value:.6g}, reached in region {self.region}"


@outside_modes
def lipschitz_constant(
    shallow: nn.Module | ExportedProgram,
    norm: int | float = 2,
    domain: Domain | None = None,
    *,
    output: int | Sequence[int] | None = None,
) -> LipschitzConstant:
    """The exact Lipschitz constant of the trunk on the domain, in L1, L2 or L-infinity.

    A continuous piecewise-linear function on a convex domain changes nowhere faster than its steepest local model: the
    constant is the largest operator norm of all local models (largest column sum, singular value or row sum of the
    absolute weights), up to rounding. Inputs that a box fixes do not count, nor regions that are too thin for
    `transform` to find.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        norm: 1, 2 or inf, for inputs and outputs.
        domain: of a model, where to look.
        output: of one output alone, by its number in the flattened output or its index; of all if None.

    Raises:
        TransformError: the norm or the output is none of these, not all regions are known, or the weights may have been
            trained, so that there is no constant where the network jumps.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> found = lipschitz_constant(model)
        >>> x, y = torch.randn(100, 2), torch.randn(100, 2)
        >>> bool(((model(x) - model(y)).norm(dim=1) <= 1.0001 * found.value * (x - y).norm(dim=1) + 1e-5).all())
        True
    """
    if isinstance(norm, bool) or norm not in (1, 2, math.inf):
        raise argument_error(norm, int, float)(f"norm: expected 1, 2 or math.inf, found {norm!r}.")
    network = continuous(known_network(shallow, domain), "lipschitz_constant")
    subject = InChart(network)
    rows = slice(None) if output is None else [_number(output, network.out_shape)]
    largest, region = -1.0, 0
    for block in subject.blocks():
        weight = subject.maps(block)[0][:, rows][..., ~subject.fixed]
        norms = _norms(weight, norm, largest)
        if norms.max() > largest:
            largest, region = float(norms.max()), block.start + int(norms.argmax())
    weight = subject.maps(np.array([region]))[0][0, rows][:, ~subject.fixed]
    direction = np.zeros(subject.num_inputs)
    direction[~subject.fixed] = _steepest(weight, norm)
    return LipschitzConstant(
        largest,
        float(norm),
        region,
        subject.point(region),
        subject.tensor(direction, network.in_shape),
        before_head=network.head is not None,
    )


def _number(output: int | Sequence[int], shape: tuple[int, ...]) -> int:
    """The number in the flattened output.

    Raises:
        TransformError: there is no such output.
    """
    try:
        if isinstance(output, Sequence):
            return int(np.ravel_multi_index(tuple(output), shape)) if shape or output else 0
        if not isinstance(output, bool) and 0 <= index(output) < math.prod(shape):
            return index(output)
    except (ValueError, TypeError):
        pass
    raise argument_error(output, Integral, Sequence)(
        f"output: expected a number from 0 to {math.prod(shape) - 1} or an index into the shape {shape}, found "
        f"{output!r}."
    )


def _norms(
    weight: Float[np.ndarray, "regions outputs moving"], norm: int | float, known: float
) -> Float[np.ndarray, "regions"]:
    """The operator norm of each matrix; where it is proven to be no more than `known`, a lower bound instead."""
    if weight.shape[-1] == 0:
        return np.zeros(len(weight))
    if norm != 2:
        return np.abs(weight).sum(axis=1 if norm == 1 else 2).max(axis=1)
    squares = weight**2
    # The Frobenius norm is an upper bound, the longest row or column a lower one.
    upper = np.sqrt(squares.sum(axis=(1, 2)))
    lower = np.sqrt(np.maximum(squares.sum(axis=1).max(axis=1), squares.sum(axis=2).max(axis=1)))
    open_ones = np.flatnonzero(upper * (1.0 + 1e-12) >= max(known, lower.max()))
    if weight.shape[1] > 1:
        lower[open_ones] = torch.linalg.matrix_norm(torch.from_numpy(weight[open_ones]), ord=2).numpy()
    return lower


def _steepest(weight: Float[np.ndarray, "outputs moving"], norm: int | float) -> Float[np.ndarray, "moving"]:
    """A direction of norm 1 that a matrix makes longest."""
    direction = np.zeros(weight.shape[1])
    if weight.shape[1] == 0:
        return direction
    if norm == 1:
        direction[np.abs(weight).sum(axis=0).argmax()] = 1.0
        return direction
    if norm == 2:
        return np.linalg.svd(weight, full_matrices=False)[2][0]
    row = weight[np.abs(weight).sum(axis=1).argmax()]
    return np.where(row < 0.0, -1.0, 1.0)
