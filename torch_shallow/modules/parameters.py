"""Local models as parameters of a module, and as buffers again, in place and under the same names."""

from __future__ import annotations

from torch import nn

from torch_shallow.errors import TransformError

NAMES = ("weights", "biases", "skip")


def unfreeze(layer: nn.Module) -> None:
    """Make the buffers of a layer's local models parameters.

    Raises:
        TransformError: one of them is parametrized or pruned, so that it is computed from something else.
    """
    for name in NAMES:
        if hasattr(layer, name) and name not in {**layer._buffers, **layer._parameters}:
            raise TransformError(
                f"unfreeze: expected {name} as a buffer, found it parametrized or pruned; undo that by "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove."
            )
    for name in NAMES:
        value = layer._buffers.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_parameter(name, nn.Parameter(value.clone()))


def freeze(layer: nn.Module) -> None:
    """Make the parameters of a layer's local models buffers, with the values that they have."""
    for name in NAMES:
        value = layer._parameters.get(name)
        if value is not None:
            delattr(layer, name)
            layer.register_buffer(name, value.detach())
