"""Laws of the table of regions: every row of the data is counted once, and means are those of a loop."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.piecewise_models import classifier
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.errors import IncompleteWarning
from torch_shallow.explain.table import region_table

pytest.importorskip("pandas")


def networks(*sizes: int) -> list[ShallowReLU]:
    """One function: of all regions, merged, incomplete, and of visited regions."""
    torch.manual_seed(0)
    model = chain(*sizes).double()
    domain = Box(-1.0, 1.0)
    whole = transform(model, domain=domain)
    visited = transform(model, data=torch.rand(20, sizes[0], dtype=torch.float64), domain=domain)
    with pytest.warns(IncompleteWarning):
        part = transform(model, domain=domain, max_regions=5)
    return [whole, whole.merge(), part, visited]


def data(rows: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2.4 * torch.rand(rows, size, dtype=dtype, generator=torch.Generator().manual_seed(1)) - 1.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_a_loop(dtype: torch.dtype) -> None:
    for shallow in networks(2, 5, 3):
        x, outputs = data(200, 2, dtype), shallow(data(200, 2, dtype))
        labels, targets = torch.arange(200) % 3, torch.randn(200, 3)
        region = shallow.locate(x)
        found = region_table(shallow, x, labels).set_index("region")
        errors = region_table(shallow, x, targets).set_index("region")
        assert set(found.index) == set(region.tolist())
        assert -1 in found.index
        assert found["rows"].sum() == 200
        assert found["share"].sum() == pytest.approx(1.0)
        assert found["rows"].is_monotonic_decreasing
        for number, line in found.iterrows():
            rows = region == number
            assert line["rows"] == int(rows.sum())
            means = [line[f"mean output[{k}]"] for k in range(3)]
            if number == -1:
                assert np.isnan([*means, line["accuracy"], errors.loc[-1, "mean squared error"]]).all()
                continue
            assert np.allclose(means, outputs[rows].double().mean(0).numpy())
            right = sum(int(row.argmax()) == int(label) for row, label in zip(outputs[rows], labels[rows], strict=True))
            assert line["accuracy"] == pytest.approx(right / int(rows.sum()))
            squared = (outputs[rows].double() - targets[rows]).square().mean()
            assert errors.loc[number, "mean squared error"] == pytest.approx(float(squared), rel=1e-5)


def test_outputs_of_the_deep_network_are_known_everywhere() -> None:
    torch.manual_seed(0)
    model = chain(2, 5, 3).double()
    shallow, x = transform(model, domain=Box(-0.2, 0.2)), data(100, 2)
    outputs = model(x).detach()
    found = region_table(shallow, x, outputs, outputs=outputs)
    assert not found.isna().to_numpy().any()
    assert (found["mean squared error"] == 0.0).all()
    outside = found[found["region"] == -1].iloc[0]
    rows = shallow.locate(x) == -1
    assert outside["mean output[1]"] == pytest.approx(float(outputs[rows, 1].mean()))
    classes = region_table(shallow, x, outputs.argmax(1), outputs=outputs.argmax(1))
    assert (classes["accuracy"] == 1.0).all()
    assert list(classes.columns) == ["region", "rows", "share", "accuracy"]


def test_one_output() -> None:
    torch.manual_seed(0)
    shallow, x = transform(chain(2, 4, 1).double()), data(50, 2)
    y = shallow(x)
    assert list(region_table(shallow, x).columns) == ["region", "rows", "share", "mean output"]
    for targets in (y, y[:, 0]):
        assert np.allclose(region_table(shallow, x, targets)["mean squared error"], 0.0)
    with pytest.raises(TransformError, match="one output does not determine a class"):
        region_table(shallow, x, torch.zeros(50, dtype=torch.int64))
    positive = (y > 0).flatten()
    assert (region_table(shallow, x, positive, outputs=positive)["accuracy"] == 1.0).all()


def test_a_head_and_its_class() -> None:
    torch.manual_seed(0)
    model = classifier().eval()
    shallow, x = transform(model, torch.zeros(1, 3)), data(50, 3, torch.float32)
    found = region_table(shallow, x, model(x).argmax(1))
    assert (found["accuracy"] == 1.0).all()
    sums = sum(found[f"mean output[{k}]"] for k in range(shallow.out_shape[0]))
    assert np.allclose(sums, sums.iloc[0])  # what the softmax makes, or the log of it


def test_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Unflatten(1, (2, 3)))
    shallow = transform(model, torch.zeros(1, 2, 2))
    x = torch.randn(30, 2, 2)
    found = region_table(shallow, x, shallow(x))
    assert np.allclose(found["mean squared error"], 0.0)
    assert "mean output[5]" in found


@pytest.mark.parametrize(
    ("y", "outputs", "message"),
    [
        (torch.zeros(4), None, "y: expected a tensor of real numbers with 5 rows, as in x"),
        (torch.zeros(5), None, "y: expected 3 numbers a row, as the outputs have"),
        (torch.full((5, 3), torch.nan), None, "y: expected finite numbers"),
        (torch.zeros(5, 3, dtype=torch.int64), None, "y: expected one class for each row"),
        (torch.zeros(5), torch.zeros(5, dtype=torch.int64), "y: expected integers, as the outputs are"),
        (None, torch.zeros(4), "outputs: expected a tensor of real numbers with 5 rows"),
        (torch.zeros(5, dtype=torch.int64), torch.full((5, 2), torch.nan), "outputs: expected numbers .* NaN in 5"),
    ],
)
def test_refusals(y: Tensor | None, outputs: Tensor | None, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        region_table(transform(chain(2, 3, 3)), torch.zeros(5, 2), y, outputs=outputs)


def test_refusals_of_networks_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match="shallow: expected a ShallowReLU, found Linear"):
        region_table(nn.Linear(2, 1), torch.zeros(3, 2))
    with pytest.raises(TransformError, match=r"x: expected a tensor of shape \(rows, 2\) with one or more rows"):
        region_table(transform(chain(2, 3, 1)), torch.zeros(0, 2))
