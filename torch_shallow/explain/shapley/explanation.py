"""Values as `shap.Explanation`, in the shapes that `shap.ExactExplainer` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import Function
from torch_shallow.explain.optional import require

if TYPE_CHECKING:
    import shap


def read_points(function: Function, x: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Points and background as rows.

    Raises:
        TransformError: they are no batches of inputs, or there is no background.
    """
    rows = []
    for name, points in (("x", x), ("background", background)):
        flat = function.rows(name, points)
        if points.dim() != 1 + len(function.in_shape):
            raise TransformError(
                f"{name}: expected a batch of shape (rows, {', '.join(map(str, function.in_shape))}), found "
                f"{tuple(points.shape)}; add a dimension for the batch ({name}[None]), or flatten the batch."
            )
        rows.append(flat)
    if not len(background):
        raise TransformError("background: expected one row or more, found none; pass a baseline, such as zeros.")
    return rows[0], rows[1]


def explanation(
    function: Function,
    x: Float[Tensor, "rows inputs"],
    values: Float[np.ndarray, "rows inputs outputs"],
    base: Float[np.ndarray, "rows outputs"],
    features: Features | Sequence[str] | None,
) -> shap.Explanation:
    """Values with names and data.

    Raises:
        ImportError: shap is not installed.
        TransformError: there is another number of features.
    """
    of = read_features(features, function.num_inputs)
    in_shape = function.in_shape or (1,)
    out_shape = () if function.num_outputs == 1 else function.out_shape
    data = x.cpu().numpy()
    scaled = of.mean.any() or (of.scale != 1.0).any()
    names: object = list(of.names)
    if len(in_shape) > 1:  # an image
        names = None if features is None else np.array(of.names).reshape(in_shape)
    return require("shap", "explain").Explanation(
        values=values.reshape(len(x), *in_shape, *out_shape),
        base_values=base.reshape(len(x), *out_shape),
        data=data.reshape(len(x), *in_shape),
        display_data=of.unscale(data).reshape(len(x), *in_shape) if scaled else None,
        feature_names=names,
    )
