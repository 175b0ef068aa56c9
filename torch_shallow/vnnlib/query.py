"""Read a VNN-LIB file as a domain and a property."""

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
    """A property stated by a file, for a network with a given number of inputs and outputs.

    Attributes:
        stated: the statement as a formula.
        num_inputs: number of entries of the input.
        num_outputs: number of entries of the output.
    """

    stated: Formula
    num_inputs: int
    num_outputs: int

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        if (inputs, outputs) != (self.num_inputs, self.num_outputs):
            raise TransformError(
                f"{name}: expected a model with {self.num_inputs} inputs and {self.num_outputs} outputs, as the file "
                f"declares, found {inputs} and {outputs}; verify the model for which the file was written."
            )
        return self.stated

    def __repr__(self) -> str:
        return f"<a property of {self.num_inputs} inputs and {self.num_outputs} outputs>"


@dataclass(frozen=True, eq=False)
class VnnlibQuery:
    """The query of a VNN-LIB file: find an input whose output meets all assertions.

    Such an input exists (`sat`) exactly if `property`, which says that the assertions are not met, does not hold
    everywhere.

    Attributes:
        property: the statement that the assertions, including those about the input, are not met.
        domain: the smallest box around all inputs that the assertions allow.
        cases: the same query split by input boxes, if the file gives several: each box with the property to verify in
            it.
        networks: the declared networks; a file of version 1 has one network without a name.
        places: for each declared input, in order, the indices of its entries in the input of `property`. Entries that
            the file asserts to be equal share one index, so that copies of a network can share their input.

    Example:
        >>> import pathlib, tempfile, torch_shallow
        >>> declared = "(declare-const X_0 Real) (declare-const Y_0 Real)"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "query.vnnlib")
        ...     _ = path.write_text(declared + "(assert (and (<= X_0 1) (>= X_0 -1) (>= Y_0 2)))")
        ...     query = torch_shallow.read_vnnlib(path)
        >>> query.domain, len(query.cases), len(query.networks)
        (Box(lower=[-1.0], upper=[1.0]), 1, 1)
    """

    property: Property
    domain: Box
    cases: tuple[tuple[Box, Property], ...]
    networks: tuple[DeclaredNetwork, ...]
    places: tuple[Int[np.ndarray, "entries"], ...] = field(repr=False)

    def model(self, *models: nn.Module, **named: nn.Module) -> nn.Module:
        """Return the network that `property` refers to: the given model, or several models side by side.

        Args:
            *models: the models in order of declaration, omitting networks that are equal to another.
            **named: models by name, instead of or in addition to `models`.

        Returns:
            A module from the input of `property` to its output.

        Raises:
            TransformError: a network has no model, or there are too many models.
        """
        needed = [network.name for network in self.networks if not network.same_as]
        given = dict(zip(needed, models, strict=False)) | named
        if sorted(given) != sorted(needed) or len(models) + len(named) != len(needed):
            raise TransformError(
                f"models: expected one for each of the networks {', '.join(needed) or 'of the file'}, found "
                f"{len(models) + len(named)}; give one each, in this order or by name."
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
    """Read a VNN-LIB query, version 1 or 2, from a text file, or from a gzip file whose name ends with `.gz`.

    In version 1, the variables are `X_i` and `Y_i`; in version 2, one or more networks are declared. Assertions are
    comparisons of affine terms combined by `and` and `or`, nested in any way. Hidden nodes, several outputs of one
    network and initialised inputs are not supported.

    Args:
        path: path of the file.

    Returns:
        The query, with `property`, `domain` and `model`.

    Raises:
        FileError: the file does not exist, or is not VNN-LIB; the message names the line.
        WrongTypeError: `path` is not a path.

    Example:
        >>> import pathlib, tempfile, torch, torch_shallow
        >>> declared = "(declare-const X_0 Real) (declare-const Y_0 Real)"
        >>> asserted = "(assert (and (<= X_0 1) (>= X_0 -1) (< Y_0 -1)))"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "query.vnnlib")
        ...     _ = path.write_text(declared + asserted)
        ...     query = torch_shallow.read_vnnlib(path)
        >>> query.domain
        Box(lower=[-1.0], upper=[1.0])
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> torch_shallow.verify(model, query.domain, query.property).holds  # no input meets the assertions
        True
    """
    checked = check_path(path, example="property.vnnlib")
    try:
        content = checked.read_bytes()
        text = (gzip.decompress(content) if checked.suffix == ".gz" else content).decode()
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise FileError(
            f"path: expected a text file in VNN-LIB at {checked}, found an error ({error}); correct path or file."
        ) from error
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
    """Split conjunctions into single formulas, except those which state that two entries of inputs are equal."""
    found = list[Formula]()
    for formula in asserted:
        together = isinstance(formula, AllOf) and _equal_inputs(formula) is None
        found += _apart([*formula.parts]) if together and isinstance(formula, AllOf) else [formula]
    return found


def _united(asserted: list[Formula], inputs: int) -> tuple[Int[np.ndarray, "inputs"], int, list[Formula]]:
    """Unite entries of inputs asserted to be equal: return new indices, their number, and the other formulas."""
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
    """Return the two entries of inputs that a formula states to be equal; None if it states something else."""
    match formula:
        case AllOf((Row() as one, Row() as other)):
            coefficients = sorted(one.inputs.values())
            opposite = {i: -c for i, c in one.inputs.items()} == other.inputs and not (one.strict or other.strict)
            if opposite and not one.outputs and not other.outputs and one.constant == other.constant == 0.0:
                i, j = (*one.inputs, -1, -1)[:2]
                return (i, j) if coefficients == [-1.0, 1.0] else None
    return None


def _renamed(formula: Formula, entries: Int[np.ndarray, "inputs"]) -> Formula:
    """Rewrite a formula with new indices of the input's entries."""
    if not isinstance(formula, Row):
        return type(formula)(tuple(_renamed(part, entries) for part in formula.parts))
    inputs: dict[int, float] = {}
    for i, coefficient in formula.inputs.items():
        inputs[int(entries[i])] = inputs.get(int(entries[i]), 0.0) + coefficient
    return replace(formula, inputs={i: c for i, c in inputs.items() if c != 0.0})


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _hull(boxes: list[Box], size: int) -> Box:
    """Return the smallest box around the given boxes; the origin if there are none."""
    if not boxes:
        return Box(np.zeros(size), np.zeros(size))
    return Box(np.min([box.lower for box in boxes], axis=0), np.max([box.upper for box in boxes], axis=0))
