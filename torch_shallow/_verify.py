"""Verify whether a property holds for every input of a domain."""

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
    """Decide whether a property holds for every input of a domain, and give a counterexample if it does not.

    The network is not enumerated: a search opens only the cells in which the property may still fail, and ends when it
    has found such an input or has proven that there is none. Each alternative in which the property can fail is
    searched separately. The verdict always concerns the whole domain: if the search is stopped, it is None.

    A property such as `AtMost(1.0)` holds where the output is exactly 1, and fails where it is greater. Inputs that are
    undecided up to rounding are settled by the values that the network has in float64, and `only_rounding` records
    this.

    Args:
        model: a piecewise-linear `nn.Module` or exported program of any size; a `ShallowReLU`; its trunk method if it
            has a head, such as a softmax; or its function.
        domain: a `Box` or a `Polytope`; if None, all of R^n, or everything that a shallow network knows. Conditions of
            the property on the inputs may bound it further. In an unbounded domain, all regions are found, which is
            possible only for small networks.
        property: `AtLeast`, `AtMost`, `Between`, `Wins` or `Linear`, combined by `&`, `|` and `~`; or `Monotone` alone,
            which needs a bounded domain. For `Monotone`, the margin is the smallest of the slopes that must be
            positive, and a counterexample is an interior point of a region in which one is not.
        example_input: a batch of inputs; needed only if the model does not determine the shape of an input.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        time_limit: seconds after which to stop, approximately; no limit if None.
        checkpoint: a file in which the state of the search is saved, and from which it continues; with several
            alternatives, one file each, with a number at the end of its name.
        progress: whether to show a progress bar.
        certificate: a file, created or overwritten, with a proof of a verdict of True. For each way in which the
            property might fail, it contains a tree of cells with multipliers, which `python -m
            torch_shallow.check_bounds` checks in integers. The proof may take as long again as `time_limit`. If no
            proof is found, nothing is written, and an `IncompleteWarning` is issued if the verdict is True. The domain
            must be bounded.
        method: `"auto"` chooses by size among `"rays"` (vertices of cells, for few inputs), `"relaxation"` (linear
            programs, for moderate sizes) and `"backward"` (batches of linear bounds, for wide networks and many
            inputs); `"milp"` solves one mixed-integer program.
        solver: with `method="milp"`, a name in `cvxpy.installed_solvers()`; HiGHS if None.

    Returns:
        The verdict: `holds` is True, False, or None if the search was stopped; with a counterexample if it is False.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: the model cannot be read or has a head, or the property refers to entries that do not exist.

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
            "property: expected AtLeast, AtMost, Between, Wins or Linear, combined by &, | and ~, or Monotone alone, "
            f"found {type(property).__name__}."
        )
    asking = Asking(SearchOptions(method, solver, workers, time_limit, checkpoint, progress, certificate))
    subject = subject_of(model, domain, example_input)
    program = subject.program
    where = Box(-float("inf"), float("inf")) if isinstance(subject.domain, WholeSpace) else subject.domain
    if isinstance(property, Monotone):
        return monotone_verdict(subject, property, asking)
    formula = negated(property.formula(program.num_inputs, program.num_outputs))
    return Hunt(subject, formula, violations_of(program, where, formula), asking).verdict()
