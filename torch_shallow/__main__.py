"""The command line: `python -m torch_shallow compile`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from torch_shallow.ahead import JOBS, compile_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: those of the command line if None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m torch_shallow", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "compile",
        help="compile the inner loops now, all of them, instead of each when it is first needed",
        description="Compile the inner loops that are not on disk yet, on all cores. They are kept beside the package, "
        "or where the environment variable NUMBA_CACHE_DIR says, and are compiled again only where they have changed.",
    )
    command.add_argument("--processes", type=_positive, help="how many processes to use (default: one for each core)")
    command.set_defaults(run=_compile)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


def _compile(chosen: argparse.Namespace) -> int:
    begun, functions, seconds = time.perf_counter(), 0, 0.0
    with tqdm(total=len(JOBS), unit="part", leave=False, disable=None) as bar:
        for name, compiled, of_processor in compile_all(chosen.processes):
            bar.set_description(name)
            bar.update()
            functions, seconds = functions + compiled, seconds + of_processor
    elapsed = time.perf_counter() - begun
    told = f"{functions} functions compiled in {elapsed:.0f} s ({seconds:.0f} s of processor time)"
    sys.stdout.write(f"{told if functions else 'All compiled code is there already'}.\n")
    return 0


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a positive number of processes, found {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
