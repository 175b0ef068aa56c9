"""Few rules for a network: `simplify` compared with model trees fitted to 100,000 samples of the network.

`python -m benchmarks.model_trees [--networks diabetes ...] [--limit SECONDS]` prints a table with three lines for each
network: errors of 10, 5 and 2 percent of the output's range in the domain are allowed. The trees are those of
linear-tree and of fast-model-trees (PILOT), with at least as many leaves. Their error is the largest one that our
search finds in the boxes of their leaves; at samples alone it looks smaller. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import torch_shallow
from benchmarks.networks import load
from torch_shallow import Box
from torch_shallow.explain.globally import output_range

SHARES = (0.10, 0.05, 0.02)
SAMPLES = 100_000
RANGE_LIMIT = 60.0  # seconds for the range of a network's outputs
DATA = {"diabetes": (10, 16, 16, 1), "wine": (13, 16, 3), "breast_cancer": (30, 16, 2)}
NETWORKS = (*DATA, "4-32-32-1", "ACAS Xu 1_1 property 3")


@dataclass(frozen=True)
class Leaf:
    """An affine map in a box, clipped to the range of the fitted values if there is one.

    Attributes:
        lower: Lower bound of each input.
        upper: Upper bound of each input.
        weight: Weight of each output, by inputs.
        bias: Bias of each output.
        values: The least and the largest value.
    """

    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    weight: Float[np.ndarray, "outputs inputs"]
    bias: Float[np.ndarray, "outputs"]
    values: tuple[float, float] = (-math.inf, math.inf)


class Apart(nn.Module):
    """Absolute difference of a network from the map of a leaf."""

    def __init__(self, network: nn.Module, leaf: Leaf, outputs: list[int]) -> None:
        super().__init__()
        self.network, self.outputs, self.values = network, outputs, leaf.values
        self.leaf = nn.Linear(len(leaf.lower), len(leaf.bias), dtype=torch.float64)
        self.leaf.weight.data, self.leaf.bias.data = torch.from_numpy(leaf.weight), torch.from_numpy(leaf.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the difference of each output."""
        value = self.leaf(x)
        if math.isfinite(self.values[0]):
            value = torch.clamp(value, *self.values)
        return self.network(x)[:, self.outputs] - value


@dataclass(frozen=True)
class Subject:
    """A network and the box in which it is examined.

    Attributes:
        name: Name in the table.
        network: The network in float64.
        domain: The box.
        range: Largest range of an output, as far as a search reaches values in the box.
        x: Samples, uniform in the box.
        y: Outputs of the network at the samples.
    """

    name: str
    network: nn.Sequential
    domain: Box
    range: float
    x: Float[np.ndarray, "points inputs"]
    y: Float[np.ndarray, "points outputs"]


def trained(name: str, widths: tuple[int, ...]) -> tuple[nn.Sequential, Box]:
    """Return a network trained on standardised features of a scikit-learn data set, and the box of these."""
    data: Any = getattr(import_module("sklearn.datasets"), f"load_{name}")()
    x = torch.tensor(data.data, dtype=torch.float64)
    x = (x - x.mean(0)) / x.std(0)
    classes = widths[-1] > 1
    y = torch.tensor(data.target) if classes else torch.tensor(data.target, dtype=torch.float64)[:, None]
    if not classes:
        y = (y - y.mean()) / y.std(0)
    network = untrained(widths)
    loss = nn.functional.cross_entropy if classes else nn.functional.mse_loss
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(network(x), y).backward()
        optimizer.step()
    return network.requires_grad_(False), Box(x.amin(0), x.amax(0))


