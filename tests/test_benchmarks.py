"""Records of measurements: compared by their ratios, and written as the tables of the page."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import torch_shallow
from benchmarks import record
from benchmarks.faults import MUTANTS

MEASURED = {"regions": 5028, "seconds": 0.01, "processes": 1, "problem": ""}
ROW = {
    "network": "3-16-16-1",
    "domain": "R^3",
    "peer": "affinitree",
    "threads": 1,
    "expected": 5028,
    "ours": MEASURED,
    "theirs": MEASURED | {"seconds": 0.5},
    "ratios": {"affinitree": 50.0},
}
NO_RESULT = ROW | {"peer": "relucent", "theirs": MEASURED | {"problem": "not here"}, "ratios": {"relucent": None}}
FORWARD = {
    "network": "3-16-16-1",
    "dtype": "float64",
    "regions": 5028,
    "difference": 1e-16,
    **{kind: [2e-6, 1e-6] for kind in ("forward", "backward", "single")},
    "ratios": {"forward": 2.0, "backward": 2.0, "single": 2.0},
}


def a_record() -> dict[str, Any]:
    return copy.deepcopy({"machine": record.machine(), "tables": {"enumerate": [ROW, NO_RESULT], "forward": [FORWARD]}})


@pytest.mark.parametrize(("ratio", "fallen"), [(50.0, False), (45.1, False), (44.9, True), (70.0, False)])
def test_a_ratio_that_falls_by_a_tenth_fails(
    ratio: float, fallen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = a_record(), a_record()
    new["tables"]["enumerate"][0]["ratios"]["affinitree"] = ratio
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, one in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(one))
    monkeypatch.setattr(sys, "argv", ["record", "--compare", *map(str, paths)])
    with pytest.raises(SystemExit) as ended:
        record.main()
    assert bool(ended.value.code) is fallen
    printed = capsys.readouterr().out
    assert printed.count("SLOWER") == fallen
    assert "4 ratios" in printed


def test_rows_of_other_networks_are_not_compared() -> None:
    old, new = a_record(), a_record()
    for rows in new["tables"].values():
        for row in rows:
            row["network"] = "another"
    assert record.compare(old, new) == (["the records have no ratio in common"], False)


def test_the_page_has_the_tables_of_a_record() -> None:
    page = record.PAGE.read_text(encoding="utf-8")
    once = record.written(page, a_record())
    assert "| 3-16-16-1 | R^3 | 5,028 | 1 | 0.01 | affinitree | 1 | 0.5 | 5,028 | 50 |" in once
    assert "not here" in once
    assert "affinitree, 1 at work: 1 networks, geometric mean 50, least 50" in once
    assert "| 3-16-16-1 | 5,028 | float64 | 2000 | 1000 | 0.50 | 0.50 |" in once
    assert record.written(once, a_record()) == once
    kept = page.partition("<!-- enumerate of a record -->")[0]
    assert once.startswith(kept)
    assert once.endswith(page.rpartition("<!-- end of forward -->")[2])


def test_faults_are_of_the_present_code() -> None:
    package = Path(torch_shallow.__file__).parent
    gone = [fault.name for fault in MUTANTS if (package / fault.file).read_text().count(fault.old) <= fault.which]
    assert not gone
