"""Provide views of the regions of a function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.display import TextTable, as_html, counted
from torch_shallow.domain import Polytope
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.functions.piecewise_affine import PiecewiseAffine
from torch_shallow.functions.shape import RegionHalfSpaces, Shape, fixed_inputs, reads_of, region_half_spaces
from torch_shallow.functions.tree_function import TreeFunction
from torch_shallow.geometry.interior import largest_ball
from torch_shallow.modes import outside_modes
from torch_shallow.search.partition import Partition, activation_partition

SHOWN = 8  # number of inputs and outputs of an affine map shown in a notebook
MAX_RAYS = 100_000  # largest number of vertices and rays of a region by default
ROUNDING = 1e-13  # terms below this, relative to the largest term of a sum, count as rounding


@dataclass(frozen=True, repr=False)
class Region:
    """A view of one activation region of a network, which computes what is asked of it.

    Ask it for its affine map (`weight`, `bias`), its inequalities (`half_spaces`, `facets`), its `vertices`, its
    `neighbours` or its largest ball (`chebyshev`), or whether it `contains` an input. The region is the closed set of
    inputs in the domain with one activation pattern, including its boundary; on it the network's trunk is the affine
    map `weight x + bias`. All tensors are float64, on the network's device.

    Attributes:
        function: the network's trunk.
        index: index of the region in `shallow.regions`, as `locate` returns it.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
        >>> shallow = torch_shallow.transform(model)
        >>> shallow.regions[1]
        Region(1 of 2: 1 of 1 neurons active, 1 cut above)
    """

    function: TreeFunction
    index: int

    def __repr__(self) -> str:
        partition = self.function.tree
        cuts, neurons = len(partition.path(self.index)), ""
        if isinstance(partition, Partition) and partition.mixed is None:
            pattern = self.pattern
            neurons = f"{int(pattern.sum())} of {len(pattern)} neurons active, "
        return f"Region({self.index} of {self.function.num_regions}: {neurons}{counted(cuts, 'cut')} above)"

    def _repr_html_(self) -> str:
        weight, bias = self.function.affine_maps(torch.tensor([self.index]))
        outputs, inputs = weight.shape[1:]
        head = ["", *(f"x{i}" for i in range(min(inputs, SHOWN))), *["..."] * (inputs > SHOWN), "constant"]
        rows = [
            [f"output {k}", *(f"{w:.4g}" for w in weights), *[""] * (inputs > SHOWN), f"{constant:.4g}"]
            for k, (weights, constant) in enumerate(
                zip(weight[0, :SHOWN, :SHOWN].tolist(), bias[0, :SHOWN].tolist(), strict=True)
            )
        ]
        left = f"{outputs} outputs and {inputs} inputs; all are in weight and bias"
        return as_html([repr(self), TextTable(head, rows), *[left] * (max(outputs, inputs) > SHOWN)])

    @property
    def pattern(self) -> Bool[Tensor, "neurons"]:
        """Whether each neuron of the whole network is active: pre-activation > 0 inside the region.

        Raises:
            TransformError: the region is not an activation region: it was merged from several, or the network was
                trained.
        """
        partition = activation_partition(self.function.tree)
        return self._tensor(partition.program.whole_pattern(partition.patterns(np.array([self.index]))[0]))

    @property
    def weight(self) -> Float[Tensor, "*out_and_in_shape"]:
        """The linear part of the region's map, of shape `(*trunk_shape, *in_shape)`."""
        weight, _ = self.function.affine_maps(torch.tensor([self.index]))
        return weight.reshape(*self.function.out_shape, *self.function.in_shape)

    @property
    def bias(self) -> Float[Tensor, "*out_shape"]:
        """The constant part of the region's map, of shape `trunk_shape`."""
        _, bias = self.function.affine_maps(torch.tensor([self.index]))
        return bias.reshape(self.function.out_shape)

    @property
    def interior_point(self) -> Float[Tensor, "*in_shape"]:
        """A point in the interior of the region; fixed inputs have their fixed values."""
        point = self.function.tree.interior_points(np.array([self.index]))[0]
        return self._rows(self._shape(0).inside(point)[None])[0]

    @property
    def half_spaces(self) -> RegionHalfSpaces:
        """The cuts on the region's path in the tree, root first, followed by the domain; some may be redundant.

        A fixed input of a box gives two opposite rows.
        """
        return region_half_spaces(self.function, self.index)

    def facets(self, max_rays: int = MAX_RAYS) -> RegionHalfSpaces:
        """Return the half-spaces that define the region, without redundant ones.

        There is one for each facet (the first, if several share a hyperplane), and two opposite rows for each fixed
        input.

        Args:
            max_rays: largest number of vertices and rays to compute, including intermediate ones.

        Raises:
            TransformError: there are more than `max_rays`.
        """
        return self.half_spaces.pick(self._tensor(self._shape(max_rays).needed()))

    @outside_modes
    def neighbours(self, max_rays: int = MAX_RAYS) -> list[Region]:
        """Return the regions that share a facet with this one, in the order of their indices.

        These are the regions that `explain.adjacency` connects with it, up to its tolerance; regions that touch in less
        than a facet do not count. Apart from one pass over all cuts, only the facets of this region are computed.

        Args:
            max_rays: largest number of vertices and rays of the region, and of its intersection with another, including
                intermediate ones.

        Raises:
            TransformError: the region touches an unexplored cell, there are more than `max_rays`, or the network knows
                only visited regions.

        Example:
            >>> import torch, torch_shallow
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
            >>> torch_shallow.transform(model).regions[0].neighbours()
            [Region(1 of 2: 1 of 1 neurons active, 1 cut above)]
        """
        contacts = self.function.contacts(max_rays).of(self.index, both=True)
        touching = sorted({contact.other for contact in contacts})
        if touching and touching[-1] == self.function.num_regions:  # this number stands for all unexplored cells
            raise TransformError(
                f"neighbours: expected a region among known ones, found that region {self.index} touches an unexplored "
                "cell; go on with shallow.resume(model)."
            )
        return [Region(self.function, other) for other in touching]

    def as_polytope(self) -> Polytope:
        """Return the region as a domain, in which models with the same inputs can be transformed or explained.

        The polytope has all rows of `half_spaces`, including redundant ones. A coefficient that is within the row's
        rounding is left out, with each input measured as in `contains`: it would bound the input only at a distance of
        10^13 lengths.

        Raises:
            TransformError: the domain fixes inputs, so the region has no interior among all inputs.

        Example:
            >>> import torch, torch_shallow
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
            >>> region = torch_shallow.transform(model).regions[0]
            >>> torch_shallow.transform(model, domain=region.as_polytope()).num_regions
            1
        """
        fixed = np.flatnonzero(self._fixed)
        if len(fixed):
            raise TransformError(
                "as_polytope: expected a domain in which every input varies, since a polytope must have an interior, "
                f"found {len(fixed)} fixed (the first is number {fixed[0]}); hold these inputs constant in the model, "
                "so that it has fewer inputs."
            )
        a, b = self.half_spaces.numpy()
        size = np.abs(a) * self._lengths
        return Polytope(np.where(size >= ROUNDING * size.max(axis=1, keepdims=True, initial=0.0), a, 0.0), b)

    def vertices(self, max_rays: int = MAX_RAYS) -> Float[Tensor, "vertices *in_shape"]:
        """Return the vertices; the region is conv(vertices) + cone(rays) + span(lines).

        If there are lines, the region has no vertex, and the result contains one point of each of its smallest faces. A
        vertex more than 10^9 typical lengths away counts as a ray.

        Args:
            max_rays: largest number of vertices and rays to compute, including intermediate ones.

        Raises:
            TransformError: there are more than `max_rays`.
        """
        return self._rows(self._shape(max_rays).vertices())

    def rays(self, max_rays: int = MAX_RAYS) -> Float[Tensor, "rays *in_shape"]:
        """Return the unit directions of the unbounded edges.

        Args:
            max_rays: largest number of vertices and rays to compute, including intermediate ones.

        Raises:
            TransformError: there are more than `max_rays`.
        """
        return self._rows(self._shape(max_rays).rays())

    def lines(self, max_rays: int = MAX_RAYS) -> Float[Tensor, "lines *in_shape"]:
        """Return independent unit directions in which the region is unbounded on both sides.

        Args:
            max_rays: largest number of vertices and rays to compute, including intermediate ones.

        Raises:
            TransformError: there are more than `max_rays`.
        """
        return self._rows(self._shape(max_rays).lines())

    def chebyshev(self, solver: str | None = None) -> tuple[Float[Tensor, "*in_shape"], float]:
        """Compute centre and radius of a largest ball in the region, with cvxpy.

        Fixed inputs are ignored: the ball lies in the space of the other inputs. If balls of every size fit into the
        region, the radius is inf and the centre is the interior point.

        Args:
            solver: a name in `cvxpy.installed_solvers()`; HiGHS if None.

        Returns:
            The centre, in the input's shape, and the radius.

        Raises:
            TransformError: the solver fails.
        """
        a, b = self.half_spaces.numpy()
        point = self.interior_point.reshape(-1).cpu().numpy()
        free = ~self._fixed
        centre, radius = largest_ball(a[:, free], b - a[:, ~free] @ point[~free], point[free], solver)
        point[free] = centre
        return self._rows(point[None])[0], radius

    def constraints(self, x: Any) -> list[Any]:
        """Return the region as constraints for your own cvxpy problem.

        Args:
            x: a cvxpy expression of shape `(inputs,)` or of the input's shape.

        Returns:
            One inequality for all rows, and one equality for all fixed inputs, if there are any.

        Raises:
            WrongTypeError: `x` is not a cvxpy expression.
            TransformError: `x` has another shape.
        """
        import cvxpy

        in_shape = self.function.in_shape
        size = torch.Size(in_shape).numel()
        if not isinstance(x, cvxpy.Expression) or x.shape not in ((size,), in_shape):
            found = x.shape if isinstance(x, cvxpy.Expression) else type(x).__name__
            raise argument_error(x, cvxpy.Expression)(
                f"x: expected a cvxpy expression of shape {(size,)} or {in_shape}, found {found}; "
                f"make one with cvxpy.Variable({size})."
            )
        x = x if x.ndim == 1 else x.flatten(order="C")
        a, b = self.half_spaces.numpy()
        fixed = self._fixed
        moving = a[:, ~fixed].any(axis=1)
        constraints = [a[moving] @ x <= b[moving]] if moving.any() else []
        if fixed.any():
            constraints.append(x[np.flatnonzero(fixed)] == self.interior_point.flatten().cpu().numpy()[fixed])
        return constraints

    def contains(self, x: Float[Tensor, "*batch_and_in_shape"], tolerance: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Tell which inputs lie in the closed region; an input on a boundary lies in several regions.

        Args:
            x: floating point, of shape `(*batch, *in_shape)`.
            tolerance: how far a half-space may be missed, relative to the terms of its sum. Each entry of the input
                counts for at least the length in which the domain or the first hyperplanes are measured along it.

        Returns:
            A boolean for each input, of shape `batch`.

        Raises:
            WrongTypeError: `x` is not a tensor.
            TransformError: `x` has another shape.
        """
        if not isinstance(x, Tensor):
            raise WrongTypeError(f"x: expected a tensor, found {type(x).__name__}; convert it with torch.as_tensor(x).")
        in_shape, half_spaces = self.function.in_shape, self.half_spaces
        batch = x.shape[: max(0, x.dim() - len(in_shape))]
        if x.shape != (*batch, *in_shape):
            raise TransformError(
                f"x: expected shape (*batch, {', '.join(map(str, in_shape))}), found {tuple(x.shape)}; reshape it."
            )
        points = x.reshape(*batch, half_spaces.A.shape[1]).to(half_spaces.A)
        size = (points.abs() + self._tensor(self._lengths)) @ half_spaces.A.abs().T
        return (points @ half_spaces.A.T <= half_spaces.b + tolerance * size).all(-1)

    @property
    def _lengths(self) -> Float[np.ndarray, "inputs"]:
        """For each input, the length in which the domain or the first hyperplanes are measured along it."""
        return self.function.tree.chart.lengths_in(self.function.domain, self.function.in_shape)

    @property
    def _fixed(self) -> Bool[np.ndarray, "inputs"]:
        """Whether each input has only one value in the domain."""
        return fixed_inputs(self.function.domain, self.function.in_shape)

    def _shape(self, max_rays: int) -> Shape:
        function = self.function
        return Shape(*self.half_spaces.numpy(), function.domain, function.tree.chart, reads_of(function), max_rays)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.function.device)

    def _rows(self, array: Float[np.ndarray, "rows inputs"]) -> Float[Tensor, "rows *in_shape"]:
        return self._tensor(array).reshape(len(array), *self.function.in_shape)


class Regions(Sequence[Region]):
    """The regions of a function, in its own order; a slice is again such a view.

    Args:
        function: the function.
        view: class or function that creates the view of a region.
        numbers: indices of the regions; all if None.
    """

    def __init__(
        self, function: PiecewiseAffine, view: Callable[[Any, int], Region] = Region, numbers: range | None = None
    ) -> None:
        self._function, self._view = function, view
        self._numbers = range(function.num_regions) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Region: ...

    @overload
    def __getitem__(self, index: slice) -> Regions: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Region | Regions:
        """Return the region at an index (negative: from the end), or the regions of a slice."""
        if isinstance(index, slice):
            return Regions(self._function, self._view, self._numbers[index])
        number, count = operator.index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"index: expected {-count} to {count - 1}, for {count} regions, found {number}.")
        return self._view(self._function, self._numbers[number])

    def __repr__(self) -> str:
        return f"Regions({len(self)} of {self._function.num_regions} activation regions)"
