"""Libraries that only some explanations and pictures need."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from torch_shallow.errors import MissingPackageError


def require(name: str, extra: str) -> ModuleType:
    """Import a library that is an extra of this package.

    Args:
        name: of the module.
        extra: which extra installs it.

    Raises:
        MissingPackageError: it cannot be imported; the message says why, and how to install it.
    """
    try:
        with warnings.catch_warnings():  # what libraries use of each other is no concern of the user's
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(name)
    except ImportError as error:
        how = f"pip install 'torch_shallow[{extra}]'"
        raise MissingPackageError(f"{name} is needed for this and cannot be imported ({error}): {how}.") from error
