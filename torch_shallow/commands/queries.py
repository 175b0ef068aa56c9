"""Implement `verify`: decide whether a query in VNN-LIB can be met, and answer in the words of the competition."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow._verify import verify as verify_property
from torch_shallow.commands.parser import DONE, STOPPED
from torch_shallow.errors import TransformError
from torch_shallow.program.onnx.file import from_onnx
from torch_shallow.verdicts import Verdict
from torch_shallow.vnnlib import VnnlibQuery, read_vnnlib


def verify(chosen: argparse.Namespace) -> int:
    """Print `sat` with an input that meets the query, `unsat`, `timeout`, or `unknown`."""
    begun = time.monotonic()
    networks, path = _files(chosen)
    query = read_vnnlib(path)
    model = query.model(**{name or query.networks[0].name: from_onnx(file) for name, file in networks.items()})
    left = None if chosen.timeout is None else max(1e-3, chosen.timeout - (time.monotonic() - begun))
    verdict = verify_property(
        model,
        query.domain,
        query.property,
        workers=chosen.workers,
        time_limit=left,
        checkpoint=chosen.checkpoint,
        progress=chosen.progress,
        method=chosen.method,
        solver=chosen.solver,
    )
    sys.stdout.write("\n".join(_words(query, verdict)) + "\n")
    if verdict.only_rounding or not verdict.in_domain or verdict.holds is None:
        sys.stderr.write(f"{verdict}\n")
    return STOPPED if verdict.holds is None else DONE


def _files(chosen: argparse.Namespace) -> tuple[dict[str, str], str]:
    """Return the files of the networks by name, and that of the query; a network without a name is the only one."""
    *alone, path = chosen.files
    named = dict(word.partition("=")[::2] for word in chosen.network)
    if len(alone) + len(named) == 0 or len(alone) > 1 or (alone and named) or not all(named.values()):
        raise TransformError(
            "verify: expected NETWORK.onnx QUERY.vnnlib, or QUERY.vnnlib with --network NAME=FILE for each network "
            f"that it declares, found {' '.join(chosen.files)} and {len(chosen.network)} with --network."
        )
    return {"": alone[0]} if alone else named, path


def _words(query: VnnlibQuery, verdict: Verdict) -> Iterator[str]:
    """Yield the lines of an answer."""
    if verdict.holds is None:
        yield "timeout" if "time" in verdict.reason else "unknown"
    elif verdict.holds:
        yield "unsat"
    else:
        yield "sat"
        if verdict.counterexample is not None and verdict.output is not None:
            yield from _assignment(query, _flat(verdict.counterexample), _flat(verdict.output))


def _assignment(query: VnnlibQuery, x: Float[np.ndarray, "inputs"], y: Float[np.ndarray, "outputs"]) -> Iterator[str]:
    """Write the values of all variables with all digits, so that reading them back gives the same numbers.

    Yields:
        Lines: in version 1 a list of pairs; in version 2 one tensor after another, with one value per line.
    """
    if not query.networks[0].name:
        named = (("X", x.tolist()), ("Y", y.tolist()))
        pairs = [f"({letter}_{i} {value!r})" for letter, values in named for i, value in enumerate(values)]
        yield from f"({' '.join(pairs)})".replace(") (", ")\n(").split("\n")
        return
    places = iter(query.places)
    for network in query.networks:
        inputs = [(tensor, x[next(places)]) for tensor in network.inputs]
        outputs = [(tensor, y[tensor.first : tensor.first + tensor.size]) for tensor in network.outputs]
        for tensor, values in (*inputs, *outputs):
            yield f"{tensor.name} {tensor.dtype} [{','.join(map(str, tensor.shape))}]"
            yield from map(repr, values.tolist())


def _flat(tensor: Tensor) -> Float[np.ndarray, "entries"]:
    return tensor.double().cpu().reshape(-1).numpy()
