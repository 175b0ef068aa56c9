"""Implement `compile`: compile all inner loops ahead of their use."""

from __future__ import annotations

import argparse
import sys
import time

from tqdm import tqdm

from torch_shallow.ahead import JOBS, compile_all
from torch_shallow.commands.parser import DONE


def compile_ahead(chosen: argparse.Namespace) -> int:
    """Compile what is not on disk yet, and say how long it took."""
    begun, functions, seconds = time.perf_counter(), 0, 0.0
    with tqdm(total=len(JOBS), unit="part", leave=False, disable=None) as bar:
        for name, compiled, of_processor in compile_all(chosen.processes):
            bar.set_description(name)
            bar.update()
            functions, seconds = functions + compiled, seconds + of_processor
    elapsed = time.perf_counter() - begun
    told = f"{functions} functions compiled in {elapsed:.0f} s ({seconds:.0f} s of processor time)"
    sys.stdout.write(f"{told if functions else 'All code is already compiled'}.\n")
    return DONE
