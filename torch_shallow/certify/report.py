"""Certificates with their checks, and the failures that each check collects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.display import Displayed, TextTable
from torch_shallow.errors import TransformError

KEPT_FAILURES = 10  # places described for each check; all are counted


@dataclass(frozen=True)
class Failure:
    """A place where a check fails.

    Attributes:
        message: What was expected and what was found.
        region: Number of the region, if the place is a region.
        cut: Number of the cut, if the place is a cut.
        neuron: Number of the neuron, if the place concerns one.
        point: Flattened input, if the place is a point.
    """

    message: str
    region: int | None = None
    cut: int | None = None
    neuron: int | None = None
    point: tuple[float, ...] | None = None

    def __str__(self) -> str:
        names = ("region", "cut", "neuron")
        place = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name) is not None]
        if self.point is not None:
            shown = ", ".join(f"{value:.6g}" for value in self.point[:6])
            place.append(f"x = ({shown}{', ...' if len(self.point) > 6 else ''})")
        return f"{', '.join(place)}: {self.message}" if place else self.message


@dataclass(frozen=True)
class Check:
    """One statement about the network, and the extent to which it was found true.

    Attributes:
        name: Short name.
        claim: The statement.
        unit: What is examined, in the plural.
        examined: Number of units examined.
        total: Number of all units; None if there are infinitely many.
        worst: The worst value met; None if nothing is measured.
        limit: The limit for `worst`, in words.
        failures: Places where the statement is false, at most ten of them.
        num_failures: Number of all such places.
        note: Further remarks.
    """

    name: str
    claim: str
    unit: str
    examined: int
    total: int | None
    worst: float | None = None
    limit: str = ""
    failures: tuple[Failure, ...] = ()
    num_failures: int = 0
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the statement is true wherever it was examined."""
        return self.num_failures == 0

    @property
    def extent(self) -> str:
        """Amount examined, in words."""
        if self.total is None or self.examined == self.total:
            return f"{'all ' if self.total is not None else ''}{self.examined:,} {self.unit}"
        return f"{self.examined:,} of {self.total:,} {self.unit}"


@dataclass(frozen=True, repr=False)
class Certificate(Displayed):
    """Checks of one shallow network against the model it was made from, as made by `ShallowReLU.certify`.

    Print a certificate to see its table of checks, index it by the name of a check, or call `require` to raise an error
    if a check failed.

    Attributes:
        network: Description of the network in words.
        checks: The checks, in order.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        >>> certificate = torch_shallow.transform(model).certify(model)
        >>> certificate.passed
        True
        >>> certificate["tree"].extent
        'all 2 regions'
        >>> certificate.require() is certificate
        True
    """

    network: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def max_error(self) -> float | None:
        """Proven bound of |network - model|, relative to 1 + |x|_1 in an unbounded domain; None if there is none."""
        return next((check.worst for check in self.checks if check.name == "proven error"), None)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Places where checks fail, at most ten for each check."""
        return tuple(failure for check in self.checks for failure in check.failures)

    def __getitem__(self, name: str) -> Check:
        """Return the check with a given name.

        Args:
            name: Name of the check, such as `"tree"`.

        Returns:
            The check.

        Raises:
            KeyError: No check has this name.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r} is no check; the checks are {', '.join(repr(check.name) for check in self.checks)}")

    def require(self) -> Certificate:
        """Return the certificate itself if every check passed, and raise otherwise.

        Returns:
            This certificate.

        Raises:
            TransformError: A check failed; all failed checks are listed with their places.
        """
        if not self.passed:
            lines = [line for check in self.checks if not check.passed for line in _explain(check)]
            raise TransformError("\n".join(["the shallow network is not the model:", *lines]))
        return self

    def __str__(self) -> str:
        """Format a table with a line for each check, and the places of failures."""
        lines = _table([(*_HEAD[:-1], ""), *map(_row, self.checks)])
        return "\n".join([self._title, *lines, *self._notes, *self._explanations])

    @property
    def _title(self) -> str:
        return f"Certificate: {'passed' if self.passed else 'FAILED'}. {self.network}"

    @property
    def _notes(self) -> list[str]:
        return [f"{check.name}: {check.note}" for check in self.checks if check.note]

    @property
    def _explanations(self) -> list[str]:
        return [line for check in self.checks if not check.passed for line in _explain(check)]

    def _line(self) -> str:
        failed, count = sum(not check.passed for check in self.checks), len(self.checks)
        error = "" if self.max_error is None else f", proven error {self.max_error:.2g}"
        return f"FAILED: {failed} of {count} checks" if failed else f"passed: {count} checks{error}"

    def _parts(self) -> Iterable[str | TextTable]:
        yield self._title
        yield TextTable(_HEAD, [_row(check) for check in self.checks])
        yield from self._notes
        if self._explanations:
            yield "\n".join(self._explanations)


_HEAD = ("check", "examined", "worst", "limit", "verdict")


def _row(check: Check) -> tuple[str, ...]:
    worst = "" if check.worst is None else f"{check.worst:.2g}"
    return check.name, check.extent, worst, check.limit, _verdict(check)


def _verdict(check: Check) -> str:
    if not check.passed:
        return "FAILED"
    return "passed" if check.examined else "not examined"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _explain(check: Check) -> list[str]:
    more = check.num_failures - len(check.failures)
    lines = [f"{check.name}: FAILED at {check.num_failures:,} {'places' if check.num_failures != 1 else 'place'}:"]
    return [*lines, *(f"  {failure}" for failure in check.failures), *[f"  and {more:,} more"] * (more > 0)]


class Tally:
    """Results of a check so far: the worst value, and all failures, of which only the first are described."""

    def __init__(self) -> None:
        self.kept: list[Failure] = []
        self.count, self.worst = 0, 0.0

    def measure(self, values: Float[np.ndarray, "..."]) -> None:
        """Record the largest of some values."""
        self.worst = max(self.worst, float(values.max(initial=0.0)))

    def add(self, failure: Failure) -> None:
        """Record one failure."""
        self.add_all(np.ones(1, dtype=bool), lambda _: failure)

    def add_all(self, failed: Bool[np.ndarray, "places"], describe: Callable[[int], Failure]) -> None:
        """Record the failures among many places; `describe` is called with the number of a place."""
        places = np.flatnonzero(failed)
        self.count += len(places)
        self.kept += [describe(int(place)) for place in places[: KEPT_FAILURES - len(self.kept)]]

    def add_where(
        self,
        failed: Bool[np.ndarray, "places"],
        message: str,
        *values: Sequence[Any] | np.ndarray,
        **places: Sequence[Any] | np.ndarray,
    ) -> None:
        """Record the failures among many places.

        Args:
            failed: Mask of the failed places.
            message: Message with a field for each of the values.
            values: Entries for the message, one for each place.
            places: Fields of `Failure`, one entry for each place; a negative number stands for none.
        """

        def describe(at: int) -> Failure:
            fields: dict[str, Any] = {}
            for name, entries in places.items():
                fields[name] = tuple(entries[at]) if name == "point" else int(entries[at]) if entries[at] >= 0 else None
            return Failure(message.format(*(entries[at] for entries in values)), **fields)

        self.add_all(failed, describe)

    def check(
        self,
        name: str,
        claim: str,
        unit: str,
        examined: int,
        total: int | None,
        limit: float | str = "",
        note: str = "",
    ) -> Check:
        """Return the check of everything recorded; its worst value is given if there is a limit."""
        worst, words = self.worst if limit else None, limit if isinstance(limit, str) else f"{limit:.0e}"
        return Check(name, claim, unit, examined, total, worst, words, tuple(self.kept), self.count, note)
