"""Whether a property holds for every input of a domain."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor

from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Box, Domain, WholeSpace
from torch_shallow.errors import WrongTypeError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.subject import subject_of
from torch_shallow.modes import outside_modes
from torch_shallow.properties import Monotone, Property
from torch_shallow.properties.formula import negated
from torch_shallow.verdicts.verdict import Verdict


@outside_modes
def verify(
    model: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None,
    property: Property,  # noqa: A002 (its name in the field)
    *,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    method: str = "auto",
    solver: str | None = None,
) -> Verdict:
    """Say whether a property holds for every input of a domain, and show an input for which it does not.

    The network is not enumerated: a search opens only the cells in which the property may still fail, and ends when it
    has found such an input or has proven that there is none. Each alternative of what makes it fail is a search of its
    own. The verdict never speaks of a part of the domain: if the search is stopped, it is None.

    A closed property, such as `AtMost(1.0)`, fails where the output is greater than 1, and holds where it is 1. What
    is that near is decided by the values that the network has in float64, and `only_rounding` says so.

    Args:
        model: a piecewise-linear `nn.Module` or exported program of any size; a `ShallowReLU`; its trunk method where
            it has a head, such as a softmax; or its function.
        domain: where to look: a `Box` or a `Polytope`; all of R^n if None, or of a shallow network all that it knows.
            What the property itself asks of inputs may bound it, too. In a domain that is not bounded, all regions are
            found, which only small networks allow.
        property: `AtLeast`, `AtMost`, `Between`, `Wins` or `Linear`, joined by `&`, `|` and `~`; or `Monotone` alone,
            of which the margin is the least slope that is to be positive, and the counterexample an interior point of a
            region in which it is not. It needs a bounded domain.
        example_input: a batch of inputs; needed only where the model does not tell the shape of one.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        time_limit: stop after about so many seconds; no limit if None.
        checkpoint: a file in which the state of the search is kept, to go on from; with alternatives, one for each,
            numbered at its end.
        progress: show a bar.
        certificate: a file, new or written anew, that proves a verdict of True: that the property fails in none of the
            ways in which it might, each with a tree of cells and multipliers, which `python -m
            torch_shallow.check_bounds` checks in integers. The proof may take as long again as `time_limit`; where
            there is none, nothing is written, with an `IncompleteWarning` if the verdict is True. The domain has to be
            bounded.
        method: how to search; `"auto"` chooses.
        solver: what solves linear or mixed-integer programs; chosen if None.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the model cannot be read or has a head, or the property speaks of entries that there are not.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> box = torch_shallow.Box(-1.0, 1.0)
        >>> verdict = torch_shallow.verify(model, box, torch_shallow.Between(-10.0, 10.0))
        >>> verdict.holds
        True
    """
    # Imported here because numba takes a while.
    from torch_shallow.search.violations import violations_of
    from torch_shallow.verdicts.hunt import Hunt
    from torch_shallow.verdicts.monotone_hunt import monotone_verdict

    if not isinstance(property, Property):
        raise WrongTypeError(
            "property: expected AtLeast, AtMost, Between, Wins or Linear, joined by &, | and ~, or Monotone, found "
            f"{type(property).__name__}."
        )
    subject = subject_of(model, domain, example_input)
    program = subject.program
    where = Box(-float("inf"), float("inf")) if isinstance(subject.domain, WholeSpace) else subject.domain
    asking = Asking(SearchOptions(method, solver, workers, time_limit, checkpoint, progress, certificate))
    if isinstance(property, Monotone):
        return monotone_verdict(subject, property, asking)
    formula = negated(property.formula(program.num_inputs, program.num_outputs))
    return Hunt(subject, formula, violations_of(program, where, formula), asking).verdict()
