"""Libraries that only some explanations and pictures need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(name: str, extra: str) -> ModuleType:
    """Import a library that is an extra of this package.

    Args:
        name: of the module.
        extra: which extra installs it.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ImportError(
            f"{error.name} is needed for this and is not installed: pip install 'torch_shallow[{extra}]'.",
            name=error.name,
        ) from error
