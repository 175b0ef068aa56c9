"""What users of NumPy and scikit-learn have: as targets, and in errors that say how to make tensors of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from torch_shallow import explain, transform
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features

MODEL = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("one", [np.int64(1), np.array(1), np.array([1]), torch.tensor(1), torch.tensor([1])], ids=repr)
def test_one_whole_number_of_any_kind_is_a_target(one: object) -> None:
    x = torch.randn(4, 3)
    expected = explain.integrated_gradients(MODEL, x, target=1)
    assert torch.equal(explain.integrated_gradients(MODEL, x, target=one), expected)
    found, same = (explain.counterfactual(MODEL, x[0], target=target) for target in (one, 1))
    assert found.distance == same.distance


def test_an_array_of_targets_is_one_for_each_input() -> None:
    x, targets = torch.randn(4, 3), np.array([0, 1, 1, 0])
    expected = explain.integrated_gradients(MODEL, x, target=torch.from_numpy(targets))
    assert torch.equal(explain.integrated_gradients(MODEL, x, target=targets), expected)


@pytest.mark.parametrize("wrong", [torch.tensor(1.0), np.array(1.0), np.array([0, 1]), torch.tensor(True)], ids=repr)
def test_no_class(wrong: object) -> None:
    with pytest.raises(TransformError, match="target: expected the number of a class"):
        explain.counterfactual(MODEL, torch.zeros(3), target=wrong)


def test_an_array_in_place_of_a_tensor() -> None:
    x = np.zeros((5, 3))
    with pytest.raises(TransformError, match=re.escape('torch.from_numpy(x.astype("float32"))')):
        transform(MODEL, data=x)
    with pytest.raises(TransformError, match=re.escape("torch.tensor(x, dtype=torch.float32)")):
        transform(MODEL, data=x.tolist())


def test_a_frame_in_place_of_a_tensor() -> None:
    frame = pytest.importorskip("pandas").DataFrame(np.zeros((5, 3)))
    with pytest.raises(TransformError, match=re.escape('torch.from_numpy(x.to_numpy(dtype="float32"))')):
        explain.shap_values(MODEL, frame, frame)


def test_an_unknown_feature_is_named() -> None:
    features = Features.of(["age", "sex", "sex"])
    with pytest.raises(TransformError, match="expected one of the features age, sex, sex, found 'Sex'"):
        features.index("Sex")
    with pytest.raises(TransformError, match="found 'sex', the name of 2 features; give a number"):
        features.index("sex")


def test_bounds_of_float32_are_shown_as_such() -> None:
    bound = torch.tensor([2.4, 0.1])
    assert repr(Box(-bound, bound)) == "Box(lower=[-2.4, -0.1], upper=[2.4, 0.1])"
    assert repr(Box(-0.1, np.inf)) == "Box(lower=-0.1, upper=inf)"
    assert repr(Box(0.0, 1.0 / 3.0)) == f"Box(lower=0.0, upper={1.0 / 3.0!r})"
    assert repr(Box(-1e300, 1e300)) == "Box(lower=-1e+300, upper=1e+300)"


def test_a_network_of_visited_regions_does_not_print_the_deep_one() -> None:
    text = str(transform(MODEL, data=torch.randn(5, 3)))
    assert "(neurons): DeepFunction(4 neurons of the deep network)" in text
    assert "Linear(" not in text


def test_modes_of_torch_do_not_matter() -> None:
    x, box = torch.rand(4, 3), Box(0.0, 1.0)
    expected, shallow = explain.output_range(MODEL, box).upper, transform(MODEL, domain=box)
    for mode in (torch.inference_mode(), torch.autocast("cpu")):
        with mode:
            assert torch.equal(explain.output_range(MODEL, box).upper, expected)
            inference = transform(MODEL, data=x.clone())
        torch.testing.assert_close(inference(x), shallow(x))
    with torch.device("meta"):
        made = transform(MODEL, domain=box)
    assert torch.equal(made(x), shallow(x))
