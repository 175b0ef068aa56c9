"""A network whose local models are computed on demand is the network that stores them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

from tests.cases import examples, thinned
from tests.modules.laws import random_points, sizes_of_terms
from tests.modules.test_files import assert_same
from tests.modules.test_torch_onnx import run, session
from tests.modules.torch_networks import assert_same as assert_close
from tests.modules.torch_networks import points, points_and_outsiders, shared
from tests.search.programs import draw_domain, draw_program
from tests.zoo import ARCHITECTURES, DEGENERATE, PIECEWISE, WITH_HEAD, Specimen, chain, identity, tent, transformed
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.certify import certify
from torch_shallow.domain import Domain
from torch_shallow.functions import composed
from torch_shallow.program import extraction as extent
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.affine_maps import affine_maps
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.partition import Partition

NAMES = ("residual", "densely connected", "branches", "image", "30-5-4-2", "4-7-6-5", "3-6-5-2", "LeakyReLU")
NAMES += ("MaxMin", "no ReLU", "constant", "zero weights", "zero at a corner", "classifier")
SOME = tuple(s for s in (*DEGENERATE, *ARCHITECTURES, *PIECEWISE, *WITH_HEAD) if s.name.startswith(NAMES))


def stored_of(specimen: Specimen) -> ShallowReLU:
    return copy.deepcopy(transformed(specimen))


def on_demand(stored: ShallowReLU) -> ShallowReLU:
    shallow = ShallowReLU(stored.partition, head=stored.head, store_maps=False)
    shallow.source_hash = stored.source_hash
    return shallow


def in_a_box() -> ShallowReLU:
    torch.manual_seed(0)
    x = torch.randn(20)
    return transform(chain(20, 40, 30, 2), domain=Box(x - 0.02, x + 0.02))


def gradient(shallow: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = shallow(x)
    (found,) = torch.autograd.grad((y * torch.arange(1.0, 1.0 + y[0].numel()).reshape(y.shape[1:])).sum(), x)
    return found


def assert_equal_up_to_rounding(found: Tensor, expected: Tensor, sizes: Tensor | float) -> None:
    """NaN where the other is NaN, and elsewhere equal relative to what the numbers are added up from."""
    assert found.dtype == expected.dtype
    assert torch.equal(found.isnan(), expected.isnan())
    difference = (found - expected).nan_to_num().abs()
    assert (difference <= 1e-12 * (1.0 + torch.as_tensor(sizes))).all()


def assert_same_function(found: ShallowReLU, expected: ShallowReLU, x: Tensor) -> None:
    """Values, gradients, regions, local models."""
    assert not found.stores_maps
    assert expected.stores_maps
    assert torch.equal(found.locate(x), expected.locate(x))
    sizes = sizes_of_terms(expected, x.nan_to_num(0.0, 0.0, 0.0)).reshape(len(x), *expected.trunk_shape)
    assert_equal_up_to_rounding(found.trunk(x), expected.trunk(x), sizes)
    single = found(x.float())
    assert single.dtype == torch.float32
    steepest = sum(map(torch.linalg.norm, expected.affine_maps(torch.arange(expected.num_regions))))
    assert torch.equal(single.isnan(), expected(x.float()).isnan())
    assert_equal_up_to_rounding(gradient(found, x), gradient(expected, x), steepest)
    for one, other in zip(found.local_map(x), expected.local_map(x), strict=True):
        assert_equal_up_to_rounding(one, other, steepest)
    every = torch.arange(expected.num_regions)
    for one, other in zip(found.affine_maps(every), expected.affine_maps(every), strict=True):
        assert_equal_up_to_rounding(one, other, steepest)
    assert_equal_up_to_rounding(found.regions[-1].weight, expected.regions[-1].weight, steepest)
    assert_equal_up_to_rounding(found.regions[-1].bias, expected.regions[-1].bias, steepest)


def points_of(shallow: ShallowReLU) -> Tensor:
    """Points of all scales, and some outside of the domain."""
    beyond = torch.full((2, *shallow.in_shape), torch.nan, dtype=torch.float64)
    beyond[1] = torch.inf
    return torch.cat([random_points(shallow, 60), beyond])


@pytest.mark.parametrize("specimen", SOME, ids=str)
def test_it_is_the_same_function(specimen: Specimen) -> None:
    stored = stored_of(specimen)
    assert_same_function(on_demand(stored), stored, points_of(stored))


def test_the_part_of_a_network_that_is_left_in_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent, "SMALL", 0)
    stored = in_a_box()
    assert isinstance(stored.partition, Partition)
    assert stored.partition.program.whole is not None
    assert_same_function(on_demand(stored), stored, points_of(stored))


@examples(20)
@given(data=st.data())
def test_random_programs_in_all_domains(data: st.DataObject) -> None:
    program = draw_program(data)
    stored = ShallowReLU(enumerate_regions(program, draw_domain(data, program.num_inputs)))
    assert_same_function(on_demand(stored), stored, points_of(stored))


def unmasked(program: ReLUProgram, pattern: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The program at a point, its ReLUs replaced by a pattern, neuron by neuron."""
    sources = list(x)
    for stage in program.stages:
        z = [float(row @ sources + b) for row, b in zip(stage.weight, stage.bias, strict=True)]
        start = len(sources) - program.num_inputs
        sources += [value if on else 0.0 for value, on in zip(z, pattern[start:], strict=False)]
    return program.out_weight @ sources + program.out_bias


