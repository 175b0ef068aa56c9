"""Sequence of questions to a search: its options, its time limit, and the effort spent in all."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow._transform import transform_until
from torch_shallow.bounds.bounding_box import is_bounded
from torch_shallow.domain import Domain
from torch_shallow.errors import FileError, IncompleteWarning, TransformError
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.paths import check_path
from torch_shallow.search.question import Answer, Posed
from torch_shallow.search.runs.budget import check_seconds
from torch_shallow.search.violations import middle_of, terms_of

if TYPE_CHECKING:
    from torch_shallow.certify.certificate import Claim
    from torch_shallow.search.ask import Known
    from torch_shallow.search.nearest.seeking import Seeking
    from torch_shallow.search.runs.patience import Patience

LOSS = 1e-9  # how much less than a search a certificate may prove, relative to the terms of a goal
NOTHING = 1e-3  # time in seconds for a search that only opens its first cells


@dataclass(frozen=True)
class SearchOptions:
    """Arguments of `torch_shallow.search.ask.answer`, as a user gave them for all questions together.

    With `certificate`, `Asking.certify` proves the answers in a file of that name. `begun` is the time on the monotonic
    clock when they were given.

    Raises:
        TransformError: the time limit is not positive, or the certificate is not the path of a file in a folder.
    """

    method: str = "auto"
    solver: str | None = None
    workers: int | Executor = 1
    time_limit: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    progress: bool = False
    certificate: str | os.PathLike[str] | None = None
    begun: float = field(default_factory=time.monotonic, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.time_limit is not None:
            check_seconds("time_limit", self.time_limit, " or None")
        if self.certificate is not None:
            path = check_path(self.certificate, "certificate", "proof.json.gz")
            if not path.parent.is_dir() or path.is_dir():
                raise FileError(f"certificate: expected the name of a file in an existing folder, found {str(path)!r}.")

    def refuse(self, where: str) -> None:
        """Make sure that all options have their defaults, where nothing is searched.

        Raises:
            TransformError: an option was given.
        """
        default = SearchOptions()
        names = [each.name for each in fields(self) if each.compare]
        given = [name for name in names if getattr(self, name) != getattr(default, name)]
        if given:
            raise TransformError(
                f"{', '.join(given)}: expected none of these for {where}, found {given[0]}="
                f"{getattr(self, given[0])!r}; leave {'it' if len(given) == 1 else 'them'} out, or pass a deep model."
            )

    def regions_of(
        self, model: nn.Module | ExportedProgram, domain: Domain | None, example_input: Tensor | None
    ) -> tuple[ShallowReLU, str]:
        """Find all regions of an unbounded domain, or those found in time together with the reason for stopping.

        Raises:
            TransformError: a method, a solver or a certificate is given, which need a bounded domain.
        """
        only_searched = SearchOptions(self.method, self.solver, certificate=self.certificate)
        only_searched.refuse("an unbounded domain, where all regions are found")
        return transform_until(
            model,
            example_input,
            domain=domain,
            workers=self.workers,
            time_limit=self.time_limit,
            checkpoint=self.checkpoint,
            progress=self.progress,
        )


@dataclass(eq=False)
class Asking:
    """Run of questions that share options, a time limit and what they learn about the network.

    Attributes:
        options: the options of each search.
        begun: start time on the monotonic clock, in seconds.
        cells: number of cells opened.
        reason: reason why a search was stopped; empty if none was.
        is_over: whether no further question is to be asked.
        of: the run of which this is a part, if any; reasons show that run's time limit, which is the user's.
        known: what earlier questions have found about the network, for later ones.
        patience: logs a line if all searches together take long; None before the first search.
    """

    options: SearchOptions
    begun: float = field(default_factory=time.monotonic)
    cells: int = 0
    reason: str = ""
    is_over: bool = False
    of: Asking | None = None
    known: Known | None = None
    patience: Patience | None = None

    @property
    def seconds(self) -> float:
        """Time taken so far, in seconds."""
        return time.monotonic() - self.begun

    @property
    def until(self) -> float:
        """Time on the monotonic clock at which the time is used up, in seconds; infinite without a limit."""
        limit = self.options.time_limit
        return np.inf if limit is None else self.begun + limit

    def no_time_left(self) -> str:
        """Return the reason to stop if the time is used up; else an empty string."""
        limit = self.options.time_limit
        return self._out_of_time if limit is not None and self.seconds >= limit else ""

    def part(self, count: int) -> Asking:
        """Return a run for the first of `count` tasks that are left, with its share of the time that is left."""
        limit, options = self.options.time_limit, self.options
        if limit is not None:
            options = replace(options, time_limit=max(NOTHING, (limit - self.seconds) / count))
        return Asking(options, is_over=self.is_over, reason=self.reason if self.is_over else "", of=self)

    def add(self, part: Asking) -> None:
        """Add the effort of a part; later parts go on unless this one was interrupted."""
        self.cells += part.cells
        if part.reason:
            self._stop(part.reason, part.reason != self._out_of_time)

    def ask(self, posed: Posed, *, share: float = 1.0, number: int | None = None) -> Answer | None:
        """Answer a question: with an interval if the search was stopped, or None if no time is left.

        Args:
            posed: the question.
            share: the share of the remaining time that the search may take.
            number: number of the question, if there are several, each with its own checkpoint; -1 for no checkpoint.

        Raises:
            TransformError: a certificate is asked for, and the domain is not bounded.
        """
        if self.options.certificate is not None and not is_bounded(posed.domain, posed.program.in_shape):
            raise TransformError(
                f"certificate: expected None or a bounded domain, found {posed.domain!r}; give every input entry "
                "bounds, or leave it out."
            )
        return self._in_time(lambda seconds: self._answer(posed, seconds, number), share)

    def seek(self, job: Seeking) -> Answer | None:
        """Run a search that has its own engine and no checkpoint; returns the same as `ask`."""
        return self._in_time(lambda seconds: self._search(job, seconds), 1.0)

    def _in_time(self, find: Callable[[float | None], Answer], share: float) -> Answer | None:
        import torch_shallow.search.ask  # noqa: F401 -- numba takes a while to import, and the clock is read after it

        limit, left = self.options.time_limit, None
        if limit is not None:
            left = share * (limit - self.seconds)
            if left <= 0.0:
                self._stop(self._out_of_time, True)
        if self.is_over:
            return None
        found = find(left)
        if found.reason:
            limited = limit is not None and found.reason.startswith("time_limit")
            self._stop(self._out_of_time if limited else found.reason, share == 1.0 or not limited)
        return found

    def glance(self, posed: Posed) -> Answer:
        """Return what can be proven at once, when no time is left."""
        return self._answer(posed, NOTHING, -1)

    def patient(self) -> Patience:
        """Return what logs a line if all searches together take long: one object for all parts of a question."""
        from torch_shallow.search.runs.patience import Patience  # numba takes a while to import

        if self.patience is None:
            self.patience = Patience(begun=self.begun) if self.of is None else self.of.patient()
        return self.patience

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Log a line if what is done here and in the searches takes long, and there is neither a limit nor progress."""
        if self.options.time_limit is not None or self.options.progress:
            yield
            return
        with self.patient().watching():
            yield

    def certify(self, claims: Sequence[Claim]) -> None:
        """Prove the answers in a file, if a certificate was asked for.

        The proof may take as long again as the search. No file is written without claims, if a search was interrupted,
        or if a claim cannot be proven; the last issues a warning that says why.
        """
        if self.options.certificate is None:
            return
        from torch_shallow.certify.certificate import write_certificate

        path = check_path(self.options.certificate, "certificate")
        path.unlink(missing_ok=True)
        try:
            if claims and self.reason in {"", self._out_of_time}:
                write_certificate(path, claims, self.options.time_limit)
        except TransformError as error:
            warnings.warn(f"no certificate was written: {error}", IncompleteWarning, stacklevel=6)

    @property
    def _out_of_time(self) -> str:
        return f"time_limit={self.options.time_limit}" if self.of is None else self.of._out_of_time

    def _stop(self, reason: str, is_over: bool) -> None:
        self.reason, self.is_over = self.reason or reason, self.is_over or is_over

    def _answer(self, posed: Posed, seconds: float | None, number: int | None) -> Answer:
        from torch_shallow.search.ask import Known, answer  # numba takes a while to import

        given = self.options
        if self.known is None:
            self.known = Known(until=self.until)
        file = given.checkpoint
        if file is not None and number is not None:
            file = None if number < 0 else f"{os.fspath(file)}.{number}"
        found = answer(
            posed,
            method=given.method,
            solver=given.solver,
            workers=given.workers,
            time_limit=seconds,
            checkpoint=file,
            progress=given.progress,
            known=self.known,
            patience=self.patient(),
        )
        self.cells += found.cells
        return found

    def _search(self, job: Seeking, seconds: float | None) -> Answer:
        from torch_shallow.search.ask import search_cells  # numba takes a while to import

        given = self.options
        found = search_cells(
            job,
            dict,
            floor=job.sought.floor,
            enough=job.sought.enough,
            workers=given.workers,
            time_limit=seconds,
            progress=given.progress,
            patience=self.patient(),
        )
        self.cells += found.cells
        return found


def claim_of(posed: Posed, found: Answer, limit: float, about: str) -> Claim:
    """Claim that the answer to a question is at most what a search has proven, or at most a limit above that.

    Args:
        posed: the question.
        found: its answer.
        limit: the limit to be shown if it holds; infinite if the answer itself is claimed.
        about: the claim in words.
    """
    from torch_shallow.certify.certificate import Claim

    bound = float(max(found.bound, found.value))
    loss = LOSS * float(terms_of(posed, middle_of(posed)).max())
    if bound + loss <= limit < float("inf"):
        return Claim(posed, limit - loss, limit, about=about)
    return Claim(posed, bound + loss, bound + 2.0 * loss, about=about)
