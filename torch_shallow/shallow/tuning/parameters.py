"""Local models as parameters of a module, and as buffers again, in place and under the same names."""

from __future__ import annotations

from torch import nn

NAMES = ("weights", "biases", "skip")


def unfreeze(layer: nn.Module) -> None:
    """Make the buffers of a layer's local models parameters."""
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
