"""Explanations of images with channels first: shap draws them once their channels are last."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from torch_shallow import TransformError, explain

mpl.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")
with warnings.catch_warnings():  # matplotlib warns of what shap does when it is imported
    warnings.simplefilter("ignore")
    shap = pytest.importorskip("shap")


def explained(outputs: int, features: explain.Features | None = None) -> shap.Explanation:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, outputs)).double()
    images, background = torch.rand(2, 3, 4, 6).double(), torch.rand(1, 3, 4, 6).double()
    return explain.shap_values(convolution, images, background, features=features)


@pytest.mark.parametrize("outputs", [1, 2])
def test_shap_draws_images_with_channels_last(outputs: int) -> None:
    first = explained(outputs)
    shap.image_plot(explain.channels_last(first), show=False)
    figure = pyplot.gcf()
    images = [np.asarray(ax.images[-1].get_array()) for ax in figure.axes if ax.images]
    values = first.values.reshape(2, 3, 4, 6, outputs).sum(axis=1)
    assert len(images) == 2 * (1 + outputs)
    for row in range(2):
        shown, *drawn = images[row * (1 + outputs) : (row + 1) * (1 + outputs)]
        np.testing.assert_allclose(shown, first.data[row].transpose(1, 2, 0))
        for output, picture in enumerate(drawn):
            np.testing.assert_allclose(picture, values[row, ..., output])
    pyplot.close("all")


def test_names_and_units_move_with_their_entries() -> None:
    names = [f"{channel} {i} {j}" for channel in "rgb" for i in range(4) for j in range(6)]
    first = explained(2, explain.Features.of(names, scale=255.0))
    last = explain.channels_last(first)
    assert last.feature_names[3][5][1] == "g 3 5"
    np.testing.assert_array_equal(last.display_data, 255.0 * last.data)
    np.testing.assert_array_equal(last.base_values, first.base_values)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TransformError, match=r"expected one of images, .* found data \(1, 2\) and values \(1, 2\)"):
        explain.channels_last(explain.shap_values(nn.Linear(2, 1), torch.zeros(1, 2), torch.ones(1, 2)))
    with pytest.raises(TypeError, match=r"expected a shap.Explanation, found ndarray"):
        explain.channels_last(np.zeros((1, 3, 4, 4)))
