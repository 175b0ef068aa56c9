"""That outputs never fall, or never rise, as inputs rise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch_shallow.errors import TransformError
from torch_shallow.properties.joined import Property
from torch_shallow.properties.linear import entry_number


@dataclass(frozen=True)
class Monotone(Property):
    """Outputs that never fall as some inputs rise alone, and never rise as some others do.

    It is about the slopes of the network and not about its values at an input, so that it stands alone: it cannot be
    joined to other properties by `&`, `|` and `~`.

    Attributes:
        increasing: numbers of entries of the flattened input in which the outputs are to be increasing.
        decreasing: likewise decreasing.
        outputs: numbers of entries of the flattened output; all of them if None.

    Example:
        >>> Monotone(increasing=[0, 2], decreasing=[1])
        Monotone(increasing=[0, 2], decreasing=[1], outputs=None)
    """

    increasing: Sequence[int] = ()
    decreasing: Sequence[int] = ()
    outputs: Sequence[int] | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> NoReturn:
        """There is none.

        Raises:
            TransformError: always.
        """
        raise TransformError(
            f"{name}: expected Monotone alone, which is about slopes, found it joined to other properties, or where an "
            "output is asked for; verify it by itself, and the others too."
        )

    def claims(self, inputs: int, outputs: int, name: str = "property") -> list[tuple[int, int, int]]:
        """What is claimed: an output, an input, and 1 for increasing or -1 for decreasing.

        Args:
            inputs: number of entries of one input.
            outputs: of one output.
            name: of the argument, for errors.

        Raises:
            WrongTypeError: an entry is no number.
            TransformError: there is no such entry, or nothing is claimed.
        """
        rows = range(outputs) if self.outputs is None else self.outputs
        chosen = [entry_number(row, outputs, "output", name) for row in rows]
        columns = [(entry_number(i, inputs, "input", name), 1) for i in self.increasing]
        columns += [(entry_number(i, inputs, "input", name), -1) for i in self.decreasing]
        if not chosen or not columns:
            raise TransformError(f"{name}: expected inputs and outputs in {self!r}, found none; name some.")
        return [(row, column, sign) for row in chosen for column, sign in columns]
