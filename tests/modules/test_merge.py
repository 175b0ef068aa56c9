"""Merging keeps the function, and leaves what the tree cannot put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn

from tests.modules.laws import assert_equal, corner_points, deep, random_points
from tests.search.programs import draw_domain, draw_program
from tests.zoo import ARCHITECTURES, DEEP, DEGENERATE, WITH_HEAD, Specimen, chain, transformed
from torch_shallow import Box, ShallowReLU, transform
from torch_shallow.errors import TransformError
from torch_shallow.search.enumerate import enumerate_regions

MODELS = (*DEGENERATE, *ARCHITECTURES, *(s for s in DEEP if s.regions <= 16))


def count_maps(shallow: ShallowReLU, tolerance: float = 1e-9) -> int:
    """How many maps there are, each compared with each."""
    weight, bias = shallow.affine_maps(torch.arange(shallow.num_regions))
    kept: list[torch.Tensor] = []
    for row in torch.cat([weight.flatten(1), bias], 1):
        if not any((row - other).abs().max() <= tolerance * (1 + row.abs().max()) for other in kept):
            kept.append(row)
    return len(kept)


@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_the_function_is_the_same(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    merged = shallow.merge()
    assert shallow.num_linear_regions == merged.num_linear_regions <= merged.num_regions <= shallow.num_regions
    assert merged.partition.num_cuts == merged.num_regions - 1
    x = torch.cat([random_points(shallow, 5000), corner_points(shallow, 20)])
    assert_equal(merged(x), deep(specimen, x), 1e-9)
    assert merged.merge().num_regions == merged.num_regions
    if shallow.num_regions <= 400:
        assert shallow.num_linear_regions == count_maps(shallow)


@given(st.data())
def test_leaves_are_cells_with_one_map(data: st.DataObject) -> None:
    program = draw_program(data)
    shallow = ShallowReLU(enumerate_regions(program, draw_domain(data, program.num_inputs)))
    merged = shallow.merge()
    assert merged.num_linear_regions == shallow.num_linear_regions == count_maps(shallow)
    inside = torch.from_numpy(shallow.partition.interior_points())
    leaf = merged.locate(inside)
    assert torch.equal(leaf.unique(), torch.arange(merged.num_regions))
    weight, bias = shallow.local_map(inside)
    merged_weight, merged_bias = merged.local_map(inside)
    assert_equal(merged_weight, weight, 1e-9)
    assert_equal(merged_bias, bias, 1e-9)
    for region in range(merged.num_regions):
        assert merged.regions[region].contains(inside[leaf == region]).all()
    patterns, kept = shallow.partition.patterns(), merged.partition
    for region in range(merged.num_regions):
        own = patterns[(leaf == region).numpy()]
        mixed = own.any(0) & ~own.all(0)
        known = np.zeros_like(kept.packed_patterns) if kept.mixed is None else kept.mixed
        assert np.array_equal(np.unpackbits(known[region], count=len(mixed)).astype(bool), mixed)
        assert np.array_equal(kept.patterns()[region][~mixed], own[0][~mixed])


def test_neurons_that_nothing_reads_leave_no_trace() -> None:
    torch.manual_seed(0)
    small, large = chain(2, 6, 2).double(), chain(2, 12, 2).double()
    with torch.no_grad():
        large[0].weight[:6], large[0].bias[:6] = small[0].weight, small[0].bias
        large[2].weight[:, :6], large[2].bias[:] = small[2].weight, small[2].bias
        large[2].weight[:, 6:] = 0.0
    assert transform(large).num_regions > transform(small).num_regions
    merged = transform(large).merge()
    assert merged.num_regions == transform(small).merge().num_regions
    assert {int(n) for n in merged.partition.neurons(range(merged.partition.num_cuts))} <= set(range(6))


def test_a_constant_function_is_one_region() -> None:
    model = chain(3, 5, 4, 2).double()
    with torch.no_grad():
        model[4].weight.zero_()
    merged = transform(model).merge()
    assert (merged.num_regions, merged.num_linear_regions) == (1, 1)
    assert_equal(merged(torch.randn(10, 3)), model[4].bias.float().expand(10, 2), 1e-6)


def test_random_weights_share_a_map_only_where_a_whole_layer_is_inactive() -> None:
    torch.manual_seed(0)
    shallow = transform(chain(3, 8, 8, 3).double())
    silent = (~shallow.partition.patterns()[:, 8:]).all(1).sum()
    assert silent > 1
    assert shallow.num_linear_regions == shallow.num_regions - silent + 1


def test_merged_regions_say_what_they_are() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = torch.ones(2, 1), torch.tensor([0.0, -1.0])
        model[2].weight[:] = torch.tensor([[1.0, 0.0]])
    merged = transform(model).merge()
    assert merged.num_regions == 2
    region = merged.regions[1]
    assert region.half_spaces.names == ("stage 1 neuron 0 active",)
    assert torch.equal(region.vertices(), torch.zeros(1, 1, dtype=torch.float64))
    assert "merged" in repr(merged)
    with pytest.raises(TransformError, match=r"expected activation regions, found merged ones"):
        _ = region.pattern
    with pytest.raises(TransformError, match=r"expected activation regions, found merged ones"):
        merged.certify(model)


def test_weights_that_were_changed_are_those_that_count() -> None:
    model = chain(2, 6, 1).double()
    shallow = transform(model, domain=Box(-1.0, 1.0))
    with torch.no_grad():
        shallow.selection.weights.fill_(1.0)
        shallow.selection.biases.fill_(2.0)
    merged = shallow.merge()
    assert merged.num_regions == 1
    x = torch.rand(10, 2, dtype=torch.float64)
    assert_equal(merged(x), x.sum(1, keepdim=True) + 2.0, 1e-15)


@pytest.mark.parametrize("specimen", WITH_HEAD, ids=str)
def test_the_head_stays(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    x = random_points(shallow, 500)
    assert_equal(shallow.merge()(x), shallow(x), 1e-12)


def test_data_networks_have_no_tree_but_maps() -> None:
    model = chain(2, 8, 1).double()
    x = torch.randn(500, 2, dtype=torch.float64)
    visited = transform(model, data=x)
    assert visited.num_linear_regions == count_maps(visited)


def test_scales_of_outputs_and_regions_do_not_matter() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = torch.tensor([[1.0], [-1.0]]), torch.tensor([-1.0, 0.0])
        model[2].weight[:], model[2].bias[:] = torch.tensor([[1e10, 1.0], [0.0, 1e-5]]), torch.zeros(2)
    shallow = transform(model)
    merged = shallow.merge()
    assert shallow.num_regions == shallow.num_linear_regions == merged.num_regions == 3
    x = torch.linspace(-2.0, 2.0, 41, dtype=torch.float64)[:, None]
    assert_equal(merged(x), model(x).detach(), 1e-15)


def test_a_large_tolerance_takes_no_longer() -> None:
    shallow = transform(chain(3, 16, 16, 1).double())
    counts = [shallow.merge(tolerance).num_linear_regions for tolerance in (0.0, 1e-12, 1e-6, 1e-3)]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("tolerance", [-1e-9, 1.0, float("nan"), float("inf"), "small"])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    shallow = transform(chain(2, 3, 1).double())
    with pytest.raises((TransformError, TypeCheckError), match="tolerance"):
        shallow.merge(tolerance)


def test_local_models_that_are_not_finite_are_refused() -> None:
    shallow = transform(chain(2, 3, 1).double())
    shallow.selection.weights[0] = torch.nan
    with pytest.raises(TransformError, match="selection: expected finite local models"):
        shallow.merge()


def test_a_class_of_ones_own_stays() -> None:
    class Named(ShallowReLU):
        pass

    assert type(Named(transform(chain(2, 3, 1)).partition).merge()) is Named
