"""Verify once by nnenum: `python nnenum_verify.py CHECKOUT NETWORK.onnx PROPERTY.vnnlib RESULT.json PROCESSES LIMIT`.

This is a separate script because nnenum may need another Python; it calls only nnenum's public functions, with the
settings that its own front end chooses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

FEW_INPUTS = 700  # up to this many, nnenum's front end takes its settings for control, beyond for images
VERDICTS = {"safe": "unsat", "unsafe": "sat"}


def main(checkout: str, network: str, query: str, result: str, processes: str, limit: str) -> None:
    """Verify one query and write the verdict and nnenum's own seconds, without reading files, as JSON.

    Args:
        checkout: Root of nnenum's repository.
        network: An ONNX file.
        query: A VNN-LIB file.
        result: File to which the result is written.
        processes: Number of nnenum's processes.
        limit: Time limit in seconds.
    """
    sys.path.insert(0, str(Path(checkout) / "src"))
    from nnenum import nnenum, onnx_network
    from nnenum.enumerate import enumerate_network
    from nnenum.settings import Settings

    specifications, dtype = nnenum.make_spec(query, network)
    read = onnx_network.load_onnx_network_optimized(network)
    few = len(specifications[0][0]) < FEW_INPUTS
    (nnenum.set_control_settings if few else nnenum.set_image_settings)()
    Settings.NUM_PROCESSES = int(processes)
    Settings.PRINT_OUTPUT = False
    said, seconds = "safe", 0.0
    for box, specification in specifications:  # the query is met if it is met in one of the boxes
        Settings.TIMEOUT = max(0.1, float(limit) - seconds)
        found = enumerate_network(np.array(box, dtype=dtype), read, specification)
        said, seconds = found.result_str, seconds + float(found.total_secs)
        if said != "safe":
            break
    outcome = {"verdict": VERDICTS.get(said, said), "seconds": seconds}
    Path(result).write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
