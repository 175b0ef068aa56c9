"""A network out of a file, of which nothing is believed before it is checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_shallow.domain import Domain
from torch_shallow.errors import FileError, TransformError
from torch_shallow.modules.files.container import ANOTHER_COPY, Damaged, read
from torch_shallow.modules.files.description import DOMAINS, HEAD, VISITED, Description, below, check_layout
from torch_shallow.modules.files.graph_code import module_of
from torch_shallow.modules.files.tree_network import make_tree_network
from torch_shallow.modules.files.visited_network import make_visited_network
from torch_shallow.paths import check_path, what_it_is

Makers = Mapping[str, Callable[..., Any]]  # "tree" and "visited"
_FINITE = ("tree.", "chart.", "half_spaces.", "program.", "points")  # bounds and weights may be infinite


def load(path: str | os.PathLike[str], makers: Makers) -> Any:
    """The network in a file, on the CPU.

    Args:
        path: of the file.
        makers: what makes a network of each kind.

    Raises:
        FileError: there is no such file, or it is not what `save` writes: truncated, altered, foreign or of a
            newer format.
    """
    path = check_path(path)
    try:
        return _load(_bytes(path), makers)
    except Damaged as error:
        raise FileError(f"path: {path}: {error}") from error.__cause__
    except Exception as error:
        raise FileError(
            f"path: {path}: expected a file that a network can be made from, found one that fails "
            f"({type(error).__name__}: {error}); {ANOTHER_COPY}."
        ) from error


def _bytes(path: Path) -> bytes:
    """All bytes of a file, or the first of one that is none of ours."""
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


def _load(data: bytes, makers: Makers) -> Any:
    """The network in the bytes of a file."""
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
    shallow.head = head  # the constructor made a copy, which has only what is used
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
        raise Damaged("bounds that make a domain", f"others ({error})") from error
    return domain