@pytest.mark.parametrize("name", ["residual", "densely connected", "30-5-4-2"])
def test_against_the_program_neuron_by_neuron(name: str) -> None:
    stored = stored_of(next(s for s in SOME if s.name == name))
    shallow, x = on_demand(stored), random_points(stored, 50)
    assert isinstance(stored.partition, Partition)
    patterns = stored.partition.patterns(shallow.locate(x).numpy())
    expected = [
        unmasked(stored.partition.program, pattern, row.numpy()) for pattern, row in zip(patterns, x, strict=True)
    ]
    assert_equal_up_to_rounding(shallow(x), torch.tensor(np.array(expected)), sizes_of_terms(stored, x))


def test_blocks_of_points_and_regions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = stored_of(next(s for s in SOME if s.name == "branches"))
    shallow, x = on_demand(stored), random_points(stored, 100)
    every = torch.arange(stored.num_regions)
    expected, slopes, maps = shallow(x), gradient(shallow, x), shallow.affine_maps(every)
    monkeypatch.setattr(composed, "POINT_VALUES", 100)
    monkeypatch.setattr(composed, "REGION_VALUES", 1000)
    assert_equal_up_to_rounding(shallow(x), expected, expected.abs())
    assert_equal_up_to_rounding(gradient(shallow, x), slopes, slopes.abs())
    for one, other in zip(shallow.affine_maps(every), maps, strict=True):
        assert_equal_up_to_rounding(one, other, other.abs())
    assert shallow(x[:0]).shape == (0, 2)
    assert shallow.affine_maps(every[:0])[0].shape == (0, 2, 4)


def test_memory_has_a_bit_for_each_region_and_neuron() -> None:
    torch.manual_seed(0)
    stored = transform(chain(3, 12, 12, 5), domain=Box(-3.0, 3.0))
    shallow = on_demand(stored)
    regions, neurons = shallow.num_regions, 24
    assert regions > 500
    held = dict(shallow.selection.named_buffers())
    patterns = held.pop("patterns")
    assert patterns.shape == (regions, neurons // 8)
    assert np.shares_memory(patterns.numpy(), shallow.partition.packed_patterns)
    assert sum(buffer.numel() for buffer in held.values()) < 5 * (1 + 3 + neurons) * neurons < regions * 5 * 3
    sizes = [buffer.numel() for buffer in shallow.buffers()]
    assert max(sizes) == regions * neurons // 8  # the patterns, and in the tree as many numbers
    assert "local models on demand" in repr(shallow)
    assert "on demand" not in repr(stored)


@pytest.mark.parametrize("name", ["residual", "30-5-4-2", "image", "classifier in a box"])
def test_copies_and_state(name: str) -> None:
    stored = stored_of(next(s for s in SOME if s.name == name))
    shallow, x = on_demand(stored), random_points(stored, 50)
    expected = shallow(x)
    other = on_demand(stored)
    for buffer in other.selection.stages.buffers():
        buffer.zero_()
    other.load_state_dict(shallow.state_dict())
    for found in (copy.deepcopy(shallow), pickle.loads(pickle.dumps(shallow)), other, shallow.half().train()):
        assert torch.equal(found(x), expected)
    assert not list(shallow.parameters())
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"selection.patterns\""):
        shallow.load_state_dict(stored.state_dict())
    assert shallow.to("meta")(x.to("meta")).shape == expected.shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch and its exporter
