"""Implement `range`, `estimate` and `transform`: questions about one network in a box."""

from __future__ import annotations

import argparse
import sys
import warnings

import numpy as np

from torch_shallow import explain
from torch_shallow._estimate import estimate as estimate_regions
from torch_shallow._transform import transform as find_regions
from torch_shallow.commands.parser import DONE, STOPPED
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import IncompleteWarning
from torch_shallow.program.onnx.file import from_onnx


def output_range(chosen: argparse.Namespace) -> int:
    """Print the range of each output, one per line."""
    found = explain.output_range(from_onnx(chosen.network), _domain(chosen))
    sys.stdout.write(f"{found}\n")
    return DONE


def estimate(chosen: argparse.Namespace) -> int:
    """Print the estimated number of regions in one line."""
    found = estimate_regions(from_onnx(chosen.network), domain=_domain(chosen), time_limit=chosen.timeout)
    sys.stdout.write(f"{found}\n")
    return DONE


def transform(chosen: argparse.Namespace) -> int:
    """Write the shallow network, with as many regions as were found in the available time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteWarning)  # reported below
        shallow = find_regions(
            from_onnx(chosen.network),
            domain=_domain(chosen),
            time_limit=chosen.timeout,
            workers=chosen.workers,
            checkpoint=chosen.checkpoint,
            progress=chosen.progress,
        )
    shallow.save(chosen.output)
    sys.stdout.write(f"{shallow.num_regions} region{'s'[: shallow.num_regions != 1]}, written to {chosen.output}\n")
    if not shallow.complete:
        sys.stderr.write(f"{shallow.missing}\n")
    return DONE if shallow.complete else STOPPED


def _domain(chosen: argparse.Namespace) -> Domain | None:
    """Return the box given by the options; None if there are none."""
    if chosen.lower is None and chosen.upper is None:
        return None
    ends = ((chosen.lower, -np.inf), (chosen.upper, np.inf))
    lower, upper = (otherwise if end is None else end[0] if len(end) == 1 else end for end, otherwise in ends)
    return Box(lower, upper)
