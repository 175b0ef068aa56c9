"""A network into a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.fx import GraphModule

from torch_shallow import __version__
from torch_shallow.errors import TransformError
from torch_shallow.modules.files.container import write
from torch_shallow.modules.files.description import Description
from torch_shallow.modules.files.domains import domain_arrays
from torch_shallow.modules.files.graph.encode import NotWritable, encode
from torch_shallow.modules.files.graph.written import WrittenGraph
from torch_shallow.modules.files.layout import HEAD, TRUNK, check_layout
from torch_shallow.modules.files.trees import as_tensors, describe_tree
from torch_shallow.modules.files.visited import describe_visited
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.visited_relu import VisitedReLU
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.program.weights_hash import hash_tensors

_LOCAL_MODELS = ("selection.", "local_models.")


def save(shallow: ShallowReLU, path: str | os.PathLike[str]) -> None:
    """Write a network into a file, all or nothing.

    Args:
        shallow: the network, wherever it is.
        path: of the file; one that is there is replaced.

    Raises:
        TransformError: `path` is no path, the file cannot be written, or the network has code that cannot.
    """
    path = check_path(path)
    description, tensors = _describe(shallow)
    try:
        target = Path(os.path.realpath(path))  # a link stays one
        if target.exists() and not target.is_file():
            raise TransformError(
                f"path: {path}: expected the name of a file, found {what_it_is(target)}; choose another."
            )
        write(target, description.to_json(), tensors)
    except OSError as error:
        raise TransformError(
            f"path: {path}: expected a file in a folder that can be written to, found an error ({error.strerror}); "
            "choose another path."
        ) from error


def _describe(shallow: ShallowReLU) -> tuple[Description, dict[str, Tensor]]:
    domain, bounds = domain_arrays(shallow.domain)
    fields, arrays = describe_visited(shallow) if isinstance(shallow, VisitedReLU) else describe_tree(shallow)
    tensors = as_tensors({**arrays, **{f"domain.{name}": bound for name, bound in bounds.items()}})
    trunk = head = None
    if isinstance(shallow, VisitedReLU):
        trunk = _encode("trunk", shallow, TRUNK, tensors)
    if shallow.head is not None:
        head = _encode("head", shallow, HEAD, tensors)
    description = Description(
        version=__version__,
        in_shape=shallow.in_shape,
        trunk_shape=shallow.trunk_shape,
        out_shape=shallow.out_shape,
        domain=domain,
        bounds={name: bound.shape for name, bound in bounds.items()},
        complete=shallow.complete,
        source_hash=shallow.source_hash,
        discontinuous=shallow.may_be_discontinuous,
        trained=any(name.startswith(_LOCAL_MODELS) for name, _ in shallow.named_parameters()),
        trunk=trunk,
        head=head,
        tensors_sha256=hash_tensors(tensors),
        **fields,
    )
    check_layout(description, tensors)
    return description, tensors


def _encode(part: str, shallow: Any, prefix: str, tensors: dict[str, Tensor]) -> WrittenGraph:
    """The graph of a part of a network; its tensors are added.

    Raises:
        TransformError: there is none.
    """
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
    tensors |= as_tensors({f"{prefix}{name}": tensor for name, tensor in found.items()})
    return written
