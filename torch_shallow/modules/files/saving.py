"""Save a network to a file, and load it again, with every part of the file checked before it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
from torch_shallow.modules.files.container import ANOTHER_COPY, Damaged, read, write
from torch_shallow.modules.files.description import (
    DOMAINS,
    HEAD,
    TRUNK,
    VISITED,
    Description,
    WrittenGraph,
    below,
    check_layout,
    layout,
)
from torch_shallow.modules.files.graph_code import NotWritable, encode, module_of
from torch_shallow.modules.files.networks import (
    describe_tree,
    describe_visited,
    make_tree_network,
    make_visited_network,
)
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.version import VERSION

_LOCAL_MODELS = ("selection.", "local_models.")


def save(shallow: Any, path: str | os.PathLike[str]) -> None:
    """Write a `RegionNetwork` to a file, as described by `RegionNetwork.save`."""
    path = check_path(path)
    description, tensors = _describe(shallow)
    try:
        target = Path(os.path.realpath(path))  # a link stays a link
        if target.exists() and not target.is_file():
            raise FileError(
                f"path: {path}: expected the name of a file, found {what_it_is(target)}; choose another name."
            )
        write(target, asdict(description), tensors)
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            f"path: {path}: expected a file in a writable folder, found an error ({error.strerror}); choose another "
            "path."
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
    """Return the name in files of a kind of domain."""
    for name, (kind, _) in DOMAINS.items():
        if type(domain) is kind:
            return name
    raise TransformError(
        f"path: expected a network whose domain is R^n, a Box or a Polytope, found a {type(domain).__name__}, which "
        "files cannot hold; transform the model in a Box or a Polytope."
    )


def _value(shallow: Any, name: str) -> Any:
    """Return the array or tensor of a network by its name in files."""
    match name.split("."):
        case ["tree", "half_spaces"]:
            return shallow.function.half_space_of()
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
    """Convert an array or a tensor to a contiguous tensor on the CPU; indices may be stored in another dtype."""
    tensor = torch.as_tensor(value).detach().cpu().contiguous()
    return tensor.to(dtype) if dtype in (torch.int32, torch.int64) else tensor


def _encode(part: str, shallow: Any, prefix: str, tensors: dict[str, Tensor]) -> WrittenGraph:
    """Return the graph of a part of a network, and add its tensors."""
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
            f"path: expected a network whose {part} can be written as core operations of ATen, found that it cannot: "
            f"{error}; {remedy}."
        ) from error.__cause__
    tensors |= {f"{prefix}{name}": _stored(tensor) for name, tensor in found.items()}
    return written


Makers = Mapping[str, Callable[..., Any]]  # "tree" and "visited"
_FINITE = ("tree.", "chart.", "half_spaces.", "program.", "points")  # bounds and weights may be infinite


def load(path: str | os.PathLike[str], makers: Makers) -> Any:
    """Load the network in a file, using the constructor for its kind, as described by `RegionNetwork.load`."""
    path = check_path(path)
    try:
        return _load(_bytes(path), makers)
    except Damaged as error:
        raise FileError(f"path: {path}: {error}") from error.__cause__
    except Exception as error:
        raise FileError(
            f"path: {path}: expected a file from which a network can be made, found an error ({type(error).__name__}: "
            f"{error}); {ANOTHER_COPY}."
        ) from error


def _bytes(path: Path) -> bytes:
    """Read all bytes of a file, or only the first ones if it is no file of this format."""
    expected = "a file written by ShallowReLU.save()"
    try:
        if path.exists() and not path.is_file():
            raise Damaged(expected, what_it_is(path), "name a file")
        with path.open("rb") as file:
            start = file.read(9)
        return path.read_bytes() if start[8:] == b"{" else start
    except FileNotFoundError as error:
        raise Damaged(expected, "no file of this name", "correct the path") from error
    except OSError as error:
        raise Damaged(expected, f"one that cannot be read ({error.strerror})", "make it readable") from error


def _load(data: bytes, makers: Makers) -> Any:
    """Build the network in the bytes of a file."""
    number, values, tensors = read(data)
    described = Description.of_json(values, number)
    check_layout(described, tensors)
    for name, tensor in tensors.items():
        if name.startswith(_FINITE) and not tensor.isfinite().all():
            raise Damaged(f"finite numbers in {name!r}", f"{int((~tensor.isfinite()).sum())} that are NaN or infinite")
    domain = _domain(described, tensors)
    head = None if described.head is None else module_of(described.head, below(HEAD, tensors))
    if described.kind == VISITED:
        shallow = make_visited_network(makers["visited"], described, tensors, domain, head)
    else:
        shallow = make_tree_network(makers["tree"], described, tensors, domain, head)
    shallow.head = head  # the constructor made a copy with only the parts in use
    if shallow.out_shape != described.out_shape:
        raise Damaged(f"a head with output of shape {described.out_shape}", f"shape {shallow.out_shape}")
    if described.trained:
        shallow.unfreeze()
    shallow.may_be_discontinuous = described.discontinuous
    shallow.source_hash = described.source_hash
    return shallow


def _domain(described: Description, tensors: dict[str, Tensor]) -> Domain:
    kind, names = DOMAINS[described.domain]
    try:
        domain = kind(*(tensors[f"domain.{name}"].numpy() for name in names))
        domain.limits(described.in_shape)
    except KeyError as error:
        raise Damaged(f"{' and '.join(names)} of a {described.domain}", f"no {error}") from error
    except TransformError as error:
        raise Damaged("bounds that define a domain", f"invalid ones ({error})") from error
    return domain
