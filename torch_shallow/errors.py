"""What cannot be read, what cannot be transformed, and what is not finished."""

from __future__ import annotations


class TransformError(ValueError):
    """An argument or a model with which `torch_shallow` cannot give an exact result.

    The message names the argument, what was expected, what was found, and what to do.
    """


class UnsupportedOperation(TransformError):
    """The model contains operations outside the allow-list of affine operations and ReLU.

    One error lists every such operation of the model, with its qualified module name and a way out.
    """


class IncompleteWarning(UserWarning):
    """An enumeration was stopped before all regions were found; the message says by what, and what is known."""
