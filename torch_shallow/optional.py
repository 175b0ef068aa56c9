"""Import libraries that only some explanations and pictures need."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from torch_shallow.errors import MissingPackageError


def require(name: str, extra: str) -> ModuleType:
    """Import a library that belongs to an extra of this package.

    Args:
        name: name of the module.
        extra: name of the extra that installs it.

    Raises:
        MissingPackageError: the module cannot be imported; the message says why, and how to install it.
    """
    try:
        with warnings.catch_warnings():  # how libraries use each other does not concern the user
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(name)
    except ImportError as error:
        how = f"pip install 'torch_shallow[{extra}]'"
        raise MissingPackageError(
            f"{name}: this function needs the package, which cannot be imported ({error}); run {how}."
        ) from error
