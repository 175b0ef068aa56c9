"""A VNN-LIB file as a domain and a property."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int
from torch import nn

from torch_shallow.domain import Box
from torch_shallow.errors import FileError, TransformError
from torch_shallow.paths import check_path
from torch_shallow.program.exported import shown_shape
from torch_shallow.program.joint import Joint
from torch_shallow.properties.boxes import narrow
from torch_shallow.properties.cases import cases_of
from torch_shallow.properties.formula import AllOf, Formula, Row, negated
from torch_shallow.properties.joined import Property
from torch_shallow.vnnlib.assertions import formula_of
from torch_shallow.vnnlib.declarations import Declarations, DeclaredNetwork
from torch_shallow.vnnlib.syntax import Statement, statements


@dataclass(frozen=True, eq=False)
class Specified(Property):
    """A property that a file states, for a network of so many inputs and outputs.

    Attributes:
        stated: what it says.
        num_inputs: number of entries of the input.
        num_outputs: of the output.
    """

    stated: Formula
    num_inputs: int
    num_outputs: int

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        if (inputs, outputs) != (self.num_inputs, self.num_outputs):
            raise TransformError(
                f"{name}: the file declares {self.num_inputs} inputs and {self.num_outputs} outputs, found a model of "
                f"{inputs} and {outputs}; verify the model that it was written for."
            )
        return self.stated

    def __repr__(self) -> str:
        return f"<a property of {self.num_inputs} inputs and {self.num_outputs} outputs>"


@dataclass(frozen=True, eq=False)
class VnnlibQuery:
    """What a file asks for: an input whose output meets all of its assertions.

    There is one (`sat`) exactly if `property` does not hold everywhere: it is that the assertions are not met.

    Attributes:
        property: of inputs and outputs, that the assertions are not met; what they say of the input is part of it.
        domain: the smallest box around all inputs that the assertions allow.
        cases: the same, taken apart where the file gives several boxes: of each, the box and what is not met in it.
        networks: what is declared; those of version 1 have one network, without a name.
        places: for each input, in order of declaration, which entries of the input of `property` its entries are.
            Those that the file asserts to be equal are one entry, so that copies of a network can share their input.
    """

    property: Property
    domain: Box
    cases: tuple[tuple[Box, Property], ...]
    networks: tuple[DeclaredNetwork, ...]
    places: tuple[Int[np.ndarray, "entries"], ...] = field(repr=False)

    def model(self, *models: nn.Module, **named: nn.Module) -> nn.Module:
        """The network that `property` speaks of: the one that is given, or several of them side by side.

        Args:
            *models: for the networks, in order of declaration, without those that are equal to another.
            **named: in place of these, by name.

        Raises:
            TransformError: there is no model for a network, or too many.
        """
        needed = [network.name for network in self.networks if not network.same_as]
        given = dict(zip(needed, models, strict=False)) | named
        if sorted(given) != sorted(needed) or len(models) + len(named) != len(needed):
            raise TransformError(
                f"models: expected one for each of the networks {', '.join(needed) or 'of the file'}, found "
                f"{len(models) + len(named)}; give as many, in this order or by name."
            )
        if len(self.networks) == 1 and len(self.places) == 1 and len(self.places[0]) == self.domain.lower.size:
            return given[needed[0]]
        places, shapes, left = [], [], iter(self.places)
        chosen = [given[network.same_as or network.name] for network in self.networks]
        for network, model in zip(self.networks, chosen, strict=True):
            places.append([next(left).tolist() for _ in network.inputs])
            shown = shown_shape(model) if len(network.inputs) == 1 else None
            shapes.append([shown or _without_batch(tensor.shape) for tensor in network.inputs])
        return Joint(chosen, places, shapes)


def read_vnnlib(path: str | os.PathLike[str]) -> VnnlibQuery:
    """Read a query in VNN-LIB, of version 1 or 2, from a text file, compressed by gzip if its name ends with `.gz`.

    Of version 1, the variables are `X_i` and `Y_i`; of version 2, networks are declared, several ones included. Their
    assertions are comparisons of affine terms joined by `and` and `or`, nested in any way. Hidden nodes, several
    outputs of one network and initialised inputs are not read.

    Args:
        path: of the file.

    Raises:
        FileError: there is no such file, or it is not VNN-LIB; the message says in which line.
        WrongTypeError: `path` is none.

    Example:
        >>> query = read_vnnlib("prop_1.vnnlib")  # doctest: +SKIP
        >>> torch_shallow.verify(model, query.domain, query.property).holds  # doctest: +SKIP
        True
    """
    checked = check_path(path, example="property.vnnlib")
    try:
        content = checked.read_bytes()
        text = (gzip.decompress(content) if checked.suffix == ".gz" else content).decode()
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise FileError(f"path: expected a text file in VNN-LIB, found {error} at {checked}.") from error
    variables, asserted = Declarations(), list[Formula]()
    for statement in statements(text):
        _read(statement, variables, asserted)
    networks = variables.complete()
    inputs = sum(tensor.size for network in networks for tensor in network.inputs)
    outputs = sum(tensor.size for network in networks for tensor in network.outputs)
    entries, size, asserted = _united(_apart(asserted), inputs)
    whole = AllOf(tuple(asserted))
    cases = []
    for case in cases_of(whole):
        lower, upper, _ = narrow(np.full(size, -np.inf), np.full(size, np.inf), case.inputs)
        if (lower <= upper).all():
            cases.append((Box(lower, upper), Specified(negated(AllOf((*case.inputs, case.rest))), size, outputs)))
    tensors = (tensor for network in networks for tensor in network.inputs)
    places = tuple(entries[tensor.first : tensor.first + tensor.size] for tensor in tensors)
    domain = _hull([box for box, _ in cases], size)
    return VnnlibQuery(Specified(negated(whole), size, outputs), domain, tuple(cases), networks, places)


def _read(statement: Statement, variables: Declarations, asserted: list[Formula]) -> None:
    match statement.parts:
        case ["assert", expression]:
            asserted.append(formula_of(expression, variables, statement))
        case ["declare-const", str(), str()] | ["declare-fun", str(), [], str()]:
            variables.declare_constant(statement)
        case ["declare-network", *_]:
            variables.declare_network(statement)
        case ["vnnlib-version" | "set-logic" | "set-info" | "check-sat" | "get-model" | "exit", *_]:
            pass
        case _:
            raise statement.wrong("a declaration or an assertion of VNN-LIB", statement.parts)


def _apart(asserted: list[Formula]) -> list[Formula]:
    """What has to hold, one by one, but for what says that two entries of inputs are equal."""
    found = list[Formula]()
    for formula in asserted:
        together = isinstance(formula, AllOf) and _equal_inputs(formula) is None
        found += _apart([*formula.parts]) if together and isinstance(formula, AllOf) else [formula]
    return found


def _united(asserted: list[Formula], inputs: int) -> tuple[Int[np.ndarray, "inputs"], int, list[Formula]]:
    """What entries of inputs are asserted to be equal, made one: the new number of each, how many, and what is left."""
    parent = np.arange(inputs)

    def first(i: int) -> int:
        while parent[i] != i:
            i = int(parent[i])
        return i

    left = []
    for formula in asserted:
        pair = _equal_inputs(formula)
        if pair is None:
            left.append(formula)
            continue
        one, other = sorted(map(first, pair))
        parent[other] = one
    if len(left) == len(asserted):
        return parent, inputs, asserted
    roots = np.array([first(i) for i in range(inputs)])
    kept, entries = np.unique(roots, return_inverse=True)
    return entries, len(kept), [_renamed(formula, entries) for formula in left]


def _equal_inputs(formula: Formula) -> tuple[int, int] | None:
    """The two entries of inputs that a formula says to be equal; None if it says something else."""
    match formula:
        case AllOf((Row() as one, Row() as other)):
            coefficients = sorted(one.inputs.values())
            opposite = {i: -c for i, c in one.inputs.items()} == other.inputs and not (one.strict or other.strict)
            if opposite and not one.outputs and not other.outputs and one.constant == other.constant == 0.0:
                i, j = (*one.inputs, -1, -1)[:2]
                return (i, j) if coefficients == [-1.0, 1.0] else None
    return None


def _renamed(formula: Formula, entries: Int[np.ndarray, "inputs"]) -> Formula:
    """A formula of the new entries."""
    if not isinstance(formula, Row):
        return type(formula)(tuple(_renamed(part, entries) for part in formula.parts))
    inputs: dict[int, float] = {}
    for i, coefficient in formula.inputs.items():
        inputs[int(entries[i])] = inputs.get(int(entries[i]), 0.0) + coefficient
    return replace(formula, inputs={i: c for i, c in inputs.items() if c != 0.0})


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _hull(boxes: list[Box], size: int) -> Box:
    """The smallest box around some; that of the origin around none."""
    if not boxes:
        return Box(np.zeros(size), np.zeros(size))
    return Box(np.min([box.lower for box in boxes], axis=0), np.max([box.upper for box in boxes], axis=0))
