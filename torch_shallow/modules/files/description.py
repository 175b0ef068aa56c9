"""What a file says of its network: everything but the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch_shallow.modules.files.damage import Damaged
from torch_shallow.modules.files.graph.written import WrittenGraph

ACTIVATION, FREE, VISITED = "activation regions", "free cuts", "visited regions"
KINDS = (ACTIVATION, FREE, VISITED)
DOMAINS = ("whole space", "box", "polytope")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The fields of a file's description.

    Attributes:
        version: of the package that wrote it.
        kind: of the network: one of `KINDS`.
        in_shape: shape of one input.
        trunk_shape: shape of one output of the trunk.
        out_shape: shape of one output.
        domain: kind of the domain: one of `DOMAINS`.
        bounds: shape of each array that makes the domain.
        complete: whether all regions are known.
        source_hash: of the model that the network was made from.
        discontinuous: whether weights may have been trained.
        trained: whether the local models are parameters.
        num_regions: number of known regions.
        open_cells: number of cells of the tree that are not explored; since format 2.
        dense: whether all half-spaces are evaluated.
        coordinates: number of coordinates that the network reads of its input; None if that is the whole input.
        skip: whether the output reads the input itself.
        chart: number of chart coordinates.
        walls: number of inequalities of the chart.
        chart_is_box: see `Chart`.
        method: how regions were found, see `Partition`.
        by_rays: see `Search`, as for the next three; since format 2.
        solver: see there.
        tolerance: see there.
        max_rays: see there.
        merged: whether some regions are merged activation regions.
        stages: names of the stages of ReLUs.
        neurons: number of neurons of each stage.
        whole: likewise for the whole network, if the program is a part of one.
        stored_maps: whether the affine maps of visited regions are stored.
        maps_on_demand: whether those of the regions of a tree are not; since format 2.
        trunk: the deep network, of a network of visited regions.
        head: what follows the trunk.
        tensors_sha256: digest of all tensors.
    """

    version: str
    kind: str
    in_shape: tuple[int, ...]
    trunk_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    domain: str
    bounds: dict[str, tuple[int, ...]]
    complete: bool
    source_hash: str | None
    discontinuous: bool
    trained: bool
    num_regions: int
    open_cells: int = 0
    dense: bool = False
    coordinates: int | None = None
    skip: bool = False
    chart: int = 0
    walls: int = 0
    chart_is_box: bool = False
    method: dict[str, int] = field(default_factory=dict)
    by_rays: bool = True
    solver: str | None = None
    tolerance: float = 1e-10
    max_rays: int | None = None
    merged: bool = False
    stages: tuple[str, ...] = ()
    neurons: tuple[int, ...] = ()
    whole: tuple[int, ...] | None = None
    stored_maps: bool = False
    maps_on_demand: bool = False
    trunk: WrittenGraph | None = None
    head: WrittenGraph | None = None
    tensors_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any], number: int) -> Description:
        """The description that was written.

        Args:
            values: what `to_json` gave, out of a file.
            number: of the file's format.

        Raises:
            Damaged: a field is missing, unknown, or not what it should be.
        """
        known = [each for each in fields(cls) if _SINCE.get(each.name, 1) <= number]
        names = [each.name for each in known]
        missing, unknown = [name for name in names if name not in values], sorted(set(values) - set(names))
        if missing:
            raise Damaged(f"a description of {len(names)} fields", f"one without {', '.join(missing)}")
        if unknown:
            raise Damaged(f"a description of {len(names)} fields", f"unknown ones: {', '.join(unknown)}")
        described = cls(**{each.name: _read(each.name, str(each.type), values[each.name]) for each in known})
        if described.kind not in KINDS:
            raise Damaged(f"a network of {', '.join(map(repr, KINDS))}", f"one of {described.kind!r}")
        if described.domain not in DOMAINS:
            raise Damaged(f"a domain of {', '.join(map(repr, DOMAINS))}", f"one of {described.domain!r}")
        all_known = described.kind != VISITED and described.open_cells == 0
        if described.complete is not all_known:
            expected = f"{all_known} as the field 'complete', as its kind and its open cells say"
            raise Damaged(expected, f"{described.complete}")
        if len(described.stages) != len(described.neurons):
            raise Damaged(f"the names of {len(described.neurons)} stages", f"{len(described.stages)} names")
        return described


_FORMAT_2 = ("open_cells", "by_rays", "solver", "tolerance", "max_rays", "maps_on_demand")
_SINCE = dict.fromkeys(_FORMAT_2, 2)  # formats that brought fields


def _read(name: str, kind: str, value: object) -> Any:
    kind, _, optional = kind.partition(" | ")
    if optional and value is None:
        return None
    if kind == "WrittenGraph":
        return WrittenGraph.of_json(value)
    words, is_one, make = _KINDS[kind]
    if not is_one(value):
        raise Damaged(f"{words} as the field {name!r} of its description", f"{str(value)[:80]!r}")
    return make(value)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_size, value))


def _are_shapes(value: object) -> bool:
    return isinstance(value, dict) and all(map(_are_sizes, value.values()))


_KINDS: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    "str": ("a text", lambda value: isinstance(value, str), str),
    "int": ("a number from 0 on", _is_size, int),
    "float": ("a positive number", lambda value: isinstance(value, float) and 0.0 < value < 1.0, float),
    "bool": ("true or false", lambda value: isinstance(value, bool), bool),
    "tuple[int, ...]": ("sizes", _are_sizes, tuple),
    "tuple[str, ...]": (
        "texts",
        lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value),
        tuple,
    ),
    "dict[str, tuple[int, ...]]": (
        "shapes by name",
        _are_shapes,
        lambda value: {name: tuple(shape) for name, shape in value.items()},
    ),
    "dict[str, int]": (
        "numbers by name",
        lambda value: isinstance(value, dict) and all(map(_is_size, value.values())),
        dict,
    ),
}
