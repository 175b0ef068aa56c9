"""Conversion of explanations of images to the layout that shap draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.optional import require

if TYPE_CHECKING:
    import shap


def channels_last(explanation: shap.Explanation) -> shap.Explanation:
    """Move the channels of SHAP values of images from first, as in PyTorch, to last, as shap draws them.

    `shap.image_plot(channels_last(shap_values(model, images, background)))` draws a row for each image, with a picture
    for each output.

    Args:
        explanation: an explanation with `data` of shape `(rows, channels, height, width)`, and `values` of that shape,
            optionally followed by the shape of one output.

    Returns:
        A `shap.Explanation` with the same numbers: `values`, `data`, `display_data` and names of features have the
        shape `(rows, height, width, channels)`, and several output axes are flattened to one, because shap draws one
        row of outputs.

    Raises:
        WrongTypeError: `explanation` is not a `shap.Explanation`.
        TransformError: it does not explain images.
        ImportError: shap is not installed.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import channels_last, shap_values
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.ReLU())
        >>> found = shap_values(model, torch.rand(2, 3, 2, 2), torch.zeros(1, 3, 2, 2))
        >>> found.values.shape, channels_last(found).values.shape
        ((2, 3, 2, 2, 4), (2, 2, 2, 3, 4))
    """
    kind: Any = require("shap", "explain").Explanation
    if not isinstance(explanation, kind):
        raise WrongTypeError(
            f"explanation: expected a shap.Explanation, found {type(explanation).__name__}; pass the result of "
            "shap_values()."
        )
    data, values = np.asarray(explanation.data), np.asarray(explanation.values)
    if data.ndim != 4 or values.shape[:4] != data.shape:
        raise TransformError(
            "explanation: expected one of images, with data of shape (rows, channels, height, width) and values that "
            f"begin with it, found data {data.shape} and values {values.shape}; reshape the images first."
        )
    base, shown, names = explanation.base_values, explanation.display_data, explanation.feature_names
    outputs = (-1,) * (values.ndim > 4)
    return kind(
        values=np.moveaxis(values, 1, 3).reshape(len(data), *data.shape[2:], data.shape[1], *outputs),
        base_values=np.asarray(base).reshape(len(data), *outputs),
        data=np.moveaxis(data, 1, 3),
        display_data=None if shown is None else np.moveaxis(shown, 1, 3),
        feature_names=None if names is None else np.moveaxis(np.asarray(names), 0, 2),
    )
