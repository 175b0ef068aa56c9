"""The profile along a segment: what is drawn is what the network computes."""

from __future__ import annotations

import itertools

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from tests.zoo import chain
from torch_shallow import TransformError, transform
from torch_shallow.explain.segments.segment import segment as cut_segment
from torch_shallow.plot.segment import ROOM, largest, segment

pyplot = pytest.importorskip("matplotlib.pyplot")
pyplot.switch_backend("Agg")

START, END = torch.tensor([-3.0, -2.0]), torch.tensor([3.0, 2.0])


def network() -> nn.Module:
    torch.manual_seed(1)
    return chain(2, 8, 3).double()


def test_lines_are_the_network() -> None:
    model = network()
    figure, ax = pyplot.subplots()
    assert segment(model, START, END, outputs=[2, -3], ax=ax) is ax
    lines = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["output 2", "output 0"]
    for line, output in zip(lines, (2, 0), strict=True):
        t, y = (np.asarray(data) for data in line.get_data())
        x = torch.lerp(START.double(), END.double(), torch.linspace(0, 1, 99, dtype=torch.float64)[:, None])
        assert np.allclose(np.interp(np.linspace(0, 1, 99), t, y), model(x)[:, output].detach().numpy())
    (marks,) = [line for line in ax.lines if line.get_label() == "_boundaries"]
    assert np.array_equal(marks.get_xdata(), cut_segment(model, START, END).t.numpy())
    assert not ax.texts
    pyplot.close(figure)


def test_numbers_of_regions_and_new_axes() -> None:
    shallow = transform(network())
    ax = segment(shallow, START, END, classes=True)
    found = cut_segment(shallow, START, END)
    assert found.regions is not None
    with_room = found.regions[found.t.diff() >= ROOM].tolist()
    assert [text.get_text() for text in ax.texts] == [str(region) for region in with_room]
    assert len(with_room) > 1
    ax.figure.canvas.draw()
    pyplot.close(ax.figure)


def test_classes_are_those_of_dense_samples() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        t = np.sort(np.concatenate([[0.0, 1.0], rng.random(4)]))
        values = rng.integers(-3, 4, (6, 4)).astype(float)
        spans = largest(t, values)
        assert spans[0][0] == 0.0
        assert spans[-1][1] == 1.0
        assert all(a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(spans))
        for first, last, winner in spans:
            for x in np.linspace(first, last, 7):
                at = [np.interp(x, t, column) for column in values.T]
                assert at[winner] >= max(at) - 1e-9


def test_refusals() -> None:
    before = pyplot.get_fignums()
    for outputs in ([3], [-4], []):
        with pytest.raises(TransformError, match="outputs: expected numbers from 0 to 2"):
            segment(network(), START, END, outputs=outputs)
    with pytest.raises(TransformError, match="class_names: expected one for each of the 3 outputs, found 2"):
        segment(network(), START, END, class_names=["a", "b"])
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("outputs", [[1.5], ["a"], 0])
def test_no_such_outputs(outputs: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=r"^outputs: expected numbers from 0 to 2"):
        segment(network(), START, END, outputs=outputs)
