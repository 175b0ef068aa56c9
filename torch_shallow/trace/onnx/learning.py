"""Operators of the domain `ai.onnx.ml`, as they are written of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from torch_shallow.trace.onnx.value import NotRead, Value


def _row(x: Value, name: str, numbers: Sequence[float]) -> Any:
    """Numbers that are given as an attribute, in the precision of a value."""
    kind = np.float64 if x.kind == torch.float64 else np.float32
    return x.writer.constant(f"{x.writer.place[0]}_{name}", np.array(numbers, kind))


def scaler(x: Value, *, offset: Sequence[float] = (0.0,), scale: Sequence[float] = (1.0,)) -> Any:
    return (x.tensor - _row(x, "offset", offset)) * _row(x, "scale", scale)


def normalizer(x: Value, *, norm: str = "MAX") -> Any:
    norms = {"MAX": float("inf"), "L1": 1.0, "L2": 2.0}
    if norm not in norms:
        raise NotRead(f"has the norm {norm!r}")
    if norm == "MAX":
        raise NotRead("divides by the largest entry with its sign; use the norm L1 or L2")
    return functional.normalize(x.tensor, norms[norm], 1, 0.0)


def linear_regressor(
    x: Value,
    *,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> Any:
    if post_transform != "NONE":
        raise NotRead(f"has the post_transform {post_transform!r}")
    weight = x.writer.constant(f"{x.writer.place[0]}_weight", np.array(coefficients, np.float32).reshape(targets, -1))
    x.writer.learn(weight)
    found = functional.linear(x.tensor, weight)
    return found if intercepts is None else found + _row(x, "bias", intercepts)


def array_feature_extractor(x: Value, places: Value) -> Any:
    if places.is_constant:
        chosen = x.writer.constant(places.name, places.array.reshape(-1).astype(np.int64))
    else:
        chosen = places.tensor.reshape((-1,))
    found = torch.index_select(x.tensor, x.rank - 1, chosen)
    return found.unsqueeze(0) if x.rank == 1 else found


def feature_vectorizer(*values: Value, inputdimensions: Sequence[int] | None = None) -> Any:
    return torch.cat([value.tensor for value in values], 1)


LEARNING: dict[str, Callable[..., Any]] = {
    "ai.onnx.ml.ArrayFeatureExtractor": array_feature_extractor,
    "ai.onnx.ml.FeatureVectorizer": feature_vectorizer,
    "ai.onnx.ml.LinearRegressor": linear_regressor,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.Scaler": scaler,
}
