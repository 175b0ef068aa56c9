"""Collect what every target writes: the half-spaces, the tree and the local models of a network, each number once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.domain import TOLERANCE, Box, WholeSpace
from torch_shallow.errors import WrongTypeError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.export.head_steps import Step, head_steps
from torch_shallow.functions import require_all_regions
from torch_shallow.geometry.distinct import distinct
from torch_shallow.modules.shallow_relu import ShallowReLU


@dataclass(frozen=True)
class Tables:
    """Hold a network as arrays over the values `x` of its features, each row with its constant as the last entry.

    If `projection` is None, the coordinates `u` are `x` itself.

    Attributes:
        description: description of the network in one line.
        features: names of the inputs, and how the network scales them; all numbers here refer to values before scaling.
        in_shape: shape of one input.
        out_shape: shape of one output.
        lower: lower bounds of a box that contains the domain; entries may be infinite.
        upper: upper bounds of the same box.
        polytope: rows `[a, -b]` of the inequalities `a x <= b` of a polytope; no rows for other domains.
        projection: rows with `u = projection @ [x, 1]`, if that saves numbers; otherwise None.
        rows: the distinct half-spaces: `rows @ [u, 1] > 0`.
        cuts: for each cut its row, and the next node where it is not positive and where it is: a cut, or `~k` for local
            model k.
        models: the distinct local models: `models[k] @ [u, 1]`.
        skip: weights of the further term `skip @ x` of the output, or None.
        head: the steps that follow the trunk.
    """

    description: str
    features: Features
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    polytope: Float[np.ndarray, "faces homogeneous"]
    projection: Float[np.ndarray, "coordinates homogeneous"] | None
    rows: Float[np.ndarray, "half_spaces homogeneous_coordinates"]
    cuts: Int[np.ndarray, "cuts 3"]
    models: Float[np.ndarray, "models outputs homogeneous_coordinates"]
    skip: Float[np.ndarray, "outputs inputs"] | None
    head: tuple[Step, ...]

    @staticmethod
    @torch.no_grad()
    def of(
        shallow: ShallowReLU, features: Features | Sequence[str] | None = None, *, as_stored: bool = False
    ) -> Tables:
        """Build the tables of a network.

        Args:
            shallow: a complete network.
            features: names of the entries of the flattened input, and how they are scaled.
            as_stored: whether to keep a projection, since multiplying it out rounds.

        Raises:
            WrongTypeError: `shallow` is not a `ShallowReLU`.
            TransformError: the network is not complete, its head cannot be written, or the number of features does not
                match the inputs.
        """
        if not isinstance(shallow, ShallowReLU):
            raise WrongTypeError(
                f"shallow: expected a ShallowReLU, found {type(shallow).__name__}; make one with transform(model)."
            )
        function = shallow.function
        require_all_regions(function, "shallow", "code can only be written for a network whose regions are all known")
        named = read_features(features, function.num_inputs)
        weights, biases = function.selection.maps(torch.arange(function.num_regions, device=function.device))
        models = torch.cat([weights, biases[..., None]], 2).cpu().numpy()
        rows = shallow.half_spaces.rows.cpu().numpy()
        skip, basis = (
            None if tensor is None else tensor.detach().cpu().numpy()
            for tensor in (function.selection.skip, shallow.half_spaces.projection)
        )
        projection = None
        if basis is None:
            rows, models = _unscaled(rows, named), _unscaled(models, named)
        elif len(basis) and (as_stored or saves_numbers(basis, rows, models, skip)):
            projection = _unscaled(np.pad(basis, ((0, 0), (0, 1))), named)
            if skip is not None:
                of_values = _unscaled(np.pad(skip, ((0, 0), (0, 1))), named)
                models[..., -1] += of_values[:, -1]
                skip = of_values[:, :-1]
        else:
            rows, models = (_unscaled(_multiplied_out(array, basis), named) for array in (rows, models))
            if skip is not None:
                models += _unscaled(np.pad(skip, ((0, 0), (0, 1))), named)
                skip = None
        rows, row_of = distinct(rows + 0.0)  # -0.0 becomes 0.0, and scaling may make two rows equal
        models, model_of_region = distinct(models + 0.0)
        children = shallow.partition.children
        below = np.where(children >= 0, children, ~model_of_region[np.where(children < 0, ~children, 0)])
        lower, upper, polytope = _domain(shallow, named)
        return Tables(
            description=function.describe(shallow.out_shape),
            features=named,
            in_shape=shallow.in_shape,
            out_shape=shallow.out_shape,
            lower=lower,
            upper=upper,
            polytope=polytope,
            projection=projection,
            rows=rows,
            cuts=np.column_stack([row_of[function.half_space_of().cpu().numpy()], below]).astype(np.int64),
            models=models,
            skip=skip,
            head=head_steps(shallow.head, shallow.trunk_shape),
        )

    @property
    def num_inputs(self) -> int:
        """Number of entries of the flattened input."""
        return len(self.lower)

    @property
    def trunk_size(self) -> int:
        """Number of outputs before the head."""
        return self.models.shape[1]

    @property
    def num_outputs(self) -> int:
        """Number of entries of the flattened output, head included."""
        return int(np.prod(self.out_shape, dtype=np.int64))

    @property
    def gives_class(self) -> bool:
        """Whether the output is the index of a class."""
        return bool(self.head) and self.head[-1].name == "argmax"

    @property
    def depth(self) -> int:
        """Number of cuts on the longest path."""
        depth, level = 0, np.arange(min(1, len(self.cuts)))
        while level.size:
            depth, below = depth + 1, self.cuts[level, 1:]
            level = below[below >= 0]
        return depth

    def limits(self, dtype: type[np.floating]) -> Float[np.ndarray, "2 inputs"]:
        """Return the smallest and the largest value of each feature, with the network's tolerance, all finite."""
        eps, largest = np.finfo(dtype).eps, np.finfo(dtype).max
        width = np.where(np.isfinite(self.upper - self.lower), self.upper - self.lower, 0.0)
        slack = slack_of(dtype) * width
        room = [slack + eps * np.where(np.isfinite(bound), np.abs(bound), 0.0) for bound in (self.lower, self.upper)]
        return np.clip([self.lower - room[0], self.upper + room[1]], -float(largest), float(largest))