def untrained(widths: tuple[int, ...]) -> nn.Sequential:
    """Return layers of these widths with ReLUs between them, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            parts += [nn.Linear(inputs, outputs).double(), nn.ReLU()]
        return nn.Sequential(*parts[:-1])


def subject(name: str) -> Subject:
    """Return the network of a name."""
    if name in DATA:
        network, domain = trained(name, DATA[name])
    elif name.startswith("ACAS"):
        case = load(name)
        assert case.box is not None
        network, domain = case.model, Box(*case.box.T)
    else:
        network, domain = untrained((4, 32, 32, 1)).requires_grad_(False), Box(-np.ones(4), np.ones(4))
    lower, upper = bounds(domain)
    x = lower + np.random.default_rng(0).random((SAMPLES, len(lower))) * (upper - lower)
    y = network(torch.from_numpy(x)).detach().numpy()
    found = output_range(network, domain, example_input=torch.from_numpy(x[:1]), time_limit=RANGE_LIMIT)
    return Subject(name, network, domain, float((found.upper - found.lower).max()), x, y)


def linear_tree(of: Subject, depth: int) -> list[tuple[list[int], list[Leaf]]]:
    """Fit one tree of linear-tree to all outputs."""
    linear_model, lineartree = import_module("sklearn.linear_model"), import_module("lineartree")
    tree = lineartree.LinearTreeRegressor(linear_model.LinearRegression(), max_depth=depth, min_samples_leaf=0.001)
    nodes: dict[int, dict[str, Any]] = tree.fit(of.x, of.y if of.y.shape[1] > 1 else of.y[:, 0]).summary()

    def leaves(number: int, lower: np.ndarray, upper: np.ndarray) -> Iterator[Leaf]:
        node = nodes[number]
        if "th" not in node:
            map_ = node["models"]
            yield Leaf(lower, upper, np.atleast_2d(map_.coef_), np.atleast_1d(map_.intercept_))
            return
        for child, (a, b) in zip(node["children"], halves(lower, upper, node["col"], node["th"]), strict=True):
            if (a < b).any():
                yield from leaves(child, a, b)

    return [(list(range(of.y.shape[1])), list(leaves(0, *bounds(of.domain))))]


def pilot(of: Subject, depth: int) -> list[tuple[list[int], list[Leaf]]]:
    """Fit a tree of fast-model-trees to each output."""
    return [([i], list(pilot_leaves(of, y, depth))) for i, y in enumerate(of.y.T)]


def pilot_leaves(of: Subject, y: Float[np.ndarray, "points"], depth: int) -> Iterator[Leaf]:
    """Yield the leaves of a tree fitted to some values."""
    tree = import_module("pilot").PILOT(max_depth=depth, rel_tolerance=0.0).train(of.x, y)
    children: dict[Any, list[Any]] = {}
    for node in tree.tree_summary().itertuples():
        children.setdefault(node.parent_node_id, []).append(node)
    values = float(y.min()), float(y.max())
    stack = [(children[None][0], *bounds(of.domain), np.zeros(of.x.shape[1]), 0.0)]
    while stack:
        node, lower, upper, weight, bias = stack.pop()
        if node.node_type == "con":
            yield Leaf(lower, upper, weight[None], np.array([bias + node.intercept_left]), values)
            continue
        axis, below = int(node.feature_index), children[node.node_id]
        unit = np.eye(len(weight))[axis]
        if node.node_type == "lin":
            stack.append((below[0], lower, upper, weight + node.slope_left * unit, bias + node.intercept_left))
            continue
        sides = halves(lower, upper, axis, node.split_value)
        terms = (node.slope_left, node.intercept_left), (node.slope_right, node.intercept_right)
        for child, side, (slope, more) in zip(below, sides, terms, strict=True):
            stack.append((child, *side, weight + slope * unit, bias + more))


def bounds(box: Box) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """Return the lower and the upper bound of each input."""
    return np.asarray(box.lower, dtype=np.float64), np.asarray(box.upper, dtype=np.float64)


def halves(lower: np.ndarray, upper: np.ndarray, axis: int, threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the parts of a box below and above a threshold."""
    middle = float(np.clip(threshold, lower[axis], upper[axis]))
    above, below = lower.copy(), upper.copy()
    above[axis] = below[axis] = middle
    return [(lower, below), (above, upper)]


def largest_error(of: Subject, trees: list[tuple[list[int], list[Leaf]]], limit: float) -> float:
    """Return the largest error of trees found in the boxes of their leaves, within a time limit for all together."""
    boxes = sum(len(leaves) for _, leaves in trees)
    largest = 0.0
    for outputs, leaves in trees:
        for leaf in leaves:
            found = output_range(
                Apart(of.network, leaf, outputs),
                Box(leaf.lower, leaf.upper),
                example_input=torch.from_numpy(of.x[:1]),
                time_limit=max(limit / boxes, 0.5),
            )
            points = torch.cat([found.lower.flatten(), found.upper.flatten()])
            largest = max(largest, float(points.abs().max()))
    return largest


PEERS: dict[str, Callable[[Subject, int], list[tuple[list[int], list[Leaf]]]]] = {
    "linear-tree": linear_tree,
    "fast-model-trees": pilot,
}


def lines(name: str, limit: float) -> Iterator[list[float]]:
    """Yield the table of a network: share, rules, bound, found, seconds, and for each peer rules, error and seconds."""
    of = subject(name)
    fitted: dict[tuple[str, int], list[float]] = {}
    for share in SHARES:
        start = time.process_time()
        simple = torch_shallow.simplify(of.network, of.domain, max_error=share * of.range, time_limit=limit)
        line = [share, simple.num_regions, simple.error / of.range, simple.error_found / of.range]
        line.append(time.process_time() - start)
        depth = max(1, math.ceil(math.log2(simple.num_regions)))
        for peer, fit in PEERS.items():
            if (peer, depth) not in fitted:
                start = time.process_time()
                trees = fit(of, depth)
                seconds = time.process_time() - start
                leaves = max(len(of_output) for _, of_output in trees)
                fitted[peer, depth] = [leaves, largest_error(of, trees, limit) / of.range, seconds]
            line += fitted[peer, depth]
        yield line


def main() -> None:
    """Print the table, and the geometric mean of the ratios of our errors to those of the peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each simplification")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    heads = ["network", "allowed", "rules", "proven", "found", "s"]
    heads += [f"{peer} {head}" for peer in PEERS for head in ("leaves", "error", "s")]
    print(f"| {' | '.join(heads)} |\n|---|{'--:|' * (len(heads) - 1)}")
    ratios: list[list[float]] = []
    for name in options.networks:
        for share, rules, bound, found, seconds, *peers in lines(name, options.limit):
            cells = [name, f"{share:.0%}", f"{rules:.0f}", f"{bound:.1%}", f"{found:.1%}", f"{seconds:.0f}"]
            for leaves, error, its in zip(*[iter(peers)] * 3, strict=True):
                cells += [f"{leaves:.0f}", f"{error:.1%}", f"{its:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
            ratios.append([bound / error for error in peers[1::3]])
    means = np.exp(np.log(np.array(ratios)).mean(axis=0))
    print(", ".join(f"ours over {peer}: {mean:.2f}" for peer, mean in zip(PEERS, means, strict=True)))


if __name__ == "__main__":
    main()
