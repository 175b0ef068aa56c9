"""A lower bound on the rules of any tree of thresholds: known counts, and no tree that `simplify` finds is below it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.fewest_rules import fewest_rules
from benchmarks.model_trees import Subject
from torch_shallow import Box, simplify


@pytest.mark.parametrize("seed", range(3))
def test_no_tree_of_thresholds_has_fewer_rules_than_any_can_have(seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    domain, nothing = Box(-np.ones(3), np.array([1.0, 2.0, 1.0])), np.zeros((0, 3))
    of = Subject("network", network, domain, 1.0, nothing, nothing)
    least = [fewest_rules(of, [0, 1, 2], allowed) for allowed in (0.3, 0.1, 0.03, 0.01)]
    assert least[0] >= 1
    assert least == sorted(least)
    assert least[-1] > 1
    found = [simplify(network, domain, max_error=allowed).num_regions for allowed in (0.3, 0.1)]
    assert all(few <= rules for few, rules in zip(least[:2], found, strict=True))


def test_an_affine_map_needs_one_rule_and_a_product_of_signs_four() -> None:
    affine = nn.Sequential(nn.Linear(3, 1)).double()
    domain, nothing = Box(-np.ones(3), np.ones(3)), np.zeros((0, 3))
    assert fewest_rules(Subject("affine", affine, domain, 1.0, nothing, nothing), [0, 1, 2], 1e-9) == 1

    class Product(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.prod(1, keepdim=True)

    product = Subject("product", Product(), domain, 1.0, nothing, nothing)
    assert fewest_rules(product, [0, 1, 2], 0.5) == 4  # two of three axes are cut: an edge has an affine map
