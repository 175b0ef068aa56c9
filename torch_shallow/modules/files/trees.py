"""Networks that a tree of cuts makes, as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions.composed import ComposedSelection
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.tree import FreeTree, Tree
from torch_shallow.modules.files.checks import check_choice, check_finite, check_tree
from torch_shallow.modules.files.description import ACTIVATION, FREE, Description
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram, Stage, WholeNetwork
from torch_shallow.search.affine_maps import AffineMaps
from torch_shallow.search.partition import Partition, Search

Arrays = dict[str, Any]


def describe_tree(shallow: ShallowReLU) -> tuple[dict[str, Any], Arrays]:
    """Fields of the description of a network, and its arrays and tensors by name.

    Raises:
        TransformError: the network has a tree of another kind, or does not run on its own.
    """
    tree, half, selection = shallow.partition, shallow.half_spaces, shallow.selection
    if not np.array_equal(shallow.indicator.tree.cpu().numpy(), tree.children):
        raise TransformError(
            "path: expected a network that runs on the tree of its partition, found indicator.tree changed; make a "
            "network of the changed tree, and save this."
        )
    chart = tree.chart
    fields: dict[str, Any] = {
        "num_regions": tree.num_regions,
        "open_cells": len(tree.open_cells),
        "dense": shallow.dense,
        "coordinates": None if half.projection is None else len(half.projection),
        "skip": selection.skip is not None,
        "maps_on_demand": not shallow.stores_maps,
        "chart": chart.num_coordinates,
        "walls": len(chart.inequalities),
        "chart_is_box": chart.is_box,
    }
    arrays: Arrays = {
        **{f"chart.{name}": getattr(chart, name) for name in ("origin", "directions", "inequalities", "inner")},
        "tree.children": tree.children.astype(np.int64),
        "tree.points": tree.points,
        "half_spaces.normals": half.normals,
        "half_spaces.offsets": half.offsets,
    }
    if isinstance(selection, ComposedSelection):
        selection.require_program("path", tree, half.projection)
    else:
        arrays |= {"selection.weights": selection.weights, "selection.biases": selection.biases}
    if half.projection is not None:
        arrays["half_spaces.projection"] = half.projection
    if selection.skip is not None:
        arrays["selection.skip"] = selection.skip
    if isinstance(tree, Partition):
        return {"kind": ACTIVATION, **fields, **_program_fields(tree)}, arrays | _program_arrays(tree)
    if isinstance(tree, FreeTree):
        return {"kind": FREE, **fields}, arrays
    raise TransformError(
        f"path: expected a network of a Partition or a FreeTree, found a {type(tree).__name__}, for which files have "
        "no place; save the network that it was made from."
    )


def _program_fields(tree: Partition) -> dict[str, Any]:
    program = tree.program
    return {
        "method": {name: int(count) for name, count in tree.method.items()},
        **asdict(tree.search),
        "merged": tree.mixed is not None,
        "stages": tuple(stage.name for stage in program.stages),
        "neurons": tuple(stage.num_neurons for stage in program.stages),
        "whole": None if program.whole is None else tuple(map(int, program.whole.sizes)),
    }


def _program_arrays(tree: Partition) -> Arrays:
    program = tree.program
    arrays: Arrays = {
        "tree.cut_neurons": tree.cut_neurons.astype(np.int64),
        "tree.packed_patterns": tree.packed_patterns,
        "program.out.weight": program.out_weight,
        "program.out.bias": program.out_bias,
    }
    if tree.mixed is not None:
        arrays["tree.mixed"] = tree.mixed
    for number, stage in enumerate(program.stages):
        arrays |= {f"program.{number}.weight": stage.weight, f"program.{number}.bias": stage.bias}
    if program.whole is not None:
        arrays["program.whole.active"] = program.whole.active
        arrays["program.whole.neurons"] = program.whole.neurons.astype(np.int64)
    return arrays


def make_tree_network(
    described: Description, tensors: Mapping[str, Tensor], domain: Domain, head: nn.Module | None
) -> ShallowReLU:
    """The network of a file.

    Args:
        described: its description.
        tensors: as the layout of the description wants them.
        domain: of the network.
        head: of the network.

    Raises:
        Damaged: the tensors make no such network.
    """
    check_tree(tensors["tree.children"].numpy(), described.num_regions)
    check_finite(tensors, ("tree.", "chart.", "half_spaces.", "program."))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if not name.startswith("head.")}
    of_chart = {name.removeprefix("chart."): array for name, array in arrays.items() if name.startswith("chart.")}
    chart = Chart(**of_chart, is_box=described.chart_is_box)
    tree: Tree
    if described.kind == FREE:
        tree = FreeTree(
            in_shape=described.in_shape,
            out_shape=described.trunk_shape,
            domain=domain,
            chart=chart,
            children=arrays["tree.children"],
            points=arrays["tree.points"],
        )
    else:
        program = _make_program(described, arrays)
        check_choice("the neuron of each cut", arrays["tree.cut_neurons"], program.num_neurons)
        tree = Partition(
            program=program,
            domain=domain,
            chart=chart,
            cut_neurons=arrays["tree.cut_neurons"],
            children=arrays["tree.children"],
            packed_patterns=arrays["tree.packed_patterns"],
            points=arrays["tree.points"],
            method=described.method,
            mixed=arrays.get("tree.mixed"),
            search=Search(described.by_rays, described.solver, described.tolerance, described.max_rays),
        )
    normals = arrays["half_spaces.normals"]
    maps = AffineMaps(
        projection=arrays.get("half_spaces.projection"),
        rows=np.column_stack([normals, arrays["half_spaces.offsets"]]),
        weights=arrays.get("selection.weights", np.zeros((0, prod(described.trunk_shape), normals.shape[1]))),
        biases=arrays.get("selection.biases", np.zeros((0, prod(described.trunk_shape)))),
        skip=arrays.get("selection.skip"),
    )
    return ShallowReLU(tree, maps, dense=described.dense, head=head, store_maps=not described.maps_on_demand)


def _make_program(described: Description, arrays: Mapping[str, np.ndarray]) -> ReLUProgram:
    whole = None
    if described.whole is not None:
        active, neurons = arrays["program.whole.active"], arrays["program.whole.neurons"]
        check_choice("the place of each neuron in the whole network", neurons, len(active))
        whole = WholeNetwork(described.whole, active, neurons)
    stages = tuple(
        Stage(name, arrays[f"program.{number}.weight"], arrays[f"program.{number}.bias"])
        for number, name in enumerate(described.stages)
    )
    out = arrays["program.out.weight"], arrays["program.out.bias"]
    return ReLUProgram(described.in_shape, described.trunk_shape, stages, *out, whole)


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays and tensors as contiguous tensors on the CPU."""
    return {name: torch.as_tensor(array).detach().cpu().contiguous() for name, array in arrays.items()}
