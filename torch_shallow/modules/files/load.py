"""A network out of a file, of which nothing is believed before it is checked."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.modules.files.container import read
from torch_shallow.modules.files.damage import ANOTHER_COPY, Damaged
from torch_shallow.modules.files.description import VISITED, Description
from torch_shallow.modules.files.domains import make_domain
from torch_shallow.modules.files.graph.decode import function_of, module_of
from torch_shallow.modules.files.layout import HEAD, check_layout
from torch_shallow.modules.files.trees import make_tree_network
from torch_shallow.modules.files.visited import make_visited_network
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.paths import check_path, what_it_is
from torch_shallow.program.weights_hash import hash_tensors


def load(path: str | os.PathLike[str]) -> ShallowReLU:
    """The network in a file, on the CPU.

    Args:
        path: of the file.

    Raises:
        TransformError: there is no such file, or it is not what `save` writes: truncated, altered, foreign or of a
            newer format.
    """
    path = check_path(path)
    try:
        return _load(_bytes(path))
    except Damaged as error:
        raise TransformError(f"path: {path}: {error}") from error.__cause__
    except Exception as error:
        raise TransformError(
            f"path: {path}: expected a file that a network can be made from, found one that fails "
            f"({type(error).__name__}: {error}); {ANOTHER_COPY}."
        ) from error


def _bytes(path: Path) -> bytes:
    """All bytes of a file, or the first of one that is none of ours.

    Raises:
        Damaged: it cannot be read.
    """
    expected = "a file that ShallowReLU.save() wrote"
    try:
        if path.exists() and not path.is_file():
            raise Damaged(expected, what_it_is(path), "name a file")
        with path.open("rb") as file:
            start = file.read(9)
        return path.read_bytes() if start[8:] == b"{" else start
    except FileNotFoundError as error:
        raise Damaged(expected, "no file of this name", "correct the path") from error
    except OSError as error:
        raise Damaged(expected, f"one that cannot be read ({error.strerror})", "see to that first") from error


def _load(data: bytes) -> ShallowReLU:
    """The network in the bytes of a file.

    Raises:
        Damaged: they are not what `save` writes.
    """
    number, values, tensors = read(data)
    described = Description.of_json(values, number)
    if hash_tensors(tensors) != described.tensors_sha256:
        raise Damaged("tensors with the digest that the description says", "another digest, so they were altered")
    check_layout(described, tensors)
    domain = make_domain(described.domain, described.in_shape, tensors)
    head = _head(described, tensors)
    make = make_visited_network if described.kind == VISITED else make_tree_network
    shallow = make(described, tensors, domain, head)
    shallow.head = head  # the constructor made a copy, which has only what is used
    if shallow.out_shape != described.out_shape:
        raise Damaged(f"a head with output of shape {described.out_shape}", f"shape {shallow.out_shape}")
    if described.trained:
        shallow.unfreeze()
    shallow.may_be_discontinuous = described.discontinuous
    shallow.source_hash = described.source_hash
    return shallow


def _head(described: Description, tensors: dict[str, Tensor]) -> nn.Module | None:
    if described.head is None:
        return None
    of_head = {name.removeprefix(HEAD): tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    return module_of(function_of(described.head), described.head, of_head)
