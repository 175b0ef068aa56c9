"""Files that may be missing beside a clone of the repository; tests that need them are then skipped with a reason."""

from __future__ import annotations

import pytest

from benchmarks.networks import ACAS_XU_FOLDER

ACAS_XU = {
    f"{i}_{j}": ACAS_XU_FOLDER / f"ACASXU_run2a_{i}_{j}_batch_2000.onnx" for i in range(1, 6) for j in range(1, 10)
}

needs_acas_xu = pytest.mark.skipif(not ACAS_XU_FOLDER.is_dir(), reason="the folder shared/data/acasxu is not there")
