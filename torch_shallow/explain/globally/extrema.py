"""The least and greatest values of every output in the chart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.geometry.highs import Minimiser, minimiser

OUTSIDE = 10  # times the tolerance: a vertex may be so far outside of its region, and a thinner region has no vertices
RESIDUAL = 1e-7  # what a solution may lack, relative to the size of its terms
MODELS = 256  # of HiGHS in memory


@dataclass(frozen=True, eq=False)
class Extrema:
    """The least (column 0) and greatest (column 1) value of each output, and where.

    Attributes:
        best: the values.
        where: their regions.
        at: where they are: a point (v, 1) of the chart, or a direction (v, 0) along which a value is infinite.
    """

    best: Float[np.ndarray, "outputs 2"]
    where: Int[np.ndarray, "outputs 2"]
    at: Float[np.ndarray, "outputs 2 homogeneous"]


def find_extrema(
    subject: InChart, flat: Float[np.ndarray, "outputs"], max_rays: int, tolerance: float
) -> tuple[Extrema, int]:
    """Look at the vertices and rays of every region, or solve linear programs where there are too many.

    A slope along a ray up to `flat` is none. A cell of more vertices and rays than `max_rays` is left to linear
    programs, as is one with vertices outside of it; `tolerance` is as for `CellWalk`.

    Returns:
        What was found, and how many linear programs were solved.
    """
    # Compiled code is imported when it is used.
    from torch_shallow.explain.globally.cell_cones import CellPaths, CellWalk, extremes
    from torch_shallow.geometry.tree_kernels import margins

    outputs, dimension = subject.function.num_outputs, subject.chart.num_coordinates + 1
    found = Extrema(
        np.tile([np.inf, -np.inf], (outputs, 1)),
        np.full((outputs, 2), -1),
        np.zeros((outputs, 2, dimension)),
    )
    cut_parents, region_parents = subject.function.tree.parents
    paths = CellPaths(region_parents, cut_parents, subject.cuts, OUTSIDE * tolerance)
    margin, doubtful = np.zeros(subject.function.num_regions), np.zeros(subject.function.num_regions, dtype=bool)
    margins(
        subject.function.tree.points,
        paths.regions,
        paths.parents,
        paths.cuts,
        margin,
        np.zeros(subject.function.num_regions, dtype=np.int64),
    )
    known = margin > paths.allowed
    state = (paths, known, found.best, found.where, found.at, doubtful)
    walk = CellWalk(subject, max_rays, tolerance)
    for cells in walk:
        rows = subject.rows(cells.regions)
        extremes(cells.ends, cells.num_lines, cells.regions, cells.generators, rows, flat, tolerance, *state)
    thin = np.union1d(walk.thin, np.flatnonzero(~known))
    if len(thin):  # what is known of them is a point
        known[:] = True
        points = np.column_stack([subject.function.tree.points[thin], np.ones(len(thin))])
        ends, none = np.arange(len(thin) + 1), np.zeros(len(thin), dtype=np.int64)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        extremes(ends, none, thin, points, subject.rows(thin), flat, tolerance, *state)
    left = np.setdiff1d(np.union1d(walk.large, np.flatnonzero(doubtful)), thin)
    programs = improve_by_programs(found, subject, left, flat) if len(left) else 0
    return found, programs


def improve_by_programs(
    extrema: Extrema, subject: InChart, regions: Int[np.ndarray, "regions"], flat: Float[np.ndarray, "outputs"]
) -> int:
    """Improve what is known by linear programs over some regions, the most promising first.

    A region is left out where no value of its local model on the bounding box of the domain is better than what is
    known. Whatever HiGHS says of a solution, that it lies in the region, and that its dual proves that nothing in the
    region is better, is computed here.

    Returns:
        How many linear programs were solved.

    Raises:
        TransformError: a solution is not proven.
    """
    walls = subject.chart.inequalities
    lower, upper = _bounding_box(walls)
    solved, rows, bounded = 0, subject.rows(regions), bool(np.isfinite(lower).all() and np.isfinite(upper).all())
    programs = lru_cache(maxsize=MODELS)(lambda region: _OverCell(_half_spaces(subject, region), region, bounded))
    for i in range(rows.shape[1]):
        weight, constant = rows[:, i, :-1], rows[:, i, -1]
        if bounded:
            middle = weight @ ((lower + upper) / 2) + constant
            reach = np.abs(weight) @ ((upper - lower) / 2)
        else:
            middle, reach = constant, np.full(len(rows), np.inf)
        for side, sign in enumerate((-1.0, 1.0)):
            bound = sign * middle + reach
            for k in np.argsort(-bound, kind="stable").tolist():
                if bound[k] <= sign * extrema.best[i, side]:
                    break
                solved += 1
                region = int(regions[k])
                value, at = programs(region).greatest(sign * rows[k, i], flat[i])
                if value > sign * extrema.best[i, side]:
                    extrema.best[i, side], extrema.where[i, side], extrema.at[i, side] = sign * value, region, at
    return solved


class _OverCell:
    """Linear programs over one cell.

    Args:
        half_spaces: of the cell.
        region: for errors; -1 is the domain.
        bounded: whether the cell is known to be bounded.
    """

    def __init__(self, half_spaces: Float[np.ndarray, "rows homogeneous"], region: int, bounded: bool) -> None:
        self._half_spaces, self._region, self._bounded = half_spaces, region, bounded
        from scipy.sparse import csr_array  # which takes a while to import

        self._normals = csr_array(half_spaces[:, :-1])  # mostly bounds of one coordinate each
        self._minimise = minimiser(half_spaces)

    @cached_property
    def _minimise_direction(self) -> Minimiser:
        """Over the directions to infinity with entries from -1 to 1."""
        normals = self._half_spaces[:, :-1]
        directions = np.column_stack([normals, np.zeros(len(normals))])[normals.any(axis=1)]
        eye, ones = np.eye(normals.shape[1]), np.ones((2 * normals.shape[1], 1))
        return minimiser(np.concatenate([directions, np.column_stack([np.concatenate([eye, -eye]), ones])]))

    def greatest(
        self, target: Float[np.ndarray, "homogeneous"], flat: float
    ) -> tuple[float, Float[np.ndarray, "homogeneous"]]:
        """The greatest value of an affine function, and the point (v, 1) or direction (v, 0) that has it.

        Raises:
            TransformError: it is not proven.
        """
        if not self._bounded:
            ray, _ = self._minimise_direction(-target[:-1] / (np.linalg.norm(target[:-1]) or 1.0))
            if ray is None:
                raise TransformError(self._failed("looking for a direction to infinity"))
            length = np.linalg.norm(ray)
            if length > 0.5 and target[:-1] @ ray > flat * length:
                return np.inf, np.append(ray / length, 0.0)
        # The solver takes very large numbers for infinite: it is given a unit vector.
        slope = float(np.linalg.norm(target[:-1])) or 1.0
        point, dual = self._minimise(-target[:-1] / slope)
        dual = dual * slope
        if point is None:
            raise TransformError(self._failed("the search"))
        normals, offsets = self._normals, self._half_spaces[:, -1]
        value = float(target[:-1] @ point + target[-1])
        size = slope + np.abs(target[:-1]) @ np.abs(point) + abs(target[-1])
        # For y >= 0 with target + y H = (0, bound) no value is above bound; what is missing to 0 is paid at the point.
        missing = target[:-1] + normals.T @ dual
        gap = float(target[-1] + dual @ offsets + np.abs(missing) @ np.abs(point)) - value
        outside = max(0.0, -float((normals @ point + offsets).min(initial=0.0)))
        if not (gap <= RESIDUAL * size and outside <= RESIDUAL * (1.0 + np.abs(point).max(initial=0.0))):
            raise TransformError(self._failed(f"a proof (gap {gap:.1e}, outside by {outside:.1e})"))
        return value, np.append(point, 1.0)

    def _failed(self, what: str) -> str:
        place = "the domain" if self._region < 0 else f"region {self._region}"
        return (
            f"max_rays: {place} has too many vertices, and of its linear program {what} failed; allow more "
            "vertices and rays."
        )


def _half_spaces(subject: InChart, region: int) -> Float[np.ndarray, "rows homogeneous"]:
    steps = subject.function.tree.path(region)
    signs = np.array([1.0 if active else -1.0 for _, active in steps])
    return np.concatenate([subject.chart.inequalities, signs[:, None] * subject.cuts[[cut for cut, _ in steps]]])


def _bounding_box(
    walls: Float[np.ndarray, "rows homogeneous"],
) -> tuple[Float[np.ndarray, "coordinates"], Float[np.ndarray, "coordinates"]]:
    """Bounds of each coordinate on the domain: of rows of one coordinate, or else by linear programs."""
    count = walls.shape[1] - 1
    lower, upper = np.full(count, -np.inf), np.full(count, np.inf)
    for row in walls[np.count_nonzero(walls[:, :-1], axis=1) == 1]:
        k = int(np.abs(row[:-1]).argmax())
        if row[k] > 0.0:
            lower[k] = max(lower[k], -row[-1] / row[k])
        else:
            upper[k] = min(upper[k], -row[-1] / row[k])
    if np.isfinite(lower).all() and np.isfinite(upper).all():
        return lower, upper
    domain, axes = _OverCell(walls, -1, bounded=False), np.eye(count + 1)
    for k in range(count):
        lower[k], upper[k] = -domain.greatest(-axes[k], 1e-9)[0], domain.greatest(axes[k], 1e-9)[0]
    return lower, upper
