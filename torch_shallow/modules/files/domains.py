"""Domains as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from torch_shallow.domain import Box, Domain, Polytope, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.modules.files.damage import Damaged

_ARRAYS = {"whole space": (WholeSpace, ()), "box": (Box, ("lower", "upper")), "polytope": (Polytope, ("A", "b"))}


def domain_arrays(domain: Domain) -> tuple[str, dict[str, np.ndarray]]:
    """Kind of a domain, and the arrays that make it.

    Raises:
        TransformError: it is of another kind.
    """
    for kind, (cls, names) in _ARRAYS.items():
        if type(domain) is cls:
            return kind, {name: getattr(domain, name) for name in names}
    raise TransformError(
        f"path: expected a network whose domain is R^n, a Box or a Polytope, found a {type(domain).__name__}, for "
        "which files have no place; transform the model in a Box or a Polytope."
    )


def make_domain(kind: str, in_shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> Domain:
    """The domain of a file.

    Args:
        kind: of the domain.
        in_shape: shape of one input.
        tensors: of the file.

    Raises:
        Damaged: the arrays make no domain of such inputs.
    """
    cls, names = _ARRAYS[kind]
    try:
        domain = cls(*(tensors[f"domain.{name}"].numpy() for name in names))
        domain.limits(in_shape)
    except KeyError as error:
        raise Damaged(f"{' and '.join(names)} of a {kind}", f"no {error}") from error
    except TransformError as error:
        raise Damaged("bounds that make a domain", f"others ({error})") from error
    return domain
