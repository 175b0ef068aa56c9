"""Parse the command line, run a command, and return its exit status."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from importlib import import_module

from torch_shallow.errors import TransformError
from torch_shallow.version import VERSION

DONE, FAILED, STOPPED, INTERRUPTED = 0, 1, 3, 130
_STATUS = """exit status: 0: done, whatever the answer; 1: an error, reported on stderr; 2: wrong arguments;
3: stopped before the answer was known, for example by a time limit; 130: interrupted by Ctrl-C"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the arguments; those of the process if None.

    Returns:
        The exit status, as listed by `--help`.
    """
    chosen = _parser().parse_args(_with_negative_numbers(sys.argv[1:] if arguments is None else arguments))
    try:
        command = getattr(import_module(f"torch_shallow.commands.{chosen.module}"), chosen.function)
        return int(command(chosen))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except Exception as error:  # in a user's file or our own code: a traceback would not help
        told = str(error) if isinstance(error, TransformError) else f"{type(error).__name__}: {error}"
        if chosen.function == "verify":
            sys.stdout.write("error\n")
        sys.stderr.write(f"{told}\n")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torch-shallow",
        description="Compute exactly what a ReLU network does.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_verify(commands)
    _add_range(commands)
    _add_estimate(commands)
    _add_transform(commands)
    _add_compile(commands)
    return parser


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "verify",
        help="decide whether a query in VNN-LIB can be met",
        usage="%(prog)s NETWORK.onnx QUERY.vnnlib [options]\n"
        "       %(prog)s QUERY.vnnlib --network NAME=FILE ... [options]",
        description="Prints `sat`, `unsat`, `timeout`, `unknown` or `error` on the first line, and after `sat` an\n"
        "input that meets the query, and its output.",
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="the network and the query, or the query alone")
    command.add_argument(
        "--network", action="append", default=[], metavar="NAME=FILE", help="a network that the query declares"
    )
    command.add_argument("--timeout", type=_seconds, metavar="S", help="stop after this many seconds (default: never)")
    command.add_argument("--method", default="auto", help="how to search (default: auto)")
    command.add_argument("--solver", help="solver of mixed-integer programs (default: HiGHS)")
    _add_run(command)
    command.set_defaults(module="queries", function="verify")


def _add_range(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("range", help="print the smallest and largest value of each output")
    _add_network(command)
    command.set_defaults(module="networks", function="output_range")


def _add_estimate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("estimate", help="estimate the number of regions, and the cost of finding them")
    _add_network(command)
    command.add_argument(
        "--timeout", type=_seconds, default=2.0, metavar="S", help="approximate duration in seconds (default: 2)"
    )
    command.set_defaults(module="networks", function="estimate")


def _add_transform(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("transform", help="find all regions, and write the shallow network")
    _add_network(command)
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write (safetensors)")
    command.add_argument("--timeout", type=_seconds, metavar="S", help="stop after this many seconds (default: never)")
    _add_run(command)
    command.set_defaults(module="networks", function="transform")


def _add_compile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compile",
        help="compile all inner loops now, instead of each at its first use",
        description="Compile the inner loops that are not on disk yet, on all cores. They are stored beside "
        "the package, or in the folder that the environment variable NUMBA_CACHE_DIR names.",
    )
    command.add_argument("--processes", type=_positive, help="number of processes (default: one for each core)")
    command.set_defaults(module="compiling", function="compile_ahead")


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", metavar="NETWORK.onnx", help="the network")
    bounds = "of the entries of the flattened input, separated by commas; or one number for all"
    command.add_argument("--lower", type=_numbers, help=f"smallest values {bounds}")
    command.add_argument("--upper", type=_numbers, help=f"largest values {bounds}")


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=_positive, default=1, metavar="N", help="number of threads (default: 1)")
    command.add_argument("--checkpoint", metavar="FILE", help="save progress in this file, and continue from it")
    command.add_argument("--progress", action="store_true", help="show a progress bar on stderr")


def _with_negative_numbers(arguments: Sequence[str]) -> list[str]:
    """Rewrite `--lower -1,-2` as `--lower=-1,-2`, since a word that begins with a minus is taken for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--lower", "--upper"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, found {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0.0:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, found {text!r}")
    return seconds


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, found {text!r}") from None