def slack_of(dtype: type[np.floating]) -> float:
    """Return how far a point in this precision may be outside the domain, relative to the terms of an inequality."""
    return max(TOLERANCE, float(np.finfo(dtype).eps))


def saves_numbers(
    basis: Float[np.ndarray, "coordinates inputs"],
    rows: Float[np.ndarray, "half_spaces homogeneous"],
    models: Float[np.ndarray, "regions outputs homogeneous"],
    skip: Float[np.ndarray, "outputs inputs"] | None,
) -> bool:
    """Tell whether rows over the inputs, which are easier to read, would need more than twice as many numbers."""
    count = len(rows) + models.shape[0] * models.shape[1]
    coordinates, inputs = basis.shape
    return count * (inputs + 1) > 2 * (count * (coordinates + 1) + basis.size + (0 if skip is None else skip.size))


def _multiplied_out(
    homogeneous: Float[np.ndarray, "*some homogeneous_coordinates"], basis: Float[np.ndarray, "coordinates inputs"]
) -> Float[np.ndarray, "*some homogeneous"]:
    """Convert rows over the coordinates to rows over the inputs."""
    return np.concatenate([homogeneous[..., :-1] @ basis, homogeneous[..., -1:]], -1)


def _unscaled(
    homogeneous: Float[np.ndarray, "*some homogeneous"], features: Features
) -> Float[np.ndarray, "*some homogeneous"]:
    """Convert rows over the network's inputs to rows over unscaled values."""
    if not features.mean.any() and (features.scale == 1.0).all():
        return homogeneous
    weight = homogeneous[..., :-1] / features.scale
    return np.concatenate([weight, homogeneous[..., -1:] - (weight @ features.mean)[..., None]], -1)


def _domain(
    shallow: ShallowReLU, features: Features
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"], Float[np.ndarray, "faces homogeneous"]]:
    """Return bounds and inequalities of the domain over unscaled values."""
    count, domain = len(features), shallow.domain
    unbounded, faces = np.full(count, np.inf), np.zeros((0, count + 1))
    if isinstance(domain, WholeSpace):
        return -unbounded, unbounded, faces
    if isinstance(domain, Box):
        ends = np.stack(domain.bounds(shallow.in_shape)) * features.scale + features.mean
        return ends.min(axis=0), ends.max(axis=0), faces
    a, b = (limit.cpu().numpy() for limit in shallow.limits)
    return -unbounded, unbounded, _unscaled(np.column_stack([a, -b]), features)
