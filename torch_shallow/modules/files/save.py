"""A network into a file."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from torch_shallow.domain import Domain
from torch_shallow.errors import FileError, TransformError
from torch_shallow.functions import VisitedFunction
from torch_shallow.modules.files.container import write
from torch_shallow.modules.files.description import (
    DOMAINS,
    HEAD,
    TRUNK,
    Description,
    WrittenGraph,
    check_layout,
    layout,
)
from torch_shallow.modules.files.graph_export import NotWritable, encode
from torch_shallow.modules.files.tree_network import describe_tree
from torch_shallow.modules.files.visited_network import describe_visited
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.version import VERSION

_LOCAL_MODELS = ("selection.", "local_models.")


def save(shallow: Any, path: str | os.PathLike[str]) -> None:
    """Write a network into a file, all or nothing.

    Args:
        shallow: a `RegionNetwork`, wherever it is.
        path: of the file; one that is there is replaced.

    Raises:
        FileError: the file cannot be written.
        TransformError: `path` is no path, or the network has code that cannot be written.
    """
    path = check_path(path)
    description, tensors = _describe(shallow)
    try:
        target = Path(os.path.realpath(path))  # a link stays one
        if target.exists() and not target.is_file():
            raise FileError(f"path: {path}: expected the name of a file, found {what_it_is(target)}; choose another.")
        write(target, asdict(description), tensors)
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            f"path: {path}: expected a file in a folder that can be written to, found an error ({error.strerror}); "
            "choose another path."
        ) from error


def _describe(shallow: Any) -> tuple[Description, dict[str, Tensor]]:
    domain, function = _kind_of(shallow.domain), shallow.function
    described = Description(
        version=VERSION,
        in_shape=shallow.in_shape,
        trunk_shape=shallow.trunk_shape,
        out_shape=shallow.out_shape,
        domain=domain,
        bounds={name: getattr(shallow.domain, name).shape for name in DOMAINS[domain][1]},
        complete=shallow.complete,
        source_hash=shallow.source_hash,
        discontinuous=shallow.may_be_discontinuous,
        trained=any(name.startswith(_LOCAL_MODELS) for name, _ in shallow.named_parameters()),
        **(describe_visited(function) if isinstance(function, VisitedFunction) else describe_tree(function)),
    )
    tensors = {name: _stored(_value(shallow, name), dtype) for name, (dtype, _) in layout(described).items()}
    if isinstance(function, VisitedFunction):
        described = replace(described, trunk=_encode("trunk", shallow, TRUNK, tensors))
    if shallow.head is not None:
        described = replace(described, head=_encode("head", shallow, HEAD, tensors))
    check_layout(described, tensors)
    return described, tensors


def _kind_of(domain: Domain) -> str:
    """The name of a kind of domain."""
    for name, (kind, _) in DOMAINS.items():
        if type(domain) is kind:
            return name
    raise TransformError(
        f"path: expected a network whose domain is R^n, a Box or a Polytope, found a {type(domain).__name__}, for "
        "which files have no place; transform the model in a Box or a Polytope."
    )


def _value(shallow: Any, name: str) -> Any:
    """The array or tensor of a network that has a name in files."""
    match name.split("."):
        case ["tree", leaf]:
            return getattr(shallow.partition, leaf)
        case ["chart", leaf]:
            return getattr(shallow.partition.chart, leaf)
        case ["program", "out", leaf]:
            return getattr(shallow.partition.program, f"out_{leaf}")
        case ["program", "whole", leaf]:
            return getattr(shallow.partition.program.whole, leaf)
        case ["program", stage, leaf]:
            return getattr(shallow.partition.program.stages[int(stage)], leaf)
    return attrgetter(name)(shallow)


def _stored(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """An array or a tensor as a contiguous one on the CPU; indices may be stored in a wider dtype."""
    tensor = torch.as_tensor(value).detach().cpu().contiguous()
    return tensor.to(dtype) if dtype is torch.int64 else tensor


def _encode(part: str, shallow: Any, prefix: str, tensors: dict[str, Tensor]) -> WrittenGraph:
    """The graph of a part of a network; its tensors are added."""
    try:
        if part == "head":
            written, found = encode(shallow.head, shallow.trunk_shape, part)
        else:
            traced: Any = shallow.neurons.traced
            written, found = encode(GraphModule(traced.root, traced.graph), shallow.in_shape, part, traced.root)
    except NotWritable as error:
        remedy = (
            "save the network without its head (shallow.head = None, on a copy) and keep the head in your code"
            if part == "head"
            else "keep the model, and transform it again with data=shallow.points.reshape(-1, *shallow.in_shape)"
        )
        raise TransformError(
            f"path: expected a network whose {part} can be written as core operations of ATen, found one that cannot: "
            f"{error}; {remedy}."
        ) from error.__cause__
    tensors |= {f"{prefix}{name}": _stored(tensor) for name, tensor in found.items()}
    return written
