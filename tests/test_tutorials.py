"""The tutorials and the demonstration run; the notebooks are kept with their outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.cases import thinned
from tutorials import demo
from tutorials.execute import TUTORIALS, execute

NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))


@pytest.mark.parametrize("name", thinned([path.name for path in NOTEBOOKS], "01_first_steps.ipynb"))
def test_notebook(name: str) -> None:
    path = TUTORIALS / name
    kept = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in kept] == list(range(1, len(kept) + 1))
    cells = [cell for cell in execute(path).cells if cell.cell_type == "code"]
    for cell, before in zip(cells, kept, strict=True):
        warned = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
        assert not warned.strip() or "compiles" in warned
        shown, shown_before = ({kind(output) for output in c.outputs} - {"stderr"} for c in (cell, before))
        assert shown == shown_before


def kind(output: nbformat.NotebookNode) -> str:
    """What a cell shows: text that it prints, a value, or a picture."""
    return str(output.get("name", output.output_type))


@pytest.mark.slow
def test_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "PICTURE", tmp_path / "demo.png")
    demo.main()
    printed = capsys.readouterr().out
    assert printed.count("Certificate: passed") == 2
    assert (tmp_path / "demo.png").stat().st_size > 10_000
