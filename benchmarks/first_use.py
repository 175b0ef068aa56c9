"""First minute on a machine: processor time of first calls, with nothing compiled yet.

`python -m benchmarks.first_use` prints seconds of processor time in a new process, each call made after those above
it; then those of all the code of README.md and of the guide, in another new process. Run it in another checkout to
compare: it uses only public functions.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
Result = TypeVar("Result")


def main() -> None:
    """Print the table."""
    for name, seconds in (run("calls") | run("pages")).items():
        print(f"{name:<30} {seconds:6.1f} s")


def run(part: str) -> dict[str, float]:
    """Return what a new process measures, with nothing compiled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, part]
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def calls() -> dict[str, float]:
    """Time first calls, one after another."""
    import torch
    from torch import nn

    import torch_shallow
    from torch_shallow import explain

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    x = torch.randn(25, 2).double()
    seconds: dict[str, float] = {}

    def measure(name: str, call: Callable[[], Result]) -> Result:
        begun = time.process_time()
        result = call()
        seconds[name] = time.process_time() - begun
        return result

    shallow = measure("transform", lambda: torch_shallow.transform(model))
    measure("the network itself", lambda: shallow(x))
    measure("certify", lambda: shallow.certify(model))
    measure("estimate", lambda: torch_shallow.estimate(model, time_limit=0.1))
    box = measure("transform in a box", lambda: torch_shallow.transform(model, domain=torch_shallow.Box(-2.5, 2.5)))
    measure("output_range", lambda: explain.output_range(box))
    measure("shap_values", lambda: explain.shap_values(model, x[:5], x[5:]))
    return seconds


def pages() -> dict[str, float]:
    """Time all code of the README and of the guide, imports included."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
    texts = [file.read_text(encoding="utf-8") for file in files]
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        os.chdir(folder)
        for text in texts:
            names: dict[str, object] = {"__name__": "page"}
            for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
                exec(block, names)
        os.chdir(ROOT)
    return {"README and guide": time.process_time() - begun}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps({"calls": calls, "pages": pages}[sys.argv[1]]()))
