"""State that outputs never fall, or never rise, as inputs rise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch_shallow.errors import TransformError
from torch_shallow.properties.joined import Property
from torch_shallow.properties.linear import entry_number


@dataclass(frozen=True)
class Monotone(Property):
    """Outputs that never fall as certain inputs rise, and never rise as certain others do, all else being equal.

    The property concerns the slopes of the network, not its values at one input, so it cannot be combined with other
    properties by `&`, `|` and `~`.

    Attributes:
        increasing: indices of entries of the flattened input in which the outputs must not fall.
        decreasing: indices of entries of the flattened input in which the outputs must not rise.
        outputs: indices of entries of the flattened output; all of them if None.

    Example:
        >>> import torch, torch_shallow
        >>> rising = torch_shallow.Monotone(increasing=[0, 2], decreasing=[1])
        >>> rising
        Monotone(increasing=[0, 2], decreasing=[1], outputs=None)
        >>> torch_shallow.verify(torch.nn.Linear(3, 1), torch_shallow.Box(-1.0, 1.0), rising).proven
        True
    """

    increasing: Sequence[int] = ()
    decreasing: Sequence[int] = ()
    outputs: Sequence[int] | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> NoReturn:
        """Refuse to be written as a formula of inputs and outputs.

        Raises:
            TransformError: always.
        """
        raise TransformError(
            f"{name}: expected properties of inputs and outputs, found Monotone, which concerns slopes and cannot be "
            "combined with others; verify it separately."
        )

    def claims(self, inputs: int, outputs: int, name: str = "property") -> list[tuple[int, int, int]]:
        """List the claims, each an output, an input, and 1 for increasing or -1 for decreasing.

        Args:
            inputs: number of entries of one input.
            outputs: number of entries of one output.
            name: name of the argument, for error messages.

        Raises:
            WrongTypeError: an index is not an integer.
            TransformError: an index is out of range, or nothing is claimed.
        """
        rows = range(outputs) if self.outputs is None else self.outputs
        chosen = [entry_number(row, outputs, "output", name) for row in rows]
        columns = [(entry_number(i, inputs, "input", name), 1) for i in self.increasing]
        columns += [(entry_number(i, inputs, "input", name), -1) for i in self.decreasing]
        if not chosen or not columns:
            raise TransformError(
                f"{name}: expected at least one input and one output in {self!r}, found none; give increasing or "
                "decreasing."
            )
        return [(row, column, sign) for row in chosen for column, sign in columns]
