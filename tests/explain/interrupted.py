"""Program that interrupts one function at random instants and fails if an answer differs from that of a whole run.

An interrupted search answers with an interval, which must contain the result of the whole run.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import nn

from torch_shallow import AtMost, Box, ask, estimate, explain, transform, verify
from torch_shallow._transform import transform_all

INSTANTS = 10
torch.manual_seed(0)
MODEL = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
OTHER = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2))
SMALL = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
X, BOX = torch.rand(4), Box(-1.0, 1.0)
MIDDLE = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2))


def explained_by_local_maps() -> np.ndarray:
    found = explain.local_linear_shap(MODEL, torch.rand(99, 4), torch.ones(999, 4))
    return np.append(np.asarray(found.explanation.values).flatten(), np.asarray(found.equals_shap))


CALLS: dict[str, Callable[[], object]] = {
    "transform": lambda: transform(MODEL, domain=BOX).locate(X[None]).shape,
    "certify": lambda: transform(SMALL, domain=BOX).certify(SMALL).passed,
    "lipschitz_constant": lambda: explain.lipschitz_constant(transform_all(MODEL, domain=BOX)).value,
    "monotonicity": lambda: explain.monotonicity(transform_all(MODEL, domain=BOX)).least.tolist(),
    "unused_features": lambda: explain.unused_features(transform_all(MODEL, domain=BOX)).share.tolist(),
    "volumes": lambda: explain.volumes(SMALL, BOX).values.tolist(),
    "moments": lambda: explain.moments(SMALL, BOX).mean.tolist(),
    "difference": lambda: explain.difference(SMALL, OTHER, BOX, regions=True).largest.tolist(),
    "counterfactual": lambda: explain.counterfactual(transform_all(MODEL, domain=BOX), X, 0).distance,
    "continuity_gap": lambda: transform(SMALL, domain=BOX).continuity_gap().facets,
    "merge": lambda: transform(MODEL, domain=BOX).num_regions and transform(SMALL, domain=BOX).merge().num_regions,
    "shap_values": lambda: explain.shap_values(MODEL, torch.rand(8, 4), torch.ones(64, 4)).values.tolist(),
    "local_linear_shap": lambda: explained_by_local_maps().tolist(),
    "to_sequential": lambda: transform_all(MIDDLE, domain=BOX).to_sequential()(torch.rand(99, 4).double()).tolist(),
    "estimate": lambda: estimate(MODEL, domain=BOX).upper_bound,
}


def steep() -> nn.Sequential:
    """Return a network whose search takes about a second."""
    model = nn.Sequential(nn.Linear(9, 22), nn.ReLU(), nn.Linear(22, 22), nn.ReLU(), nn.Linear(22, 2)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    return model


STEEP = steep()


class Lead:
    """By how much output 0 exceeds output 1."""

    def goals(self, inputs: int, outputs: int) -> np.ndarray:
        return np.append(np.zeros(inputs), [1.0, -1.0, 0.0])[None]

    def constraints(self, inputs: int, outputs: int) -> np.ndarray:
        return np.zeros((0, inputs + outputs + 1))


def interval_of_range() -> list[float]:
    found = explain.output_range(STEEP, BOX)
    return [
        *(-found.lower).tolist(),
        *found.upper.tolist(),
        *(-found.lower_bound).tolist(),
        *found.upper_bound.tolist(),
    ]


@cache
def a_little_above_the_top() -> float:
    return float(explain.output_range(STEEP, BOX, of=[[1.0, 0.0]]).upper) + 0.1


def interval_of_verdict() -> list[float]:
    verdict = verify(STEEP, BOX, AtMost(a_little_above_the_top()))
    assert verdict.holds is not False
    return [-verdict.upper_bound, -verdict.lower_bound]


def interval_of_maximum() -> list[float]:
    found = ask(STEEP, Lead(), BOX)
    return [found.lower_bound, found.upper_bound]


def interval_of_lipschitz_constant() -> list[float]:
    found = explain.lipschitz_constant(SMALL, 2, BOX)
    return [found.lower_bound, found.upper_bound]


def intervals_of_slopes() -> list[float]:
    found = explain.monotonicity(SMALL, BOX, exact_slopes=True)
    ends = (-found.least, found.greatest, -found.lower_bound, found.upper_bound)
    return [value for end in ends for value in end.flatten().tolist()]


def intervals_of_difference() -> list[float]:
    found = explain.difference(SMALL, OTHER, BOX)
    return [*found.lower_bound.tolist(), *found.upper_bound.tolist()]


def interval_of_nearest() -> list[float]:
    found = explain.counterfactual(
        STEEP, torch.full((9,), 0.25), 1 - int(STEEP(torch.full((1, 9), 0.25).double()).argmax())
    )
    return [-found.upper_bound, -found.lower_bound]


def intervals_of_several() -> list[float]:
    x = torch.full((2, 9), 0.25).double()
    x[1, :4] = 0.3
    rows = explain.nearest_counterfactuals(STEEP, x, [1 - int(label) for label in STEEP(x).argmax(1)]).found
    return [*(-row[0].upper_bound for row in rows), *(-row[0].lower_bound for row in rows)]


def interval_of_radius() -> list[float]:
    found = explain.robustness_radius(STEEP, torch.rand(1, 9).double())
    return [-float(found.upper_bound), -float(found.lower_bound)]


INTERVALS: dict[str, Callable[[], list[float]]] = {
    "robustness_radius": interval_of_radius,
    "differences": intervals_of_difference,
    "nearest": interval_of_nearest,
    "nearest_counterfactuals": intervals_of_several,
    "slopes": intervals_of_slopes,
    "steepest": interval_of_lipschitz_constant,
    "output_range": interval_of_range,
    "verify": interval_of_verdict,
    "ask": interval_of_maximum,
}


def main(name: str) -> None:
    call = CALLS.get(name) or INTERVALS[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes ignore it
    torch.manual_seed(1)
    expected = call()
    begun = time.monotonic()
    torch.manual_seed(1)
    call()
    seconds = time.monotonic() - begun
    draw = random.Random(0)
    stopped = 0
    for _ in range(INSTANTS):
        timer = threading.Timer(draw.random() * seconds, os.kill, (os.getpid(), signal.SIGINT))
        torch.manual_seed(1)
        try:
            timer.start()
            found = call()
            timer.join()
            time.sleep(0.01)  # otherwise the signal may come in the next round
        except KeyboardInterrupt:
            stopped += 1
            continue
        if name in INTERVALS:
            (value, bound), (least, most) = np.split(np.asarray(expected), 2), np.split(np.asarray(found), 2)
            stopped += not np.array_equal(found, expected)
            if not ((least <= bound + 1e-9).all() and (most >= value - 1e-9).all()):
                raise SystemExit(f"{name}: {found} does not hold {expected}")
        elif not np.array_equal(np.asarray(found), np.asarray(expected)):
            raise SystemExit(f"{name}: {found} in place of {expected}")
    sys.stdout.write(f"{name}: {stopped} of {INSTANTS} were stopped, {seconds:.2f} s\n")


if __name__ == "__main__":
    main(sys.argv[1])
