"""Describe a network in a file, except for its numbers, and derive from this which tensors the file contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from math import prod
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from torch_shallow.domain import Box, Polytope, WholeSpace
from torch_shallow.modules.files.container import FORMAT, Damaged

ACTIVATION, FREE, VISITED = "activation regions", "free cuts", "visited regions"
DOMAINS = {"whole space": (WholeSpace, ()), "box": (Box, ("lower", "upper")), "polytope": (Polytope, ("A", "b"))}
TRUNK, HEAD = "neurons.root.", "head."
"""Prefixes of the names of a graph's tensors."""

Shape = tuple[int, ...]
Slot = tuple[torch.dtype, Shape]
"""Dtype and shape of a tensor."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class WrittenGraph:
    """Hold a module from one tensor to one tensor, as operations of ATen in the order in which they run.

    Attributes:
        nodes: a list of `["input"]`, `["tensor", name]` or `[operation, arguments, keyword arguments]`. An argument
            that is the value of node 3 is `{"node": 3}`; see `graph_code`.
        output: number of the node whose value is the result.
        tensors: dtype and shape of each tensor of the module; a tensor that is the same as another one has that one's
            name instead.
        parameters: for each tensor that is a parameter, whether it requires gradients; all others are buffers.
        persistent: names of the tensors that are part of the module's state.
    """

    nodes: list[list[Any]]
    output: int
    tensors: dict[str, Any]
    parameters: dict[str, bool]
    persistent: list[str]

    def slots(self) -> dict[str, Slot]:
        """Return dtype and shape of each tensor that is stored.

        Raises:
            Damaged: an entry is not a dtype and a shape.
        """
        return {name: _slot(name, told) for name, told in self.tensors.items() if not isinstance(told, str)}

    def stored_name(self, name: str) -> str:
        """Return the name under which a tensor is stored.

        Raises:
            Damaged: no tensor has this name.
        """
        told = self.tensors.get(name)
        if isinstance(told, str):
            name, told = told, self.tensors.get(told)
        if not isinstance(told, list):
            raise Damaged("a graph whose tensors are in the file", f"tensor {name!r}, which is not")
        return name


def _slot(name: str, told: object) -> Slot:
    match told:
        case [str(word), list(shape)] if all(type(n) is int and n >= 0 for n in shape):
            dtype = getattr(torch, word, None)
            if isinstance(dtype, torch.dtype):
                return dtype, tuple(shape)
    raise Damaged(f"dtype and shape of the graph's tensor {name!r}", f"{str(told)[:80]!r}")


def _since(number: int, default: Any) -> Any:
    """Declare a field that files contain since a format, with its meaning in older files as default."""
    return field(default=default, metadata={"since": number})


@dataclass(frozen=True, kw_only=True)
class Description:
    """Hold the fields of a file's description, in the order in which they are written."""

    version: str  # version of the package that wrote the file
    kind: str  # kind of the network: ACTIVATION, FREE or VISITED
    in_shape: tuple[int, ...]  # shape of one input
    trunk_shape: tuple[int, ...]  # shape of one output of the trunk
    out_shape: tuple[int, ...]  # shape of one output
    domain: str  # kind of the domain, one of DOMAINS
    bounds: dict[str, tuple[int, ...]]  # shape of each array that defines the domain
    complete: bool  # whether all regions are known
    source_hash: str | None  # hash of the model that the network was made from
    discontinuous: bool  # whether weights may have been trained
    trained: bool  # whether the local models are parameters
    num_regions: int  # number of known regions
    open_cells: int = _since(2, 0)  # number of unexplored cells of the tree
    dense: bool = False  # whether all half-spaces are evaluated
    half_spaces: int | None = _since(4, None)  # number of distinct ones; None: one row per cut
    coordinates: int | None = None  # number that the network reads; None: the whole input
    skip: bool = False  # whether the output reads the input itself
    chart: int = 0  # number of chart coordinates
    walls: int = 0  # number of inequalities of the chart
    chart_is_box: bool = False  # see `Chart`
    method: dict[str, int] = field(default_factory=dict)  # how regions were found; see `Partition`
    by_rays: bool = _since(2, True)  # this and the next four are the fields of `Search`
    solver: str | None = _since(2, None)
    tolerance: float = _since(2, 1e-10)
    max_rays: int | None = _since(2, None)
    max_error: float | None = _since(3, None)
    merged: bool = False  # whether some regions are merged activation regions
    stages: tuple[str, ...] = ()  # names of the stages of ReLUs
    neurons: tuple[int, ...] = ()  # number of neurons of each stage
    whole: tuple[int, ...] | None = None  # the same for the whole network, if this is a part
    stored_maps: bool = False  # whether the affine maps of visited regions are stored
    maps_on_demand: bool = _since(2, False)  # whether the maps of a tree's regions are not stored
    trunk: WrittenGraph | None = None  # the deep network of visited regions
    head: WrittenGraph | None = None  # what follows the trunk

    @classmethod
    def of_json(cls, values: Mapping[str, Any], number: int) -> Description:
        """Read a description from a file's fields.

        Args:
            values: the fields of the file.
            number: number of the file's format.

        Raises:
            Damaged: a field is missing, unknown, or invalid.
        """
        described = read_record(cls, values, number)
        kinds = (ACTIVATION, FREE, VISITED)
        if described.kind not in kinds:
            raise Damaged(f"a network of kind {', '.join(map(repr, kinds))}", f"kind {described.kind!r}")
        if described.domain not in DOMAINS:
            raise Damaged(f"a domain of kind {', '.join(map(repr, DOMAINS))}", f"kind {described.domain!r}")
        all_known = described.kind != VISITED and described.open_cells == 0
        if described.complete is not all_known:
            expected = f"{all_known} in the field 'complete', according to the kind and the open cells"
            raise Damaged(expected, f"{described.complete}")
        if len(described.stages) != len(described.neurons):
            raise Damaged(f"the names of {len(described.neurons)} stages", f"{len(described.stages)} names")
        return described


