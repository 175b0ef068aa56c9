"""Run nnenum once: `python nnenum_process.py CHECKOUT NETWORK.npz RESULT.json PROCESSES`.

This is a separate script because nnenum may need another Python; it calls only nnenum's public functions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main(checkout: str, network: str, result: str, processes: str) -> None:
    """Enumerate the network in its box and write regions and seconds as JSON.

    Args:
        checkout: Root of nnenum's repository.
        network: File with arrays `box`, `weight_0`, `bias_0`, `weight_1` and so on, float64.
        result: File to which the result is written.
        processes: Number of nnenum's processes.

    Raises:
        RuntimeError: nnenum stopped early.
    """
    sys.path.insert(0, str(Path(checkout) / "src"))
    from nnenum.enumerate import enumerate_network
    from nnenum.network import FullyConnectedLayer, NeuralNetwork, ReluLayer
    from nnenum.settings import Settings

    Settings.NUM_PROCESSES = int(processes)
    Settings.BRANCH_MODE = Settings.BRANCH_EXACT
    Settings.PRINT_OUTPUT = False
    with np.load(network) as arrays:
        box, count = arrays["box"], len(arrays.files) // 2
        layers: list[object] = []
        for number in range(count):
            weight, bias = arrays[f"weight_{number}"], arrays[f"bias_{number}"]
            layers.append(FullyConnectedLayer(len(layers), weight, bias, (weight.shape[1],)))
            if number < count - 1:
                layers.append(ReluLayer(len(layers), (len(bias),)))
    found = enumerate_network(box, NeuralNetwork(layers), None)
    if found.result_str != "none":  # "none" is nnenum's word for an enumeration without a specification that finished
        raise RuntimeError(f"nnenum ended with {found.result_str!r}")
    outcome = {"regions": int(found.total_stars), "seconds": float(found.total_secs)}
    Path(result).write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
