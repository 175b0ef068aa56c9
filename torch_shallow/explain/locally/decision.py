"""Class of a point, and whether it is the same in the whole region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.units import lengths_around

ROUNDING = 64 * np.finfo(np.float64).eps  # rounding error of a sum, relative to its terms


@dataclass(frozen=True, eq=False)
class Decision:
    """The class of a point: the number of the largest output, or the first of several.

    Attributes:
        label: the class.
        runner_up: the class of the next largest output.
        margin: difference between the largest output and the next one.
        constant: whether no other output is larger anywhere in the region.
        rival: a class that is larger somewhere in the region; None if there is none.
        rival_at: an input of the network, in the region, at which the rival is larger; None if there is none.
    """

    label: int
    runner_up: int
    margin: float
    constant: bool
    rival: int | None
    rival_at: Float[np.ndarray, "inputs"] | None


def decide(
    output: Float[np.ndarray, "outputs"],
    weight: Float[np.ndarray, "outputs inputs"],
    x: Float[np.ndarray, "inputs"],
    a: Float[np.ndarray, "rows inputs"],
    slack: Float[np.ndarray, "rows"],
    tolerance: float = 1e-7,
) -> Decision:
    """Find the class at a point and, by a linear program for each other class, whether it is the class of the region.

    That a class is nowhere larger is certified by the multipliers of the program, that it is somewhere larger by a
    point. Both are checked independently of the solver. Classes whose weights differ only by rounding are as far apart
    in the whole region as at the point.

    The region is the set of all `x + step` with `a @ step <= slack`, where no row is zero; weights of inputs that
    cannot change are 0. A class must lead by `tolerance`, relative to the typical distance of the facets from the
    point, or to a millionth of its deficit if that is larger. The same tolerance applies to the multipliers.

    Raises:
        TransformError: a linear program cannot be solved that accurately.
    """
    order = np.argsort(-output, kind="stable")
    label, others = int(order[0]), order[1:].tolist()
    units = lengths_around(a, slack)
    a, weight = a * units, weight * units
    norms = np.linalg.norm(a, axis=1)
    normals, distances = a / norms[:, None], slack / norms
    ahead = distances[distances > 0.0]
    unit = float(np.median(ahead)) if len(ahead) else 1.0
    rival, at = None, None
    for other in others:
        slope = weight[label] - weight[other]
        size = float(np.linalg.norm(slope))
        if size <= ROUNDING * float(np.linalg.norm(weight[[label, other]])):
            continue  # its deficit is the same in the whole region
        step = _overtaken(
            slope / size, (output[label] - output[other]) / size / unit, normals, distances / unit, tolerance
        )
        if step is not None:
            rival, at = other, x + units * (unit * step)
            break
    return Decision(label, others[0], float(output[label] - output[others[0]]), rival is None, rival, at)


def _overtaken(
    slope: Float[np.ndarray, "inputs"],
    lead: float,
    normals: Float[np.ndarray, "rows inputs"],
    slack: Float[np.ndarray, "rows"],
    tolerance: float,
) -> Float[np.ndarray, "inputs"] | None:
    """Find a step in `normals @ step <= slack` with `lead + slope @ step < 0`; None if there is none.

    The program minimises `slope @ step`, but no further than a little below the target, so it is bounded. This loses
    nothing: on the way down from the step 0, every lower value is preceded by that one.

    Raises:
        TransformError: the solution is not accurate enough to decide.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    below = max(1.0, 1e-6 * lead)  # far more than rounding
    rows, limits = csr_array(np.vstack([normals, -slope])), np.append(slack, lead + below)
    found = linprog(
        slope,
        A_ub=rows,
        b_ub=limits,
        bounds=(None, None),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.status == 0:
        step, multipliers = found.x, np.maximum(-found.ineqlin.marginals, 0.0)
        allowed = 1e-9 * (1.0 + slack) + ROUNDING * (np.abs(normals) @ np.abs(step))
        if lead + slope @ step < -tolerance * below and (normals @ step <= slack + allowed).all():
            return step
        residual = np.abs(slope + rows.T @ multipliers).max(initial=0.0)
        if residual <= tolerance and lead - limits @ multipliers >= -2.0 * tolerance * below:
            return None
    raise TransformError(
        f"x: expected a region whose classes can be compared by linear programs, found that HiGHS ended with "
        f"{found.message!r} and an inaccurate solution; explain another input of the region, or use "
        "shallow.local_map(x) alone."
    )
