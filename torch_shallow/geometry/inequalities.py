"""Facets of a polyhedron among its half-spaces: most are detected at once, few need a linear program; any dimension."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import row_space
from torch_shallow.geometry.highs import linear_program, of_one_variable, solve, tightest
from torch_shallow.geometry.units import lengths_around

CHOOSE, PRIMAL = 0, 4  # HiGHS's numbers of its own choice, and of the primal simplex method


def irredundant(
    a: Float[np.ndarray, "rows inputs"],
    b: Float[np.ndarray, "rows"],
    point: Float[np.ndarray, "inputs"],
    tolerance: float = 1e-9,
) -> Bool[np.ndarray, "rows"]:
    """Return which rows of `a x <= b` cannot be left out; of several with the same hyperplane, only the first.

    A row is certainly needed if some step from the point is forbidden by it alone. From the last row to the first, each
    other row is left out if the rows known to be needed keep its value below its bound. Otherwise, the way to the point
    that violates it meets another row first, which is needed (Clarkson, "More output-sensitive geometric algorithms",
    FOCS 1994). So linear programs have no more rows than there are facets.

    Args:
        a: Rows, none of them zero.
        b: Right-hand sides.
        point: Point in the interior.
        tolerance: How far a half-space must reach beyond the others to be needed, relative to their median distance.

    Raises:
        TransformError: HiGHS does not solve a linear program.
    """
    if not len(b):
        return np.zeros(0, dtype=bool)
    slack = b - a @ point
    a = _in_coordinates(a, lengths_around(a, slack))
    norms = np.linalg.norm(a, axis=1)
    normals, slack = a / norms[:, None], slack / norms
    slack /= np.median(slack)
    sure = seen_first(normals, slack, tolerance)
    needed = ~of_one_variable(normals)
    bounding = np.concatenate(tightest(normals, slack))
    needed[bounding[bounding >= 0]] = True
    rest = np.flatnonzero(needed & ~sure)[::-1]
    if not len(rest):
        return needed
    search = _Facets(normals, slack, needed, needed & (sure | of_one_variable(normals)), tolerance)
    for row in map(int, rest):
        search.decide(row)
    return needed


class _Facets:
    """Decides row by row which of `normals step <= slack` are needed.

    Args:
        normals: Unit rows.
        slack: Positive right-hand sides.
        needed: Mask of the rows not known to be redundant; updated.
        known: Mask of the rows with which linear programs start.
        tolerance: How far the step that a row forbids must go beyond it.
    """

    def __init__(
        self,
        normals: Float[np.ndarray, "rows inputs"],
        slack: Float[np.ndarray, "rows"],
        needed: Bool[np.ndarray, "rows"],
        known: Bool[np.ndarray, "rows"],
        tolerance: float,
    ) -> None:
        self._normals, self._slack, self._needed, self._known = normals, slack, needed, known.copy()
        self._tolerance = tolerance
        self._program = _Program(normals, slack, known)
        self._all: _Program | None = None

    def decide(self, row: int) -> None:
        """Decide whether a row is needed.

        Raises:
            TransformError: HiGHS does not solve a linear program.
        """
        if self._known[row] and row not in self._program:
            return
        while True:
            step = self._program.furthest(row)
            if not self._beyond(row, step):
                self._leave_out(row)
                return
            first = self._met_first(step)
            if first < 0 or self._known[first]:
                break
            self._known[first] = True
            self._program.add(first)
            if first == row:
                return
        # Several rows are met at once: only all of the others can decide.
        if self._all is None:
            self._all = _Program(self._normals, self._slack, self._needed)
        if not self._beyond(row, self._all.furthest(row)):
            self._leave_out(row)

    def _beyond(self, row: int, step: Float[np.ndarray, "inputs"]) -> bool:
        return bool(self._normals[row] @ step > self._slack[row] + self._tolerance)

    def _leave_out(self, row: int) -> None:
        self._needed[row] = False
        for program in (self._program, self._all):
            if program is not None and row in program:
                program.leave_out(row)

    def _met_first(self, step: Float[np.ndarray, "inputs"]) -> int:
        """Return the only row that forbids some step in a direction; -1 if several do at once."""
        speed = self._normals @ step
        with np.errstate(divide="ignore", over="ignore"):
            times = np.where(self._needed & (speed > 0.0), self._slack / speed, np.inf)
        first = int(times.argmin())
        here, times[first] = times[first], np.inf
        beyond = speed[first] * min(times.min(), 2.0 * here) - self._slack[first]
        return first if beyond > self._tolerance else -1


def _in_coordinates(
    a: Float[np.ndarray, "rows inputs"], units: Float[np.ndarray, "inputs"]
) -> Float[np.ndarray, "rows coordinates"]:
    """Return the rows with each input in its unit, without directions along which none of them changes.

    Along such directions, rounding would let a linear program run forever.
    """
    used, alone = a.any(axis=0), a[np.count_nonzero(a, axis=1) == 1].any(axis=0)
    if not alone[used].all():  # otherwise there are none
        basis = row_space(a, units)
        if len(basis) < used.sum():
            return (a * units) @ basis.T
    return a * units


def seen_first(
    normals: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"], tolerance: float
) -> Bool[np.ndarray, "rows"]:
    """Return rows of `normals step <= slack` such that some step is forbidden by the row alone: it is certainly needed.

    One direction per row is tried, the one perpendicular to it in the metric of Dikin's ellipsoid around the point, in
    which all hyperplanes are about equally far away (Dikin 1967). Any direction gives a correct result despite
    rounding, since only the row it meets first counts; these directions find nearly all rows.

    Args:
        normals: Unit rows.
        slack: Positive right-hand sides, about one.
        tolerance: How far the step must go beyond the row.
    """
    scaled = normals / slack[:, None]
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    large = values > values[-1] * 1e-13
    directions = ((scaled @ vectors[:, large]) / values[large]) @ vectors[:, large].T
    speed = normals @ directions.T
    with np.errstate(divide="ignore", over="ignore"):
        times = np.where(speed > 0.0, slack[:, None] / speed, np.inf)
    every = np.arange(len(slack))
    first = times.argmin(axis=0)
    here = times[first, every]
    times[first, every] = np.inf
    # As far as the second row, but at most twice as far as the first.
    beyond = speed[first, every] * np.minimum(times.min(axis=0), 2.0 * here) - slack[first]
    sure = np.zeros(len(slack), dtype=bool)
    sure[first[np.isfinite(here) & (beyond > tolerance)]] = True
    return sure


class _Program:
    """Linear program over some rows of `normals x <= slack`; each solve continues from the last one.

    Rows of a single input become bounds of this input, so a box costs nothing.
    """

    def __init__(
        self,
        normals: Float[np.ndarray, "rows inputs"],
        slack: Float[np.ndarray, "rows"],
        taken: Bool[np.ndarray, "rows"],
    ) -> None:
        single, columns = of_one_variable(normals), normals.shape[1]
        oblique = np.flatnonzero(~single & taken)
        self._normals, self._slack = normals, slack
        self._row_of = {int(row): k for k, row in enumerate(oblique)}
        self._single = set(map(int, np.flatnonzero(single & taken)))
        self._lower, self._upper = np.full(columns, -np.inf), np.full(columns, np.inf)
        for row in self._single:
            self._bound(row, float(slack[row]))
        sides, bounds = (-np.inf, slack[oblique]), (self._lower, self._upper)
        # The primal method continues from the last solution when the cost changes.
        options = {"presolve": "off", "primal_feasibility_tolerance": 1e-10, "simplex_strategy": PRIMAL}
        self._highs = linear_program(normals[oblique], sides, bounds, options, maximise=True)

    def __contains__(self, row: int) -> bool:
        return row in self._row_of or row in self._single

    def furthest(self, row: int) -> Float[np.ndarray, "inputs"]:
        """Return the point where a row is largest while the others hold and it exceeds its own bound by at most one.

        Raises:
            TransformError: HiGHS does not find it.
        """
        limit, inside = self._slack[row] + 1.0, row in self
        if inside:
            self.move(row, limit)
        else:
            self._append(row, limit)
        status = solve(self._highs, self._normals[row])
        if status:  # from where the last one ended; anew, and by the method of HiGHS's own choice, is slower
            self._highs.clearSolver()
            self._highs.setOptionValue("simplex_strategy", CHOOSE)
            status = solve(self._highs, self._normals[row])
            self._highs.setOptionValue("simplex_strategy", PRIMAL)
        if status:
            raise TransformError(
                f"solver: HiGHS ended with status {status!r} on a linear program for a facet; scale the inputs to "
                "ordinary sizes."
            )
        x = np.array(self._highs.getSolution().col_value)
        if inside:
            self.move(row, self._slack[row])
        else:
            self._highs.deleteRows(1, np.array([len(self._row_of)], dtype=np.int32))
        return x

    def add(self, row: int) -> None:
        """Add a row of several inputs."""
        self._append(row, self._slack[row])
        self._row_of[row] = len(self._row_of)

    def move(self, row: int, limit: float) -> None:
        """Move the limit of a row that has been added."""
        if row in self._row_of:
            self._highs.changeRowBounds(self._row_of[row], -np.inf, limit)
            return
        column = self._bound(row, limit)
        self._highs.changeColBounds(column, self._lower[column], self._upper[column])

    def leave_out(self, row: int) -> None:
        """Let a row that is taken reach much farther; one of a single input still keeps it from going on for ever.

        That others imply it is true up to rounding, of which a linear program may make an infinite step.
        """
        self.move(row, 2.0 * self._slack[row] + 1.0 if row in self._single else np.inf)

    def _append(self, row: int, limit: float) -> None:
        columns = np.flatnonzero(self._normals[row])
        self._highs.addRow(-np.inf, limit, len(columns), columns.astype(np.int32), self._normals[row, columns])

    def _bound(self, row: int, limit: float) -> int:
        """Record a row of one input as its bound; return the input."""
        column = int(self._normals[row].nonzero()[0][0])
        if self._normals[row, column] > 0.0:
            self._upper[column] = limit
        else:
            self._lower[column] = -limit
        return column
