"""Read the declarations of a VNN-LIB file: networks, their inputs and outputs, and the names of their entries."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch_shallow.vnnlib.syntax import Expression, Statement

Entry: TypeAlias = tuple[bool, int]
"""Whether it belongs to an input, and its index among the entries of all inputs, or of all outputs, in order."""

_NAME = re.compile(r"[A-Za-z]\w*")
_SHAPE = re.compile(r"(\w+)\[((?:\d+(?:,\d+)*)?)\]")
_NUMBERED = re.compile(r"([XY])_(\d+)")


@dataclass(frozen=True)
class DeclaredTensor:
    """Describe an input or an output.

    Attributes:
        name: name of the variable.
        dtype: dtype as written in the file, such as `"float32"` or `"Real"`.
        shape: shape, including the batch if the file gives one.
        first: index of the first entry among those of all inputs, or of all outputs.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DeclaredNetwork:
    """Describe a network.

    Attributes:
        name: name of the network; empty in version 1, which has one network without a name.
        inputs: inputs of the network.
        outputs: outputs of the network.
        same_as: name of the network that it equals, including weights; empty if there is none.
    """

    name: str
    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]
    same_as: str = ""


@dataclass
class Declarations:
    """Collect what has been declared so far.

    Attributes:
        networks: the networks of version 2.
        numbered: the indices of the variables `X_i` and `Y_i` of version 1.
    """

    networks: list[DeclaredNetwork] = field(default_factory=list)
    numbered: dict[str, set[int]] = field(default_factory=lambda: {"X": set(), "Y": set()})
    _tensors: dict[str, tuple[bool, DeclaredTensor]] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=lambda: [0, 0])

    def declare_constant(self, statement: Statement) -> None:
        """Read `(declare-const X_0 Real)`, or the same as a function without arguments.

        Raises:
            FileError: the statement has another form.
        """
        found = _NUMBERED.fullmatch(_word(statement.parts[1:2]))
        if found is None:
            raise statement.wrong("a variable X_0, X_1, ... or Y_0, Y_1, ...", statement.parts)
        self.numbered[found[1]].add(int(found[2]))

    def declare_network(self, statement: Statement) -> None:
        """Read `(declare-network f (declare-input X float32 [1,5]) (declare-output Y float32 [1,2]))`.

        Raises:
            FileError: the statement has another form, or hidden nodes or several outputs, which are not supported.
        """
        name = _word(statement.parts[1:2])
        if not _NAME.fullmatch(name):
            raise statement.wrong("the name of a network", statement.parts)
        inputs, outputs, related = list[DeclaredTensor](), list[DeclaredTensor](), dict[str, str]()
        if name in self._tensors or name in (network.name for network in self.networks):
            raise statement.wrong("a name that is not yet used", name)
        for part in statement.parts[2:]:
            match part:
                case ["declare-input", *described]:
                    inputs.append(self._tensor(statement, described, True))
                case ["declare-output", *described]:
                    outputs.append(self._tensor(statement, described, False))
                case ["equal-to" | "isomorphic-to" as kind, str(other)]:
                    if related or other not in (network.name for network in self.networks if not network.same_as):
                        raise statement.wrong("one earlier network that is not declared equal to another", part)
                    related = {kind: other}
                case _:
                    raise statement.wrong("declare-input, declare-output, equal-to or isomorphic-to", part)
        if not inputs or len(outputs) != 1:
            raise statement.wrong("at least one input, and exactly one output", f"{len(inputs)} and {len(outputs)}")
        self.networks.append(DeclaredNetwork(name, tuple(inputs), tuple(outputs), related.get("equal-to", "")))

    def complete(self) -> tuple[DeclaredNetwork, ...]:
        """Return all networks.

        Raises:
            FileError: no network is declared, or indices of variables are missing.
        """
        whole = Statement([], 1)
        if self.networks:
            return tuple(self.networks)
        for letter, numbers in self.numbered.items():
            if not numbers or max(numbers) + 1 != len(numbers):
                missing = next(i for i in range(len(numbers) + 1) if i not in numbers)
                raise whole.wrong(f"the variables {letter}_0, {letter}_1, ... to be declared", f"no {letter}_{missing}")
        tensors = (DeclaredTensor(letter, "Real", (len(numbers),), 0) for letter, numbers in self.numbered.items())
        of_input, of_output = tensors
        return (DeclaredNetwork("", (of_input,), (of_output,)),)

    def entry(self, word: str) -> Entry | None:
        """Return the entry that a word names; None if it names none."""
        found = _NUMBERED.fullmatch(word)
        if found is not None and int(found[2]) in self.numbered[found[1]]:
            return found[1] == "X", int(found[2])
        name, _, indices = word.partition("[")
        if name not in self._tensors:
            return None
        of_input, tensor = self._tensors[name]
        places = [int(i) if i.isdecimal() else -1 for i in indices.rstrip("]").split(",")] if indices else []
        if len(places) != len(tensor.shape) or any(not 0 <= i < n for i, n in zip(places, tensor.shape, strict=True)):
            return None
        number = 0
        for i, n in zip(places, tensor.shape, strict=True):
            number = number * n + i
        return of_input, tensor.first + number

    def _tensor(self, statement: Statement, described: Sequence[Expression], of_input: bool) -> DeclaredTensor:
        name, kind = _word(described[:1]), _SHAPE.fullmatch(_word(described[1:]))
        if kind is None or not _NAME.fullmatch(name):
            raise statement.wrong("a name, a type and a shape, as in X float32 [1,5]", [*described])
        shape = tuple(int(n) for n in kind[2].split(",") if n)
        if name in self._tensors:
            raise statement.wrong("a name that is not yet used", name)
        tensor = DeclaredTensor(name, kind[1], shape, self._sizes[of_input])
        self._sizes[of_input] += tensor.size
        self._tensors[name] = of_input, tensor
        return tensor


def _word(parts: Sequence[Expression]) -> str:
    """Return the only one of some parts if it is a word, and an empty word otherwise."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else ""
