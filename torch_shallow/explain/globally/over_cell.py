"""Linear programs over one cell, bounded or not, solved by HiGHS and verified independently."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.geometry.highs import Minimiser, minimiser

RESIDUAL = 1e-7  # accepted error of a solution, relative to the size of its terms


class OverCell:
    """Linear programs over one cell.

    Args:
        half_spaces: half-spaces of the cell, as homogeneous rows.
        region: number of the region for error messages; -1 is the domain.
        bounded: whether the cell is known to be bounded.
    """

    def __init__(self, half_spaces: Float[np.ndarray, "rows homogeneous"], region: int, bounded: bool) -> None:
        self._half_spaces, self._region, self._bounded = half_spaces, region, bounded
        from scipy.sparse import csr_array  # takes a while to import

        self._normals = csr_array(half_spaces[:, :-1])  # most rows are bounds of one coordinate
        self._minimise = minimiser(half_spaces)

    @cached_property
    def _minimise_direction(self) -> Minimiser:
        """Minimiser over the directions to infinity with entries from -1 to 1."""
        normals = self._half_spaces[:, :-1]
        directions = np.column_stack([normals, np.zeros(len(normals))])[normals.any(axis=1)]
        eye, ones = np.eye(normals.shape[1]), np.ones((2 * normals.shape[1], 1))
        return minimiser(np.concatenate([directions, np.column_stack([np.concatenate([eye, -eye]), ones])]))

    def greatest(
        self, target: Float[np.ndarray, "homogeneous"], flat: float
    ) -> tuple[float, Float[np.ndarray, "homogeneous"]]:
        """Find the greatest value of an affine function, and the point (v, 1) or direction (v, 0) that attains it.

        Raises:
            TransformError: the value cannot be proven.
        """
        if not self._bounded:
            ray, _ = self._minimise_direction(-target[:-1] / (np.linalg.norm(target[:-1]) or 1.0))
            if ray is None:
                raise TransformError(self._failed("the search for a direction to infinity"))
            length = np.linalg.norm(ray)
            if length > 0.5 and target[:-1] @ ray > flat * length:
                return np.inf, np.append(ray / length, 0.0)
        # The solver treats very large numbers as infinite, so it is given a unit vector.
        slope = float(np.linalg.norm(target[:-1])) or 1.0
        point, dual = self._minimise(-target[:-1] / slope)
        dual = dual * slope
        if point is None:
            raise TransformError(self._failed("the search"))
        normals, offsets = self._normals, self._half_spaces[:, -1]
        value = float(target[:-1] @ point + target[-1])
        size = slope + np.abs(target[:-1]) @ np.abs(point) + abs(target[-1])
        # For y >= 0 with target + y H = (0, bound), no value exceeds bound; a remainder is charged at the point.
        missing = target[:-1] + normals.T @ dual
        gap = float(target[-1] + dual @ offsets + np.abs(missing) @ np.abs(point)) - value
        outside = max(0.0, -float((normals @ point + offsets).min(initial=0.0)))
        if not (gap <= RESIDUAL * size and outside <= RESIDUAL * (1.0 + np.abs(point).max(initial=0.0))):
            raise TransformError(self._failed(f"a proof (gap {gap:.1e}, outside by {outside:.1e})"))
        return value, np.append(point, 1.0)

    def _failed(self, what: str) -> str:
        place = "the domain" if self._region < 0 else f"region {self._region}"
        return (
            f"max_rays: expected few vertices in {place}, or a linear program that can be solved, found neither: "
            f"{what} failed; allow more vertices and rays."
        )


def half_spaces_of(subject: InChart, region: int) -> Float[np.ndarray, "rows homogeneous"]:
    """Half-spaces of a region, those of the domain first."""
    steps = subject.function.tree.path(region)
    signs = np.array([1.0 if active else -1.0 for _, active in steps])
    return np.concatenate([subject.chart.inequalities, signs[:, None] * subject.cuts[[cut for cut, _ in steps]]])


def bounding_box(
    walls: Float[np.ndarray, "rows homogeneous"],
) -> tuple[Float[np.ndarray, "coordinates"], Float[np.ndarray, "coordinates"]]:
    """Bounds of each coordinate on the domain, from rows of one coordinate or else by linear programs."""
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
    domain, axes = OverCell(walls, -1, bounded=False), np.eye(count + 1)
    for k in range(count):
        lower[k], upper[k] = -domain.greatest(-axes[k], 1e-9)[0], domain.greatest(axes[k], 1e-9)[0]
    return lower, upper
