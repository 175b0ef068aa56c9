"""The shortcut by local linear models, and its certificate."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.zoo import chain
from torch_shallow import Box, TransformError
from torch_shallow.explain.shapley import local_linear_shap, shap_values

with warnings.catch_warnings():  # matplotlib warns of what shap does when it is imported
    warnings.simplefilter("ignore")

from tests.explain.games import NETWORKS, trained


@pytest.mark.parametrize("name", NETWORKS)
def test_the_certificate_of_the_shortcut_is_right(name):
    model, data = trained(name)
    x = data[:40]
    for spread in (1e-3, 0.03, 1.0):
        torch.manual_seed(0)
        background = x[:1] + spread * torch.randn(5, x.shape[1], dtype=torch.float64)
        near = x[:1] + spread * torch.randn(10, x.shape[1], dtype=torch.float64)
        found, exact = local_linear_shap(model, near, background), shap_values(model, near, background)
        difference = np.abs(found.explanation.values - exact.values).reshape(10, -1).max(1)
        assert (difference[found.equals_shap] < 1e-9).all()
        if spread == 1e-3:
            assert found.equals_shap.any()
        if spread == 1.0:
            assert not found.equals_shap.all()
            assert difference.max() > 1e-3
        sums = found.explanation.values.sum(1) + found.explanation.base_values
        with torch.no_grad():
            assert np.abs(sums.reshape(10, -1) - model(near).numpy()).max() < 1e-9


def test_the_certificate_is_complete_for_activation_regions():
    """Where no box meets another activation region, it is certified; where a corner has another pattern, it is not."""
    torch.manual_seed(0)
    model = chain(3, 5, 4, 2).double()
    shallow = torch_shallow.transform(model)
    x = torch.randn(60, 3, dtype=torch.float64)
    background = x[:1] + 0.05 * torch.randn(3, 3, dtype=torch.float64)
    corners = [
        torch.where(torch.tensor(members), x[:, None], background[None])
        for members in itertools.product([False, True], repeat=3)
    ]
    regions = shallow.locate(torch.cat(corners, 1).reshape(-1, 3)).reshape(60, -1)
    expected = (regions == regions[:, :1]).all(1).numpy()
    assert expected.any()
    assert not expected.all()
    for f in (model, shallow, torch_shallow.transform(model, data=x)):
        assert np.array_equal(local_linear_shap(f, x, background).equals_shap, expected)


def test_the_shortcut_of_a_trained_tree_stays_inside_of_its_region():
    torch.manual_seed(0)
    shallow = torch_shallow.transform(chain(2, 4, 1).double(), domain=Box(-1.0, 1.0)).unfreeze()
    with torch.no_grad():
        for parameter in shallow.parameters():
            parameter += torch.randn_like(parameter)
    x, background = 2.0 * torch.rand(30, 2).double() - 1.0, 0.2 * torch.rand(2, 2).double()
    found, exact = local_linear_shap(shallow, x, background), shap_values(shallow, x, background)
    assert found.equals_shap.any()
    assert not found.equals_shap.all()
    assert np.abs(found.explanation.values - exact.values)[found.equals_shap].max() < 1e-9
    with pytest.raises(TransformError, match="outside its domain"):
        local_linear_shap(shallow, x + 5.0, background)


def test_no_certificate_where_later_layers_make_much_of_a_small_step_over_a_boundary():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (1.0, -1.0, 1e6, 0.0), strict=True):
            parameter.fill_(value)
    x, background = torch.ones(1, 1).double(), torch.full((1, 1), 1.0 + 1e-12, dtype=torch.float64)
    assert abs(shap_values(model, x, background).values.item()) > 1e-7
    for f in (model, torch_shallow.transform(model)):
        found = local_linear_shap(f, x, background)
        assert found.equals_shap[0] == (abs(found.explanation.values.item()) > 1e-7)
        assert local_linear_shap(f, x, x).equals_shap.all()
