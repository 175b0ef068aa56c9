"""How many rules any tree of thresholds needs at least: a bound that does not depend on how `simplify` looks for them.

A cell of a tree of thresholds is a box. If it contains some corners of the domain, it contains the whole face that they
span, so that one affine map is near the network on that face. The least number of leaves that a tree needs for the
corners alone is found by dynamic programming over all faces; no tree of thresholds for the domain has fewer. Whether an
affine map is near enough on a face is decided at points of it by Lawson's algorithm (1961): its weighted least squares
are never above the least largest deviation, so that a face is called too bent only where it is.

`python -m benchmarks.fewest_rules [--networks diabetes ...] [--features 10]` prints a table. With more features than
that, only those vary that bend the network most, and the others stay in the middle: on such a part of the domain, a
tree needs no more leaves than on all of it.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.model_trees import NETWORKS, SHARES, Subject, bounds, subject

FREE = 2  # an entry of a face that varies; 0 or 1 is at the lower or the upper bound
ROUNDS = 40  # of Lawson's algorithm
INNER = 100  # points of a face besides its corners


def fewest_rules(of: Subject, free: Sequence[int], allowed: float) -> int:
    """The least number of leaves that trees of thresholds need for the corners of a part of a domain.

    Args:
        of: the network and its domain.
        free: the features that vary; the others stay in the middle.
        allowed: the error that is allowed, in the units of the outputs.
    """
    lower, upper = bounds(of.domain)
    rng = np.random.default_rng(0)

    def fits_at(face: tuple[int, ...]) -> bool:
        varying = [k for k, at in enumerate(face) if at == FREE]
        corners = np.array(list(itertools.product((0.0, 1.0), repeat=len(varying))))
        shares = np.clip(rng.uniform(-0.5, 1.5, (INNER, len(varying))), 0.0, 1.0)  # half of the entries at a bound
        shares = np.concatenate([corners, shares])
        x = np.tile((lower + upper) / 2, (len(shares), 1))
        for k, at in enumerate(face):
            share = shares[:, varying.index(k)] if at == FREE else float(at)
            x[:, free[k]] = lower[free[k]] + share * (upper[free[k]] - lower[free[k]])
        y = of.network(torch.from_numpy(x)).detach().numpy()
        return all(is_nearly_affine(2.0 * shares - 1.0, values, allowed) for values in y.T)

    @cache
    def fits(face: tuple[int, ...]) -> bool:
        varying = [k for k, at in enumerate(face) if at == FREE]
        if len(varying) < 2:  # at its corners; what is between them is not looked at
            return True
        walls = ((*face[:k], at, *face[k + 1 :]) for k in varying for at in (0, 1))
        return all(map(fits, walls)) and fits_at(face)

    @cache
    def needed(face: tuple[int, ...]) -> int:
        if fits(face):
            return 1
        varying = (k for k, at in enumerate(face) if at == FREE)
        return min(sum(needed((*face[:k], at, *face[k + 1 :])) for at in (0, 1)) for k in varying)

    return needed((FREE,) * len(free))


def is_nearly_affine(x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points"], allowed: float) -> bool:
    """Whether it is not excluded that an affine map is so near to some values."""
    rows = np.column_stack([x, np.ones(len(x))])
    weight = np.full(len(x), 1.0 / len(x))
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        apart = np.abs(y - rows @ np.linalg.lstsq(rows * root[:, None], y * root, rcond=None)[0])
        if apart.max() <= allowed:
            return True
        if float(weight @ apart**2) > allowed**2:
            return False
        weight = weight * apart / float(weight @ apart)
    return True


def most_bent(of: Subject, count: int) -> list[int]:
    """The features that bend the network most: by mixed differences of pairs of them at random corners."""
    lower, upper = bounds(of.domain)
    d = len(lower)
    corners = np.where(np.random.default_rng(0).integers(0, 2, (400, d)), upper, lower)

    def at(i: int, j: int, first: float, second: float) -> np.ndarray:
        x = corners.copy()
        x[:, i], x[:, j] = first, second
        return of.network(torch.from_numpy(x)).detach().numpy()

    bends = np.zeros(d)
    for i, j in itertools.combinations(range(d), 2):
        signs = ((lower[i], lower[j], 1), (lower[i], upper[j], -1), (upper[i], lower[j], -1), (upper[i], upper[j], 1))
        mixed = sum(sign * at(i, j, first, second) for first, second, sign in signs)
        bends[[i, j]] += float(np.abs(mixed).mean())
    return sorted(np.argsort(-bends, kind="stable")[:count].tolist())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--features", type=int, default=10, help="how many vary at most")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| network | features | allowed | rules at least | s |\n|---|--:|--:|--:|--:|")
    for name in options.networks:
        of = subject(name)
        free = most_bent(of, options.features)
        for share in SHARES:
            start = time.process_time()
            rules = fewest_rules(of, free, share * of.range)
            seconds = time.process_time() - start
            print(f"| {name} | {len(free)} | {share:.0%} | {rules} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