@pytest.mark.parametrize("name", thinned(["skip", "head"], "head"))
def test_what_torch_makes_of_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    stored, x, inside = shared(name), points_and_outsiders(name), points(name, 5)
    shallow, expected = on_demand(stored), stored(x)
    assert_close(vmap(shallow)(x), expected)
    assert_close(vmap(jacrev(shallow))(inside), vmap(jacrev(stored))(inside))
    assert_close(vmap(jacfwd(shallow))(inside), vmap(jacrev(stored))(inside))
    assert_close(torch.fx.symbolic_trace(shallow)(x), expected)
    torch.compiler.reset()
    compiled = torch.compile(shallow, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_close(compiled(x), expected)
    assert_close(gradient(compiled, inside), gradient(stored, inside))
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    assert_close(torch.export.export(shallow, (x,), dynamic_shapes=dynamic).module()(x[7:]), expected[7:])
    if name == "skip":
        assert_close(torch.from_numpy(run(session(shallow, x), x[7:])), expected[7:])


def test_patterns_of_another_network_are_not_loaded_into_the_partition() -> None:
    shallow = on_demand(transform(chain(2, 6, 1)))
    before, state = shallow.partition.packed_patterns.copy(), copy.deepcopy(shallow.state_dict())
    state["selection.patterns"] ^= 255
    with pytest.raises(RuntimeError, match=r"selection\.patterns: expected the activation patterns of this network"):
        shallow.load_state_dict(state)
    assert np.array_equal(shallow.partition.packed_patterns, before)


@pytest.mark.parametrize("specimen", SOME, ids=str)
def test_saved_without_local_models_and_loaded_as_such(specimen: Specimen, tmp_path: Path) -> None:
    stored = stored_of(specimen)
    expected, path = on_demand(stored), tmp_path / "network.safetensors"
    expected.save(path)
    found = ShallowReLU.load(path)
    assert not found.stores_maps
    assert_same(found, expected, points_of(stored))
    if specimen.name == "LeakyReLU":
        stored.save(tmp_path / "stored.safetensors")
        assert ShallowReLU.load(tmp_path / "stored.safetensors").stores_maps
        assert path.stat().st_size < (tmp_path / "stored.safetensors").stat().st_size


def test_changed_weights_are_not_dropped_in_silence(tmp_path: Path) -> None:
    shallow = on_demand(transform(chain(2, 6, 3, 1)))
    shallow.get_buffer("selection.stages.1.weight_1").mul_(2.0)
    for call in (lambda: shallow.save(tmp_path / "network.safetensors"), shallow.merge):
        with pytest.raises(TransformError, match=r"found a changed selection.stages.1.weight_1"):
            call()


@pytest.mark.parametrize("name", ["30-5-4-2", "no ReLU"])
def test_certified(name: str) -> None:
    specimen = next(s for s in SOME if s.name == name)
    shallow = on_demand(stored_of(specimen))
    certificate = shallow.certify(specimen.model())
    assert certificate.passed
    shallow.get_buffer("selection.stages.0.bias").add_(0.1)
    assert not certify(shallow, specimen.model()).passed


MERGED: tuple[tuple[torch.nn.Module, Domain], ...] = (
    (tent(4), Box(0.0, 1.0)),
    (identity(3, 3), Box(-1.0, 1.0)),
    (chain(2, 8, 5, 1), Box(-3.0, 3.0)),
)


@pytest.mark.parametrize(("model", "domain"), MERGED)
def test_merged(model: torch.nn.Module, domain: Domain, tmp_path: Path) -> None:
    stored = transform(model, domain=domain)
    shallow, x = on_demand(stored), random_points(stored, 50)
    assert shallow.num_linear_regions == stored.num_linear_regions
    found, expected = shallow.merge(), stored.merge()
    assert found.num_regions == expected.num_regions
    assert_same_function(found, expected, x)
    found.save(tmp_path / "merged.safetensors")
    assert_same(ShallowReLU.load(tmp_path / "merged.safetensors"), found, x)
    again = replace(stored.partition, mixed=np.zeros_like(stored.partition.packed_patterns))
    assert ShallowReLU(again, affine_maps(again, local_models=False), store_maps=False).merge().num_regions


def test_what_is_made_of_it() -> None:
    stored = transform(chain(2, 4, 3, 2), domain=Box(-1.0, 1.0))
    shallow, x = on_demand(stored), random_points(stored, 50)
    for one, other in zip(shallow.extended_weights(), stored.extended_weights(), strict=True):
        assert torch.allclose(one.weight, other.weight, rtol=1e-12, atol=1e-12)
        assert torch.allclose(one.bias, other.bias, rtol=1e-12, atol=1e-12)
    for one, other in (
        (shallow.to_sequential(), stored.to_sequential()),
        (shallow.soften(10.0), stored.soften(10.0)),
        (shallow.soften(10.0).harden(), stored.soften(10.0).harden()),
    ):
        assert torch.allclose(one(x), other(x), rtol=1e-9, atol=1e-9)
    assert shallow.continuity_gap().value <= 1e-12
    assert shallow.continuity_gap().facets == stored.continuity_gap().facets


def test_what_needs_stored_maps_is_refused() -> None:
    stored = transform(chain(2, 4, 2), domain=Box(-1.0, 1.0))
    shallow = on_demand(stored)
    with pytest.raises(TransformError, match=r"unfreeze: expected stored .* store_maps=True"):
        shallow.unfreeze()
    assert shallow.freeze() is shallow
    assert not shallow.may_be_discontinuous
    with pytest.raises(TransformError, match="maps: expected only half-spaces with store_maps=False"):
        ShallowReLU(stored.partition, affine_maps(stored.partition), store_maps=False)
    free = stored.soften(10.0).harden().partition
    with pytest.raises(TransformError, match=r"store_maps: .* found a FreeTree.* store_maps=True"):
        ShallowReLU(free, affine_maps(stored.partition, local_models=False), store_maps=False)
