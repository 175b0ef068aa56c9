"""Decide whether a network is monotone: find a region whose slope has the wrong sign, or prove that there is none."""

from __future__ import annotations

import numpy as np

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.globally.monotone import SEARCH_TOLERANCE
from torch_shallow.explain.globally.searched_slopes import SlopeSearch, rounding_of_slopes
from torch_shallow.explain.subject import Subject
from torch_shallow.properties import Monotone
from torch_shallow.verdicts.verdict import Verdict


def monotone_verdict(subject: Subject, stated: Monotone, asking: Asking) -> Verdict:
    """Decide a property of slopes of a network in a bounded domain.

    Slopes within rounding count as 0: 1e-10 of the terms that they are summed from, or more in large networks.

    Raises:
        WrongTypeError: an index in the property is not an integer.
        TransformError: an index is out of range, the domain is not bounded, or an argument of other searches is given.
    """
    program, options = subject.program, asking.options
    claims = stated.claims(program.num_inputs, program.num_outputs)
    bounding_box(subject.domain, program.in_shape)  # raises an error if the domain is not bounded
    given = options.checkpoint, options.solver, options.certificate
    if options.method != "auto" or any(value is not None for value in given):
        raise TransformError(
            "checkpoint, method, solver, certificate: expected none of these with Monotone, which has its own search; "
            "leave them out."
        )
    rounding = rounding_of_slopes(program, SEARCH_TOLERANCE)
    wanted = np.zeros((2, *rounding.shape), dtype=bool)
    for row, column, sign in claims:
        wanted[int(sign < 0), row, column] = True
    ends = SlopeSearch(program, subject.domain, asking).ends(rounding, wanted, exact=False, until_broken=True)
    wanted &= ~ends.fixed
    slopes, bounds = ends.found[wanted], ends.bound[wanted]
    margin, lower = -float(slopes.max(initial=-np.inf)), -float(bounds.max(initial=-np.inf))
    broken = wanted & (ends.found > rounding)
    effort = asking.cells, asking.seconds
    if broken.any():
        worst = np.unravel_index(np.where(broken, ends.found, -np.inf).argmax(), broken.shape)
        shown = subject.rounded(ends.points[worst], subject.domain)
        side, row, column = map(int, worst)
        near = program.affine_maps(program.pattern(shown.double().cpu().reshape(1, -1).numpy())[0])[2][row, column]
        is_elsewhere = bool((near if side else -near) <= rounding[row, column])  # rounding left the region
        seen = (shown, subject.run(shown), margin, min(lower, margin), is_elsewhere, subject.contains(shown))
        return Verdict(False, *seen, *effort)
    if not (wanted & (ends.bound > rounding)).any():
        return Verdict(True, None, None, margin, lower, False, True, *effort)
    reason = asking.reason or "the search ended with a bound on the other side of 0"
    return Verdict(None, None, None, margin, lower, False, True, *effort, reason)
