"""Does the network still give what the model gives, behind a head that is not piecewise linear?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.places import Places
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.functions import behind_head

EPSILON_32 = float(np.finfo(np.float32).eps)


def check_equality(subject: Examined, model: DeepModel, places: Places) -> Check:
    """The network's output is the model's, both in float64, up to rounding: the model's, and that of composed maps."""
    terms = subject.program.slope_terms

    def compare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, expected = subject.evaluate(x), model.outputs(x)
        allowed = subject.tolerance * (1.0 + np.abs(expected))
        _, rounding = model.rounding(x, ~(np.abs(found - expected) <= allowed).all(axis=1))
        return found, expected, allowed + ALLOWED * EPSILON * (rounding + np.abs(x) @ terms.T)

    return _check(subject, places, compare, f"equal, {places.name}", f"{subject.tolerance:.0e}")


def check_float32(subject: Examined, model: DeepModel, deep: DeepModel, places: Places) -> Check:
    """The network's output is the model's, both called in float32, up to the rounding that float32 makes on the way.

    Args:
        subject: the network.
        model: the model, in its own precision.
        deep: the model in float64, which tells the size of rounding errors.
        places: where to look.
    """

    def compare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, rounding = deep.rounding(x)
        return subject.evaluate(x), model.outputs(x), ALLOWED * EPSILON_32 * rounding

    rounded = replace(places, points=places.points.astype(np.float32))
    return _check(subject, rounded, compare, f"equal in float32, {places.name}", "rounding")


Comparison = tuple[
    Float[np.ndarray, "points outputs"], Float[np.ndarray, "points outputs"], Float[np.ndarray, "points outputs"]
]


def _check(
    subject: Examined,
    places: Places,
    compare: Callable[[Float[np.ndarray, "points inputs"]], Comparison],
    name: str,
    limit: str,
) -> Check:
    """Compare at the points that are located in a region: all, unless the network is incomplete."""
    tally, worst, count, compared = Tally(), 0.0, len(places.points), 0
    for block in subject.blocks(np.arange(count), 4 * (subject.program.num_inputs + subject.program.num_neurons)):
        x = places.points[block]
        # Of one tensor, as rounding decides where a point on a boundary lies, and may depend on the rest of the batch.
        located = np.full(len(x), subject.function.complete) | (subject.locate(x) >= 0)
        found, expected, allowed = (values[located] for values in compare(x))
        difference = np.abs(found - expected)
        relative = np.nan_to_num(difference / (1.0 + np.abs(expected)), nan=np.inf)
        worst = max(worst, float(relative.max(initial=0.0)))
        at = np.where(difference <= allowed, 0.0, relative).argmax(axis=1)
        x, owners, compared = x[located], places.regions[block][located], compared + len(found)
        tally.add_all(~(difference <= allowed).all(axis=1), partial(_differs, x, owners, at, found, expected))
    notes = [f"{compared:,} points"] * (compared != places.examined and places.total is not None)
    notes += [places.note] * bool(places.note)
    notes += [f"{count - compared:,} other points lie in unexplored cells"] * (compared < count)
    return Check(
        name,
        "the network's output is the model's; the worst difference is relative to 1 + |y|",
        places.unit,
        compared if places.total is None else places.examined,
        places.total,
        worst,
        limit,
        tuple(tally.kept),
        tally.count,
        ", ".join(notes),
    )


def _differs(
    x: Float[np.ndarray, "points inputs"],
    regions: Int[np.ndarray, "points"],
    outputs: Int[np.ndarray, "points"],
    found: Float[np.ndarray, "points outputs"],
    expected: Float[np.ndarray, "points outputs"],
    at: int,
) -> Failure:
    output = outputs[at]
    return Failure(
        f"output {output} is {found[at, output]:.12g}, the model's is {expected[at, output]:.12g}",
        region=int(regions[at]) if regions[at] >= 0 else None,
        point=tuple(x[at]),
    )


def check_head(subject: Examined, model: DeepModel, places: Places, limit: float = 1e-6) -> Check:
    """The network's output behind the head is the model's.

    Args:
        subject: the network.
        model: the model.
        places: where to look.
        limit: how much a head may make of the rounding of what enters it, relative to 1 + |y|.
    """
    tally, worst = Tally(), 0.0
    for block in subject.blocks(np.arange(len(places.points)), 4 * (subject.program.num_inputs + model.num_neurons)):
        x, regions = places.points[block], places.regions[block]
        expected = model.final_outputs(x)
        with torch.no_grad():
            found = behind_head(subject.function, subject.tensor(x)).double().reshape(expected.shape).cpu().numpy()
        with np.errstate(invalid="ignore"):  # infinities, as of log_softmax
            wrong = np.where(found == expected, 0.0, np.abs(found - expected) / (1.0 + np.abs(expected)))
        wrong = np.nan_to_num(wrong, nan=np.inf).max(axis=1, initial=0.0)
        worst = max(worst, float(wrong.max(initial=0.0)))
        for at in np.flatnonzero(wrong > limit):
            message = f"the output differs from the model's by a relative {wrong[at]:.3g}"
            tally.add(Failure(message, region=int(regions[at]), point=tuple(x[at])))
    return Check(
        f"equal behind the head, {places.name}",
        "the network's output, head included, is the model's; the worst difference is relative to 1 + |y|",
        places.unit,
        places.examined,
        places.total,
        worst,
        f"{limit:.0e}",
        tuple(tally.kept),
        tally.count,
    )
