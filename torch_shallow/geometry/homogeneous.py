"""Half-spaces and local models as linear functions of homogeneous chart coordinates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.geometry.chart import Chart


def cut_rows(
    chart: Chart,
    projection: Float[Tensor, "coordinates inputs"] | None,
    normals: Float[Tensor, "cuts coordinates"],
    offsets: Float[Tensor, "cuts"],
) -> Float[np.ndarray, "cuts homogeneous"]:
    """Each cut in unit length. One that is zero in the whole domain is inactive there, as the constant -1 is."""
    rows = map_rows(chart, projection, normals[None], offsets[None])[0]
    rows[~rows.any(axis=1), -1] = -1.0
    rows /= np.abs(rows).max(axis=1, keepdims=True)  # or the squares of very small ones would be zero
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def map_rows(
    chart: Chart,
    projection: Float[Tensor, "coordinates inputs"] | None,
    weights: Float[Tensor, "regions outputs coordinates"],
    biases: Float[Tensor, "regions outputs"],
) -> Float[np.ndarray, "regions outputs homogeneous"]:
    """Each output of each map."""
    weight, bias = weights.detach().cpu().numpy(), biases.detach().cpu().numpy()
    directions, origin = chart.directions.T, chart.origin
    if projection is not None:
        basis = projection.cpu().numpy()
        directions, origin = basis @ directions, basis @ origin
    return np.concatenate([weight @ directions, (weight @ origin + bias)[..., None]], axis=-1)
