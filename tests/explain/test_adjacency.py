"""The graph of neighbours is that of linear programs over all pairs of regions."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, TransformError
from torch_shallow.explain.adjacency import adjacency


def dimension(a: np.ndarray, b: np.ndarray, generator: np.random.Generator) -> int:
    """The dimension of a bounded polyhedron, by its extreme points in random directions; -1 if it is empty."""
    size = np.linalg.norm(a, axis=1)
    points = []
    for cost in generator.normal(size=(4 * a.shape[1], a.shape[1])):
        solution = linprog(cost, A_ub=a / size[:, None], b_ub=b / size + 1e-9, bounds=(None, None))
        if solution.status == 2:
            return -1
        points.append(solution.x)
    return int(np.sum(np.linalg.svd(np.array(points) - points[0], compute_uv=False) > 1e-5))


def brute_force(shallow: torch_shallow.ShallowReLU, inputs: int) -> set[tuple[int, int]]:
    """All pairs of regions that have a facet in common."""
    generator = np.random.default_rng(0)
    systems = [region.half_spaces.numpy() for region in shallow.regions]
    pairs = set()
    for one, other in itertools.combinations(range(len(systems)), 2):
        a, b = (np.concatenate(parts) for parts in zip(systems[one], systems[other], strict=True))
        if dimension(a, b, generator) == inputs - 1:
            pairs.add((one, other))
    return pairs


@pytest.mark.parametrize(
    ("widths", "merge"), [((2, 3, 3, 2), False), ((2, 4, 3, 1), True), ((3, 3, 1), False), ((1, 4, 1), False)]
)
def test_all_pairs(widths: tuple[int, ...], merge: bool) -> None:
    torch.manual_seed(3)
    shallow = torch_shallow.transform(zoo.chain(*widths).double(), domain=Box(-2.0, 2.0))
    shallow = shallow.merge() if merge else shallow
    graph = adjacency(shallow)
    assert {tuple(sorted(edge)) for edge in graph.edges} == brute_force(shallow, widths[0])
    assert list(graph) == list(range(shallow.num_regions))
    for one, other, neuron in graph.edges(data="neuron"):
        if not merge:
            differs = shallow.regions[one].pattern != shallow.regions[other].pattern
            assert differs.nonzero()[:, 0].tolist() == [neuron]
    for region, point in graph.nodes(data="point"):
        assert int(shallow.locate(torch.tensor([point]).double())) == region


def test_a_corner_is_no_contact() -> None:
    cross = nn.Sequential(zoo.linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), nn.ReLU())
    graph = adjacency(cross)
    assert sorted(degree for _, degree in graph.degree) == [2, 2, 2, 2]


def test_one_region() -> None:
    graph = adjacency(nn.Linear(3, 2))
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (1, 0)


def test_refusals() -> None:
    model = zoo.chain(2, 6, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch_shallow.transform(model, max_regions=3)
    for network in (part, torch_shallow.transform(model, data=torch.zeros(1, 2))):
        with pytest.raises(TransformError, match="needs all regions"):
            adjacency(network)
    with pytest.raises(TransformError, match="max_rays"):
        adjacency(model, max_rays=0)
    with pytest.raises(TransformError, match="max_rays"):
        adjacency(zoo.chain(3, 6, 1), max_rays=1)
