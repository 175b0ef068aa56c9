"""Provide a view of one visited region, whose half-spaces are computed on demand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.functions.region import MAX_RAYS, Region
from torch_shallow.functions.shape import RegionHalfSpaces, Shape
from torch_shallow.functions.visited_function import VisitedFunction
from torch_shallow.geometry.chart import make_chart
from torch_shallow.geometry.inequalities import irredundant
from torch_shallow.geometry.interior import step_inside
from torch_shallow.geometry.units import lengths_around
from torch_shallow.program.relu_program import ReLUProgram, Stage

NO_INTERIOR = 1e-12  # a region narrower than this share of its distance from 0 has no interior


@dataclass(frozen=True, repr=False)
class VisitedRegion(Region):
    """A view of one visited region: a `Region` of which only the pattern and one point are stored.

    The point may be on the region's boundary, if some neurons are exactly zero at the input that visited it; the region
    may then even have no interior.
    """

    function: VisitedFunction  # type: ignore[assignment]

    def __repr__(self) -> str:
        pattern = self.pattern
        neurons = f"{int(pattern.sum())} of {len(pattern)} neurons active"
        return f"VisitedRegion({self.index} of {self.function.num_regions} visited: {neurons})"

    @property
    def pattern(self) -> Bool[Tensor, "neurons"]:
        """Whether each neuron is active: pre-activation > 0 where the region was visited first."""
        return self.function.patterns(torch.tensor([self.index]))[0]

    @property
    def interior_point(self) -> Float[Tensor, "*in_shape"]:
        """The input that visited the region first."""
        return self.function.points[self.index].reshape(self.function.in_shape).clone()

    @property
    def half_spaces(self) -> RegionHalfSpaces:
        """One half-space for each neuron, in order, followed by the domain; many may be redundant.

        A neuron that is constant on the region has none.
        """
        neurons, active = self.function.deep, self.pattern
        weight, bias = self.function.neuron_maps(self.index)
        numbers = weight.any(1).nonzero()[:, 0]
        sign = torch.where(active[numbers], -1.0, 1.0).to(bias)
        a, b = (torch.tensor(array).to(bias) for array in self.function.domain.inequalities(self.function.in_shape))
        names = [f"{neurons.name(n)} {'active' if active[n] else 'inactive'}" for n in numbers.tolist()]
        return RegionHalfSpaces(
            torch.cat([sign[:, None] * weight[numbers], a]),
            torch.cat([-sign * bias[numbers], b]),
            torch.cat([numbers, numbers.new_full((len(b),), -1)]),
            (*names, *["domain"] * len(b)),
        )

    def facets(self, max_rays: int = MAX_RAYS) -> RegionHalfSpaces:
        """Return the half-spaces that define the region, without redundant ones, which linear programs find.

        There is one for each facet (the first, if several share a hyperplane), and two opposite rows for each fixed
        input.

        Args:
            max_rays: not used here, where no vertices are computed.

        Raises:
            TransformError: the region has no interior, or a linear program fails.
        """
        half_spaces = self.half_spaces
        a, b = half_spaces.numpy()
        fixed, point = self._fixed, self._inside(a, b)
        moving = np.any(a[:, ~fixed], axis=1)
        needed = np.any(a, axis=1) & ~moving
        rest = b[moving] - a[moving][:, fixed] @ point[fixed]
        needed[moving] = irredundant(a[moving][:, ~fixed], rest, point[~fixed])
        return half_spaces.pick(self._tensor(needed))

    def neighbours(self, max_rays: int = MAX_RAYS) -> list[Region]:
        """Refuse to list neighbours, since adjacent regions may exist that no input has visited.

        Raises:
            TransformError: always.
        """
        raise TransformError(
            "neighbours: expected a network that knows all regions, found one of visited regions, which have unknown "
            "neighbours; transform the model without data, in a Box around the input if it is large."
        )

    def _inside(self, a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "inputs"]:
        """Return a point in the interior, or raise if there is none."""
        point, free = self.interior_point.flatten().cpu().numpy(), ~self._fixed
        slack, moving = b - a @ point, a[:, free].any(axis=1)
        units, a, slack = lengths_around(a, slack)[free], a[moving][:, free], slack[moving]
        touching = slack <= 1e-9 * (np.abs(a) @ (np.abs(point[free]) + units))
        if not touching.any():
            return point
        # Each input is measured in its own length; otherwise a step would be as small as the smallest of them.
        step, room = step_inside(a * units, slack, touching)
        if not room > NO_INTERIOR * (1.0 + float(np.abs(point[free] / units).max(initial=0.0))):
            raise TransformError(
                f"region {self.index}: expected a region with an interior, found none, since neurons are exactly zero "
                "at the input that visited it, as where max pooling compares equal values "
                f"({int(touching.sum())} half-spaces end there); use the region of an input beside it, such as "
                "x + 1e-3 * (0.5 - x) * torch.rand_like(x) for pixels from 0 to 1."
            )
        point[free] += units * step
        return point

    @property
    def _lengths(self) -> Float[np.ndarray, "inputs"]:
        """For each input, the typical distance along it from the visiting input to the half-spaces."""
        a, b = self.half_spaces.numpy()
        return lengths_around(a, b - a @ self.interior_point.flatten().cpu().numpy())

    def _shape(self, max_rays: int) -> Shape:
        half_spaces, function = self.half_spaces, self.function
        a, b = half_spaces.numpy()
        point = self._inside(a, b)
        neurons = (half_spaces.neurons >= 0).cpu().numpy()
        # Lengths are measured from the point.
        stage, outputs = Stage("", a[neurons], (b - a @ point)[neurons]), function.deep.num_outputs
        size, rows = len(point), int(neurons.sum())
        program = ReLUProgram(
            function.in_shape, function.out_shape, (stage,), np.zeros((outputs, size + rows)), np.zeros(outputs)
        )
        chart = replace(make_chart(program, function.domain), origin=point)
        # Lengths of about one: the typical distance from the point to the hyperplanes.
        hyperplanes = chart.pull_back(-a, b)
        speed = np.linalg.norm(hyperplanes[:, :-1], axis=1)
        distances = hyperplanes[speed > 0.0, -1] / speed[speed > 0.0]
        unit = 2.0 ** np.round(np.log2(np.median(distances))) if len(distances) else 1.0
        return Shape(a, b, function.domain, replace(chart, directions=unit * chart.directions), a, max_rays)
