"""Which tensors a file has: names, dtypes and shapes, as they follow from its description."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from torch_shallow.modules.files.damage import Damaged
from torch_shallow.modules.files.description import ACTIVATION, VISITED, Description
from torch_shallow.modules.files.graph.written import Slot

TRUNK, HEAD = "neurons.root.", "head."


def layout(described: Description) -> dict[str, Slot]:
    """The tensors of a file of a description.

    Raises:
        Damaged: the description has a graph of something else than tensors.
    """
    shapes = {f"domain.{name}": shape for name, shape in described.bounds.items()}
    shapes |= _of_visited(described) if described.kind == VISITED else _of_tree(described)
    slots: dict[str, Slot] = {name: (_dtype(name), shape) for name, shape in shapes.items()}
    for prefix, graph in ((TRUNK, described.trunk), (HEAD, described.head)):
        if graph is not None:
            slots |= {f"{prefix}{name}": slot for name, slot in graph.slots().items()}
    return slots


def check_layout(described: Description, tensors: dict[str, Tensor]) -> None:
    """Compare tensors with the layout.

    Raises:
        Damaged: one is missing, is not expected, or has another dtype or shape.
    """
    slots = layout(described)
    missing, unexpected = sorted(slots.keys() - tensors.keys()), sorted(tensors.keys() - slots.keys())
    if missing:
        raise Damaged(f"a tensor {missing[0]!r}", f"none ({len(missing)} missing)")
    if unexpected:
        raise Damaged(f"{len(slots)} tensors", f"another one, {unexpected[0]!r} ({len(unexpected)} too many)")
    for name, (dtype, shape) in slots.items():
        if tensors[name].dtype != dtype:
            raise Damaged(f"a tensor {name!r} of dtype {dtype}", f"dtype {tensors[name].dtype}")
        if tensors[name].shape != shape:
            raise Damaged(f"a tensor {name!r} of shape {shape}", f"shape {tuple(tensors[name].shape)}")


def _of_tree(described: Description) -> dict[str, tuple[int, ...]]:
    inputs, outputs, regions = prod(described.in_shape), prod(described.trunk_shape), described.num_regions
    cuts, chart = regions + described.open_cells - 1, described.chart
    coordinates = inputs if described.coordinates is None else described.coordinates
    shapes: dict[str, tuple[int, ...]] = {
        "chart.origin": (inputs,),
        "chart.directions": (chart, inputs),
        "chart.inequalities": (described.walls, chart + 1),
        "chart.inner": (chart,),
        "tree.children": (cuts, 2),
        "tree.points": (regions, chart),
        "half_spaces.normals": (cuts, coordinates),
        "half_spaces.offsets": (cuts,),
    }
    if not described.maps_on_demand:
        shapes |= {"selection.weights": (regions, outputs, coordinates), "selection.biases": (regions, outputs)}
    if described.coordinates is not None:
        shapes["half_spaces.projection"] = (coordinates, inputs)
    if described.skip:
        shapes["selection.skip"] = (outputs, inputs)
    return shapes | (_of_program(described) if described.kind == ACTIVATION else {})


def _of_program(described: Description) -> dict[str, tuple[int, ...]]:
    regions, sources, neurons = described.num_regions, prod(described.in_shape), sum(described.neurons)
    shapes: dict[str, tuple[int, ...]] = {
        "tree.cut_neurons": (regions + described.open_cells - 1,),
        "tree.packed_patterns": (regions, -(-neurons // 8)),
    }
    if described.merged:
        shapes["tree.mixed"] = shapes["tree.packed_patterns"]
    for number, size in enumerate(described.neurons):
        shapes[f"program.{number}.weight"] = (size, sources)
        shapes[f"program.{number}.bias"] = (size,)
        sources += size
    outputs = prod(described.trunk_shape)
    shapes |= {"program.out.weight": (outputs, sources), "program.out.bias": (outputs,)}
    if described.whole is not None:
        shapes |= {"program.whole.active": (sum(described.whole),), "program.whole.neurons": (neurons,)}
    return shapes


def _of_visited(described: Description) -> dict[str, tuple[int, ...]]:
    inputs, outputs, regions = prod(described.in_shape), prod(described.trunk_shape), described.num_regions
    maps = regions if described.stored_maps else 0
    return {
        "points": (regions, inputs),
        "known_patterns.packed": (regions, -(-sum(described.neurons) // 8)),
        "local_models.weights": (maps, outputs, inputs),
        "local_models.biases": (maps, outputs),
    }


def _dtype(name: str) -> torch.dtype:
    return _DTYPES.get(name, torch.float64)


_DTYPES = {
    **dict.fromkeys(("tree.children", "tree.cut_neurons", "program.whole.neurons"), torch.int64),
    **dict.fromkeys(("tree.packed_patterns", "tree.mixed", "known_patterns.packed"), torch.uint8),
    "program.whole.active": torch.bool,
}