def read_record(cls: type[Value], values: Any, number: int = FORMAT) -> Value:
    """Read a dataclass from JSON.

    Args:
        cls: the class; its annotations give the type of each field.
        values: the fields by name.
        number: number of the file's format; fields added later have their defaults.

    Raises:
        Damaged: a field is missing, unknown, or of another type.
    """
    kinds = get_type_hints(cls)
    known = [each for each in fields(cls) if each.metadata.get("since", 1) <= number]  # type: ignore[arg-type]
    names = {each.name for each in known}
    if not isinstance(values, dict) or values.keys() != names:
        wrong = sorted(names ^ values.keys()) if isinstance(values, dict) else type(values).__name__
        raise Damaged(f"a {cls.__name__} of {len(names)} fields", f"missing or unknown ones: {wrong}")
    found = {}
    for name, kind in ((each.name, each.type) for each in known):
        try:
            found[name] = _read(values[name], kinds[name])
        except TypeError as error:
            expected = f"a value of type {kind} in the field {name!r} of a {cls.__name__}"
            raise Damaged(expected, f"{str(values[name])[:80]!r}") from error
    return cls(**found)


def _read(value: Any, kind: Any) -> Any:
    """Convert a value of JSON to a type."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, UnionType):
        return None if value is None else _read(value, parts[0])
    if is_dataclass(kind):
        return read_record(kind, value)  # type: ignore[arg-type]
    if origin is dict and isinstance(value, dict):
        return {key: _read(item, parts[1]) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_read(item, parts[0]) for item in value)
    if kind is Any or (type(value) is kind and _in_bounds(value)):
        return value
    raise TypeError(f"{value!r} is not a {kind}")


def _in_bounds(value: object) -> bool:
    """Tell whether a number is in the range of those in files: a size, or a tolerance."""
    if isinstance(value, float):
        return 0.0 < value < 1.0
    return not isinstance(value, int) or 0 <= value < 1 << 48


def layout(described: Description) -> dict[str, Slot]:
    """Return dtype and shape of each tensor in a file with this description.

    Raises:
        Damaged: the graph in the description has an invalid tensor.
    """
    shapes = {f"domain.{name}": shape for name, shape in described.bounds.items()}
    shapes |= _of_visited(described) if described.kind == VISITED else _of_tree(described)
    if described.kind == ACTIVATION:
        shapes |= _of_program(described)
    slots: dict[str, Slot] = {name: (_DTYPES.get(name, torch.float64), shape) for name, shape in shapes.items()}
    for prefix, graph in ((TRUNK, described.trunk), (HEAD, described.head)):
        if graph is not None:
            slots |= {f"{prefix}{name}": slot for name, slot in graph.slots().items()}
    return slots


def below(prefix: str, tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Return the entries whose names begin with a prefix, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_layout(described: Description, tensors: Mapping[str, Tensor]) -> None:
    """Compare tensors with the layout.

    Raises:
        Damaged: a tensor is missing, unexpected, or of another dtype or shape.
    """
    slots = layout(described)
    wrong = sorted(slots.keys() ^ tensors.keys())
    if wrong:
        raise Damaged(f"{len(slots)} tensors", f"missing or unknown ones: {wrong}")
    for name, (dtype, shape) in slots.items():
        found = tensors[name].dtype, tuple(tensors[name].shape)
        if found != (dtype, shape):
            raise Damaged(f"a tensor {name!r} of shape {shape} and {dtype}", f"shape {found[1]} and {found[0]}")


def _of_tree(described: Description) -> dict[str, Shape]:
    inputs, outputs, regions = prod(described.in_shape), prod(described.trunk_shape), described.num_regions
    cuts, chart = regions + described.open_cells - 1, described.chart
    coordinates = inputs if described.coordinates is None else described.coordinates
    half_spaces = cuts if described.half_spaces is None else described.half_spaces
    shapes: dict[str, Shape] = {
        "chart.origin": (inputs,),
        "chart.directions": (chart, inputs),
        "chart.inequalities": (described.walls, chart + 1),
        "chart.inner": (chart,),
        "tree.children": (cuts, 2),
        "tree.points": (regions, chart),
        "half_spaces.normals": (half_spaces, coordinates),
        "half_spaces.offsets": (half_spaces,),
    }
    if described.half_spaces is not None:
        shapes["tree.half_spaces"] = (cuts,)
    if not described.maps_on_demand:
        shapes |= {"selection.weights": (regions, outputs, coordinates), "selection.biases": (regions, outputs)}
    if described.coordinates is not None:
        shapes["half_spaces.projection"] = (coordinates, inputs)
    if described.skip:
        shapes["selection.skip"] = (outputs, inputs)
    return shapes


def _of_program(described: Description) -> dict[str, Shape]:
    sources, outputs, regions = prod(described.in_shape), prod(described.trunk_shape), described.num_regions
    neurons = sum(described.neurons)
    patterns = regions, -(-neurons // 8)
    shapes: dict[str, Shape] = {
        "tree.cut_neurons": (regions + described.open_cells - 1,),
        "tree.packed_patterns": patterns,
    }
    if described.merged:
        shapes["tree.mixed"] = patterns
    for number, size in enumerate(described.neurons):
        shapes |= {f"program.{number}.weight": (size, sources), f"program.{number}.bias": (size,)}
        sources += size
    shapes |= {"program.out.weight": (outputs, sources), "program.out.bias": (outputs,)}
    if described.whole is not None:
        shapes |= {"program.whole.active": (sum(described.whole),), "program.whole.neurons": (neurons,)}
    return shapes


def _of_visited(described: Description) -> dict[str, Shape]:
    inputs, outputs, regions = prod(described.in_shape), prod(described.trunk_shape), described.num_regions
    maps = regions if described.stored_maps else 0
    return {
        "points": (regions, inputs),
        "known_patterns.packed": (regions, -(-sum(described.neurons) // 8)),
        "local_models.weights": (maps, outputs, inputs),
        "local_models.biases": (maps, outputs),
    }


_DTYPES = {
    **dict.fromkeys(("tree.children", "tree.cut_neurons", "program.whole.neurons"), torch.int64),
    **dict.fromkeys(("tree.packed_patterns", "tree.mixed", "known_patterns.packed"), torch.uint8),
    "tree.half_spaces": torch.int32,
    "program.whole.active": torch.bool,
}
