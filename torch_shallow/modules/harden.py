"""From a soft network back to a shallow one, without the regions that have become empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.geometry.homogeneous import cut_rows
from torch_shallow.geometry.tree import FreeTree, Tree
from torch_shallow.search.affine_maps import AffineMaps

if TYPE_CHECKING:
    from torch_shallow.modules.shallow_relu import ShallowReLU
    from torch_shallow.modules.soft_relu import SoftReLU

CLEAR = 16 * float(np.finfo(np.float64).eps)  # a point is inside of a half-space by more than rounding
THINNEST = 1e-10  # a region thinner than that has no interior, relative to its size and to its distance from 0


def harden(soft: SoftReLU) -> ShallowReLU:
    """The shallow network with the half-spaces and local models of a soft one.

    A region has an interior if its old interior point is still inside, or else if the largest ball in it that a linear
    program finds has a radius above `THINNEST`, in the coordinates of the chart, measured from the half-spaces. Where
    only one side of a cut has, it takes the place of the cut. Elsewhere the output is what the descent of the tree
    gives. The chart stays that of the tree: training moves half-spaces in the coordinates that the network reads, never
    beyond them.

    Args:
        soft: the soft network; it is not changed.

    Raises:
        TransformError: a parameter is not finite, or HiGHS does not solve a linear program.
    """
    wrong = [name for name, parameter in soft.named_parameters() if not parameter.isfinite().all()]
    if wrong:
        raise TransformError(
            f"harden: expected finite parameters, found NaN or infinity in {', '.join(wrong)}; train with a smaller "
            "step, or go back to an earlier state."
        )
    tree = soft.partition
    points, occupied = _interior_points(tree, cut_rows(tree.chart, soft.projection, soft.normals, soft.offsets))
    children, cuts, regions = _without_empty(tree.children, occupied)
    maps = AffineMaps(
        None if soft.projection is None else _array(soft.projection),
        np.column_stack([_array(soft.normals)[cuts], _array(soft.offsets)[cuts]]),
        _array(soft.weights)[regions],
        _array(soft.biases)[regions],
        None if soft.skip is None else _array(soft.skip),
    )
    free = FreeTree(
        in_shape=tree.in_shape,
        out_shape=tree.out_shape,
        domain=tree.domain,
        chart=tree.chart,
        children=children,
        points=points[regions],
    )
    shallow = soft.network(free, maps, head=soft.head).to(soft.offsets.device)
    shallow.may_be_discontinuous = True
    return shallow


def _interior_points(
    tree: Tree, cuts: Float[np.ndarray, "cuts homogeneous"]
) -> tuple[Float[np.ndarray, "regions coordinates"], Bool[np.ndarray, "regions"]]:
    """A point of each region, and which of these are in its interior."""
    from torch_shallow.certify.cell_signs import margins  # compiled code is imported when it is used

    above_cuts, above_regions = tree.parents
    least, nearest = np.zeros(tree.num_regions), np.zeros(tree.num_regions, dtype=np.int64)
    margins(tree.points, above_regions, above_cuts, cuts, least, nearest)
    points, occupied = tree.points.copy(), least > CLEAR
    for region in np.flatnonzero(~occupied).tolist():
        steps = tree.path(region)
        signs = np.array([1.0 if active else -1.0 for _, active in steps])
        rows = signs[:, None] * cuts[[cut for cut, _ in steps]]
        centre, radius = _largest_ball(np.concatenate([tree.chart.inequalities, rows]))
        points[region], occupied[region] = centre, radius > THINNEST * (1.0 + np.abs(centre).max(initial=0.0))
    return points, occupied


def _largest_ball(rows: Float[np.ndarray, "rows homogeneous"]) -> tuple[Float[np.ndarray, "coordinates"], float]:
    """Centre and radius of a largest ball of radius 1 or less; the radius is measured from the rows.

    Raises:
        TransformError: HiGHS does not solve the linear program.
    """
    from scipy.optimize import linprog

    normals, offsets = rows[:, :-1], rows[:, -1]
    lengths = np.linalg.norm(normals, axis=1)
    solution = linprog(
        np.append(np.zeros(normals.shape[1]), -1.0),
        A_ub=np.column_stack([-normals, lengths]),
        b_ub=offsets,
        bounds=[(None, None)] * normals.shape[1] + [(None, 1.0)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    if solution.status == 2:  # a cut that is constant in the domain, on its other side
        return np.zeros(normals.shape[1]), -np.inf
    if solution.status != 0:
        raise TransformError(f"harden: looking for the interior of a region failed: {solution.message}")
    centre = solution.x[:-1]
    moving = lengths > 0.0
    return centre, float(((normals @ centre + offsets)[moving] / lengths[moving]).min(initial=1.0))


def _without_empty(
    children: Int[np.ndarray, "cuts 2"], occupied: Bool[np.ndarray, "regions"]
) -> tuple[Int[np.ndarray, "fewer_cuts 2"], Int[np.ndarray, "fewer_cuts"], Int[np.ndarray, "fewer_regions"]]:
    """The tree without empty regions: its children, and the numbers that its cuts and regions had before.

    Raises:
        TransformError: all regions are empty.
    """
    if not occupied.any():
        raise TransformError("harden: no region has an interior: the domain is too thin for the trained half-spaces.")
    stands_for = np.arange(len(children))  # what is left of the subtree of each cut: a cut, or region k as ~k
    empty, keep = np.zeros(len(children), dtype=bool), np.zeros(len(children), dtype=bool)
    fresh = np.zeros((len(children), 2), dtype=np.int64)
    for cut in range(len(children) - 1, -1, -1):
        sides = [child for child in children[cut] if not (empty[child] if child >= 0 else ~occupied[~child])]
        left = [stands_for[child] if child >= 0 else child for child in sides]
        empty[cut], keep[cut] = not left, len(left) == 2
        if keep[cut]:
            fresh[cut] = left
        elif left:
            stands_for[cut] = left[0]
    cuts, regions = np.flatnonzero(keep), np.flatnonzero(occupied)
    fresh = fresh[cuts]
    inner = fresh >= 0
    fresh[inner] = np.searchsorted(cuts, fresh[inner])
    fresh[~inner] = ~np.searchsorted(regions, ~fresh[~inner])
    return fresh, cuts, regions


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
