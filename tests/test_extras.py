"""What needs an extra works where it is installed, and says elsewhere how to install it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import torch_shallow
from tests.zoo import chain
from torch_shallow import Box, explain, export, plot
from torch_shallow.errors import MissingPackageError

SHALLOW = torch_shallow.transform(chain(2, 4, 1).double(), domain=Box(-1.0, 1.0))
X = torch.tensor([[0.5, -0.5], [0.1, 0.9]], dtype=torch.float64)


def written_and_read() -> torch.nn.Module:
    export.to_onnx(SHALLOW, "network.onnx")
    network = torch_shallow.from_onnx("network.onnx")
    assert torch.allclose(network(X), SHALLOW(X))
    return network


USES: dict[tuple[str, str], Callable[[], Any]] = {
    ("explain", "pandas"): lambda: explain.region_table(SHALLOW, X),
    ("explain", "networkx"): lambda: explain.adjacency(SHALLOW),
    ("explain", "shap"): lambda: explain.shap_values(SHALLOW, X[:1], X[1:]),
    ("plot", "matplotlib"): lambda: plot.regions(SHALLOW),
    ("plot", "networkx"): lambda: plot.adjacency(SHALLOW),
    ("plot", "plotly.graph_objects"): lambda: plot.surface(SHALLOW, engine="plotly"),
    ("onnx", "onnx"): written_and_read,
}


@pytest.mark.parametrize(("extra", "package"), USES, ids=str)
def test_an_extra_is_there_or_asked_for(
    extra: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use = USES[extra, package]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if all(find_spec(name.partition(".")[0]) for other, name in USES if other == extra):
        assert use() is not None
    monkeypatch.setitem(sys.modules, package, None)  # other packages may have brought it
    with pytest.raises(MissingPackageError, match=rf": .* run pip install 'torch_shallow\[{extra}\]'"):
        use()
