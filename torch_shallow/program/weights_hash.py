"""A fingerprint of a model's weights, to tell later whether a network was made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from torch_shallow.errors import TransformError
from torch_shallow.program.model import unwrapped


def weights_hash(model: nn.Module | ExportedProgram) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a model's weights.

    Weights are what `state_dict` gives, each under each of its names, and of an exported program its constants too. The
    device does not matter; the dtype does. A wrapper such as `torch.compile` is looked through.

    Args:
        model: a module, or a program of `torch.export`.

    Returns:
        64 hexadecimal digits.

    Raises:
        TransformError: it is neither.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> before = weights_hash(model)
        >>> with torch.no_grad():
        ...     model.bias += 1.0
        >>> weights_hash(model) == before
        False
    """
    if isinstance(model, ExportedProgram):
        return hash_tensors({**model.constants, **model.state_dict})
    if not isinstance(model, nn.Module):
        raise TransformError(
            f"model: expected an nn.Module or a torch.export.ExportedProgram, found {type(model).__name__}; pass the "
            "model that the network was made from."
        )
    return hash_tensors(unwrapped(model).state_dict())


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of tensors, whatever their order and device.

    Args:
        tensors: by name; of a value that is none, such as the extra state of a module, only the type counts.
    """
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        told = [str(tensor.dtype), list(tensor.shape)] if _has_values(tensor) else [type(tensor).__name__]
        digest.update(json.dumps([name, *told]).encode() + b"\n")
        if _has_values(tensor):
            digest.update(_bytes(tensor).data)
    return digest.hexdigest()


def _has_values(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and not is_lazy(tensor) and not tensor.is_meta


def _bytes(tensor: Tensor) -> UInt8[np.ndarray, "bytes"]:
    tensor = tensor.detach().cpu()
    tensor = tensor.int_repr() if tensor.is_quantized else tensor.to_dense()
    flat = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy()  # one number may have any stride
