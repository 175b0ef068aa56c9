"""Models that each tool accepts: whether what it makes of a model computes the model's function at random points.

`python -m benchmarks.acceptance [--models NAME ...]` prints a table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import torch_shallow
from benchmarks.conversions import Function, Way, affinitree_omissions, affinitree_ways, relucent_ways
from benchmarks.measure import LIBRARIES
from benchmarks.subjects import Argmax, Subject, subjects

HEADS = (nn.Softmax, nn.LogSoftmax, Argmax)
PRELOADED = ["benchmarks.conversions", "affinitree", "relucent", "torch_shallow.search.enumerate"]


def agreement(model: nn.Module, ways: Iterator[Way], x: Float[Tensor, "rows ..."], omissions: str = "") -> str:
    """Return whether some way from a model to a function reproduces the model, or else what the first way does.

    Args:
        model: The model.
        ways: Ways from the model to a function; each is tried only if the earlier ones fail.
        x: Points at which functions are compared.
        omissions: Explanation of a wrong function.
    """
    with torch.no_grad():
        y = model(x).flatten(1).double().numpy()
    first = ""
    for way in ways:
        try:
            found = way.convert()(x)
        except BaseException as error:  # affinitree's panics are not subclasses of Exception
            verdict = f"refuses: {type(error).__name__}: {_first_line(error)}"
        else:
            if _difference(found, y) <= way.tolerance:
                return f"yes{way.remark}" + (f" (otherwise {first})" if first else "")
            verdict = _wrong(model, found, y, x, omissions)
        first = first or verdict
    return first


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or "no message").splitlines()[0].rstrip("(").replace("|", "/")
    return line if len(line) <= 100 else f"{line[:97]}..."


def _difference(found: Float[np.ndarray, "rows _"], y: Float[np.ndarray, "rows _"]) -> float:
    return float((np.abs(found - y) / (1.0 + np.abs(y))).max()) if found.shape == y.shape else np.inf


def _wrong(
    model: nn.Module,
    found: Float[np.ndarray, "rows _"],
    y: Float[np.ndarray, "rows outputs"],
    x: Float[Tensor, "rows ..."],
    omissions: str,
) -> str:
    if isinstance(model, nn.Sequential) and isinstance(model[-1], HEADS):
        with torch.no_grad():
            logits = model[:-1](x).double().numpy()
        if _difference(found, logits) <= 1e-4:
            return f"its logits only, without {type(model[-1]).__name__}"
    if found.shape == y.shape:
        difference = f"off by {np.abs(found - y).max():.2g}"
    else:
        difference = f"number of outputs {found.shape[1]}, not {y.shape[1]}"
    return f"wrong: {', '.join(filter(None, (omissions, difference)))}"


def torch_shallow_whole(subject: Subject) -> str:
    """Examine this package with all regions of the domain."""
    return _torch_shallow(subject, {"domain": subject.domain})


def torch_shallow_visited(subject: Subject) -> str:
    """Examine this package with the regions of the points."""
    return _torch_shallow(subject, {"data": subject.points()})


def _torch_shallow(subject: Subject, options: Mapping[str, Any]) -> str:
    regions = ""

    def convert() -> Function:
        nonlocal regions
        given = subject.given(subject.model())
        model = torch_shallow.from_onnx(given) if isinstance(given, Path) else given
        shallow = torch_shallow.transform(model, subject.points()[:1], **options)
        regions = f" ({shallow.num_regions:,} regions{'' if shallow.complete else ' by `data=`'})"
        return lambda x: shallow(x).flatten(1).double().numpy()

    return agreement(subject.model(), iter([Way(convert)]), subject.points()) + regions


def affinitree_whole(subject: Subject) -> str:
    """Examine affinitree on all of R^n."""
    model, x = subject.model(), subject.points()
    ways = affinitree_ways(subject.given(model), x[0].numel(), None)
    return agreement(model, ways, x, affinitree_omissions(model))


def affinitree_near_a_point(subject: Subject) -> str:
    """Examine affinitree in a small box, which its builder takes as a precondition."""
    model, x, radius = subject.model(), subject.points(), 1e-3
    centre = x[0].flatten().numpy()
    ways = affinitree_ways(subject.given(model), centre.size, np.stack([centre - radius, centre + radius], 1))
    inside = x[:1] + 0.99 * radius * (2.0 * torch.rand_like(x) - 1.0)
    return f"in a box of width {2 * radius}: {agreement(model, ways, inside, affinitree_omissions(model))}"


def relucent(subject: Subject) -> str:
    """Examine relucent, which needs no enumeration to evaluate."""
    model = subject.model()
    return agreement(subject.model(), relucent_ways(subject.given(model), subject.in_shape), subject.points())


TOOLS: dict[str, tuple[Callable[[Subject], str], ...]] = {
    "torch_shallow": (torch_shallow_whole, torch_shallow_visited),
    "affinitree": (affinitree_whole, affinitree_near_a_point),
    "relucent": (relucent,),
}


def examine(tool: str, attempt: int, name: str, answer: Connection) -> None:
    """Send what a tool does with a model; nothing is printed, since the peers print a lot.

    Args:
        tool: A name in `TOOLS`.
        attempt: Number of the tool's function.
        name: Name of the model.
        answer: Connection to which the answer is sent.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as tempfile.tempdir:  # for files written for a tool
            found = TOOLS[tool][attempt](subjects()[name])
        answer.send(found)
    except Exception as error:  # from the benchmark itself: what a tool raises is part of its answer
        answer.send(RuntimeError(f"{tool} on {name!r}: {error!r}"))


def cell(tool: str, name: str, limit: float) -> str:
    """Return what a tool does with a model, found in a separate process; if an attempt times out, the next one follows.

    Args:
        tool: A name in `TOOLS`.
        name: Name of the model.
        limit: Seconds for each attempt.

    Raises:
        RuntimeError: The benchmark itself failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    for attempt in range(len(TOOLS[tool])):
        answer, there = context.Pipe(duplex=False)
        process = context.Process(target=examine, args=(tool, attempt, name, there))
        process.start()
        there.close()
        try:
            if answer.poll(limit):
                found = answer.recv()
                process.join(limit)
                if isinstance(found, str):
                    return found
                raise found
        except EOFError:
            return "crashes"
        finally:
            process.kill()
            process.join()
    return f"not done in {limit:.0f} s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", default=list(subjects()), help="default: all")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for each attempt (default: 20)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys((*LIBRARIES, "NUMBA_NUM_THREADS"), "1"))
    peers = ", ".join(f"{name} {version(name)}" for name in ("affinitree", "relucent", "torch"))
    print(f"torch_shallow {torch_shallow.__version__}, {peers}\n")
    print(f"| model | {' | '.join(TOOLS)} |\n|---|{'---|' * len(TOOLS)}")
    for name in arguments.models:
        print(f"| {name} | {' | '.join(cell(tool, name, arguments.limit) for tool in TOOLS)} |", flush=True)


if __name__ == "__main__":
    main()
