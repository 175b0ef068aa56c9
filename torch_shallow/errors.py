"""The two errors of the package: what cannot be read, and what cannot be transformed."""

from __future__ import annotations


class TransformError(ValueError):
    """An argument or a model with which `torch_shallow` cannot give an exact result.

    The message names the argument, what was expected, what was found, and what to do.
    """


class UnsupportedOperation(TransformError):
    """The model contains operations outside the allow-list of affine operations and ReLU.

    One error lists every such operation of the model, with its qualified module name and a way out.
    """
