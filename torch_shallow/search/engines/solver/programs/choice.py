"""Which solver maximises over cells."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.search.engines.solver.programs.cell_program import CellProgram
from torch_shallow.search.engines.solver.programs.cvxpy_solvers import CvxpyProgram, check_installed
from torch_shallow.search.engines.solver.programs.highs import HighsProgram


def cell_program(
    solver: str | None,
    lower: Float[np.ndarray, "dimension"],
    upper: Float[np.ndarray, "dimension"],
    tolerance: float,
) -> CellProgram:
    """Linear programs between two bounds.

    Args:
        solver: a name in `cvxpy.installed_solvers()`, in any case of letters; HiGHS, driven directly, if None.
        lower: lower bounds.
        upper: upper bounds.
        tolerance: see `CellProgram`.

    Raises:
        TransformError: there is no such solver.
    """
    if solver is None:
        return HighsProgram(lower, upper, tolerance)
    return CvxpyProgram(lower, upper, tolerance, check_installed(solver))
