"""Verdict whether two networks give the same class everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.subject import Subject
from torch_shallow.explain.two_networks import TwoNetworks
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed
from torch_shallow.search.violations import middle_of, terms_of

ROUNDING = 1e-9  # a lead smaller than this, relative to the terms of the outputs, counts as rounding


@dataclass(frozen=True, eq=False, repr=False)
class SameClass(Displayed):
    """Verdict whether the largest output of two networks is the same one for every input of a domain.

    The lead is the least value of b_i - b_j over all inputs and classes j, where i is the class of the first network
    `a` and b the outputs of the second; it is negative where the classes differ. It lies between `lower_bound` and
    `upper_bound`, and the search ends as soon as its sign is known.

    Attributes:
        holds: True or False; None if the search was stopped before it was known.
        counterexample: an input of the domain with two different classes, of shape `in_shape`, in the dtype of the
            first network; None if there is none.
        outputs: outputs of the two networks themselves at the counterexample, of shape `(2, *out_shape)`, float64.
        classes: the class of the first network at the counterexample, and the class that the second prefers to it.
        lower_bound: proven lower bound on the lead.
        upper_bound: the lead at the worst input that was found; inf if none came near.
        only_rounding: whether the networks themselves, in their own dtypes, give the same class for `counterexample`.
        cells: number of cells opened.
        seconds: time taken, in seconds.
        reason: reason why the search stopped before the verdict was known; empty if it is known.
    """

    holds: bool | None
    counterexample: Float[Tensor, "*in_shape"] | None
    outputs: Float[Tensor, "2 *out_shape"] | None
    classes: tuple[int, int] | None
    lower_bound: float
    upper_bound: float
    only_rounding: bool
    cells: int
    seconds: float
    reason: str = ""

    @property
    def gap(self) -> float:
        """Width of the proven interval."""
        return 0.0 if self.upper_bound <= self.lower_bound else self.upper_bound - self.lower_bound

    @property
    def proven(self) -> bool:
        """Whether the verdict is known and does not depend on rounding."""
        return self.holds is not None and not self.only_rounding

    def __str__(self) -> str:
        effort = f"({self.cells:,} cells, {self.seconds:.2g} s)"
        if self.holds is None:
            return f"Not known ({self.reason}): lead from {self.lower_bound:.6g} to {self.upper_bound:.6g} {effort}"
        if self.classes is None:
            return f"The same class everywhere {effort}"
        rounding = ", by rounding alone" if self.only_rounding else ""
        return f"Class {self.classes[0]}, and then {self.classes[1]}{rounding} {effort}"


@dataclass(frozen=True, eq=False)
class _Worst:
    """The worst input found so far, and its two classes."""

    x: Float[np.ndarray, "inputs"]
    value: float
    classes: tuple[int, int]


def same_class_everywhere(networks: TwoNetworks, margin: float, asking: Asking) -> SameClass:
    """Search for an input to which the two networks give different classes, one pair of classes after another.

    The class of the first network is i where its output i leads all others by the margin; if the margin is 0, each of
    the leading outputs counts at a tie. The second differs where another of its outputs exceeds its output i by more
    than rounding.

    Args:
        networks: the two networks.
        margin: how far ahead the first network's largest output has to be.
        asking: the run of questions.

    Raises:
        TransformError: the networks have a single output.
    """
    subject = networks.subject
    count = subject.program.num_outputs // 2
    if count < 2:
        raise TransformError(
            "same_class: expected networks with two or more outputs, one for each class, found one output; compare "
            "the outputs, or pass networks that have an output for each class."
        )
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    worst: _Worst | None = None
    rounding = _rounding(subject.program, subject.domain)
    bound = -np.inf
    for number, classes in enumerate(pairs):
        posed = _question(subject.program, subject.domain, margin, rounding, classes)
        found = asking.ask(posed, number=number)
        if found is None:
            bound = np.inf
            break
        bound = max(bound, found.bound)
        if found.x is not None and (worst is None or found.value > worst.value):
            worst = _Worst(found.x, found.value, classes)
        if worst is not None and worst.value > posed.enough:
            return _differs(subject, worst, bound if number == len(pairs) - 1 else np.inf, asking)
    least, most = 0.0 - bound, np.inf if worst is None else 0.0 - worst.value
    holds = None if asking.reason and not bound <= rounding else True
    reason = asking.reason if holds is None else ""
    return SameClass(holds, None, None, None, least, most, False, asking.cells, asking.seconds, reason)


def _question(program: ReLUProgram, domain: Domain, margin: float, rounding: float, classes: tuple[int, int]) -> Posed:
    """Question by how much the second network prefers class j to i, where the first clearly gives i."""
    i, j = classes
    count = program.num_outputs // 2
    rows = np.zeros((count, 2 * count))
    rows[0, count + j], rows[0, count + i] = 1.0, -1.0
    others = [k for k in range(count) if k != i]
    rows[1:, i] = 1.0
    rows[np.arange(1, count), others] = -1.0
    bias = rows @ program.out_bias
    bias[1:] -= margin
    asked = replace(program, out_shape=(count,), out_weight=rows @ program.out_weight, out_bias=bias)
    return Posed(asked, domain, floor=rounding, enough=rounding)


def _rounding(program: ReLUProgram, domain: Domain) -> float:
    """The difference that counts as none, measured by the terms of the outputs in the middle of the domain."""
    outputs = Posed(program, domain, program.num_outputs)
    return max(ROUNDING * float(terms_of(outputs, middle_of(outputs)).max()), float(np.finfo(np.float64).tiny))


def _differs(subject: Subject, worst: _Worst, bound: float, asking: Asking) -> SameClass:
    """Result for an input with two classes, at which the networks themselves are evaluated."""
    shown = subject.rounded(worst.x, subject.domain)
    outputs = subject.run(shown)
    first, second = outputs.reshape(2, -1).cpu()
    i, j = worst.classes
    only_rounding = bool(first.argmax() != i) or bool(second[j] <= second[i])
    return SameClass(
        False,
        shown.to(subject.device),
        outputs,
        worst.classes,
        0.0 - bound,
        0.0 - worst.value,
        only_rounding,
        asking.cells,
        asking.seconds,
    )
