"""Pieces as bytes: a safetensors file each."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from torch_shallow.search.growing_tree import Piece

_METHOD = "method."
_ARRAYS = tuple(each.name for each in fields(Piece) if each.name != "method")


def encode(piece: Piece) -> bytes:
    """A piece as bytes."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(getattr(piece, name)) for name in _ARRAYS}
    return save(arrays | {f"{_METHOD}{name}": np.array(regions) for name, regions in piece.method.items()})


def decode(content: bytes) -> Piece:
    """The piece that `encode` made bytes of."""
    from safetensors.numpy import load

    found = load(content)
    method = {name.removeprefix(_METHOD): int(found[name]) for name in sorted(found) if name.startswith(_METHOD)}
    return Piece(**{name: found[name] for name in _ARRAYS}, method=method)
