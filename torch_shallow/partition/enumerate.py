"""Program and domain to partition: which engine walks, and what it hands to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.partition.cells import Cell
from torch_shallow.partition.chart import make_chart
from torch_shallow.partition.compiled import announced
from torch_shallow.partition.double_description.engine import enumerate_by_rays
from torch_shallow.partition.partition import Growth, Partition
from torch_shallow.partition.rebuild import balanced
from torch_shallow.partition.simplex.engine import SimplexWalk
from torch_shallow.partition.solver.engine import enumerate_by_lp
from torch_shallow.partition.solver.programs.cvxpy_solvers import check_installed
from torch_shallow.trace.program import ReLUProgram

METHODS = ("auto", "double-description", "lp")


def enumerate_regions(
    program: ReLUProgram,
    domain: Domain,
    *,
    method: str = "auto",
    solver: str | None = None,
    tolerance: float = 1e-10,
    max_corners: int = 64,
    max_rays: int = 1024,
    progress: bool = False,
) -> Partition:
    """Partition a domain into the activation regions of a program.

    Complete, and sound up to `tolerance`. Which regions there are also says how they are numbered: see `balanced`.

    Args:
        program: the network.
        domain: where to look.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`: rays, and
            half-spaces where there are too many rays.
        solver: what solves the linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that
            proves each answer, and HiGHS for a program that it cannot settle.
        tolerance: a pre-activation cuts a cell if, relative to the size of its row, it is beyond this on both sides.
        max_corners: `"auto"` begins a box of more corners with half-spaces.
        max_rays: `"auto"` changes to half-spaces in a cell of more rays.
        progress: show how many regions are found so far.

    Raises:
        TransformError: unknown method or solver, or a domain that does not fit.
    """
    if method not in METHODS:
        raise TransformError(f"method: expected one of {', '.join(map(repr, METHODS))}, found {method!r}.")
    if solver is not None:
        check_installed(solver)
    chart, growth = make_chart(program, domain), Growth()

    def by_solver(cell: Cell | None = None) -> None:
        enumerate_by_lp(program, chart, growth, solver=solver, tolerance=tolerance, start=cell)

    simplex = SimplexWalk(program, chart, growth, tolerance=tolerance, hand_over=by_solver)
    by_half_spaces = simplex.run if solver is None else by_solver
    corners = 2.0**chart.num_coordinates if chart.is_box else 0
    with announced(), _counted(growth, progress):
        if method == "lp" or (method == "auto" and corners > max_corners):
            by_half_spaces()
        else:
            limit = max_rays if method == "auto" else None
            enumerate_by_rays(program, chart, growth, tolerance=tolerance, max_rays=limit, hand_over=by_half_spaces)
        return balanced(growth.finish(program, domain, chart))


@contextmanager
def _counted(growth: Growth, progress: bool) -> Iterator[None]:
    """Show how many regions there are, while they are found."""
    if not progress:
        yield
        return
    from tqdm.auto import tqdm

    with tqdm(unit=" regions") as bar:
        growth.report = bar.update
        yield
