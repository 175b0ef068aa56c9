"""A network that knows some of its regions is the whole one there, and nothing elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev, vmap

from tests.modules.opened import everywhere, network_of, opened, part_of, some_codes
from tests.modules.torch_networks import assert_same, model_of, shared
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.certify import Certificate, certify
from torch_shallow.modules.files import container
from torch_shallow.search.affine_maps import affine_maps

NAMES = ("descent", "descent in a box", "descent in a polytope", "image", "projected", "skip", "head")
FEW = ("descent in a polytope", "projected", "head")


def numbers_of(name: str) -> Tensor:
    """The number that each region of the whole network has in the part, behind the last one -1."""
    part, shallow = part_of(name)
    numbers = torch.full((shared(name).num_regions + 1,), -1)
    numbers[torch.from_numpy(part.regions)] = torch.arange(shallow.num_regions)
    return numbers


def own(name: str) -> ShallowReLU:
    return copy.deepcopy(part_of(name)[1])


@pytest.mark.parametrize("name", NAMES)
def test_points_are_located_exactly_in_the_regions_that_were_kept(name: str) -> None:
    part, shallow = part_of(name)
    x = everywhere(name)
    region = shallow.locate(x)
    assert torch.equal(region, numbers_of(name)[shared(name).locate(x)])
    assert 0 < (region >= 0).sum() < len(x)
    assert not shallow.complete
    assert shallow.num_regions == len(part.regions)
    assert shallow.coverage(x) == float((region >= 0).double().mean())


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_the_models_there_and_nan_elsewhere(name: str) -> None:
    shallow, whole, x = part_of(name)[1], shared(name), everywhere(name)
    known = shallow.locate(x) >= 0
    assert torch.equal(shallow(x)[known], whole(x)[known])
    assert torch.equal(shallow.trunk(x)[known], whole.trunk(x)[known])
    with torch.no_grad():
        torch.testing.assert_close(shallow(x)[known].double(), model_of(name)(x)[known].double(), rtol=1e-7, atol=1e-7)
    for y in (shallow(x), shallow.trunk(x), shallow.local_map(x)[0], shallow.local_map(x)[1]):
        assert y[~known].isnan().all()
        assert y[known].isfinite().all()
    for mine, other in zip(shallow.local_map(x), whole.local_map(x), strict=True):
        assert torch.equal(mine[known], other[known])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]))
def test_any_subtrees_may_be_open(seed: int, share: float) -> None:
    whole = shared("descent in a box")
    part = opened(whole.partition, some_codes(whole.partition, np.random.default_rng(seed), share))
    tree = part.partition
    assert tree.num_cuts + 1 == tree.num_regions + len(tree.open_cells)
    assert tree.complete == (len(tree.open_cells) == 0)
    assert [tree.children[code // 2, code % 2] for code in tree.open_cells] == [~tree.num_regions] * len(
        tree.open_cells
    )
    for region in range(tree.num_regions):
        before = whole.partition.path(int(part.regions[region]))
        assert [(int(part.cuts[cut]), side) for cut, side in tree.path(region)] == before
    shallow, x = network_of(part, whole), everywhere("descent in a box")
    numbers = torch.full((whole.num_regions + 1,), -1)
    numbers[torch.from_numpy(part.regions)] = torch.arange(tree.num_regions)
    assert torch.equal(shallow.locate(x), numbers[whole.locate(x)])


@pytest.mark.parametrize("name", FEW)
def test_regions_are_those_of_the_whole_network(name: str) -> None:
    (part, shallow), whole = part_of(name), shared(name)
    assert len(shallow.regions) == shallow.num_regions
    for number in range(0, shallow.num_regions, 1 + shallow.num_regions // 5):
        region, other = shallow.regions[number], whole.regions[int(part.regions[number])]
        assert region.half_spaces.names == other.half_spaces.names
        for tensor in ("weight", "bias", "pattern", "interior_point"):
            assert torch.equal(getattr(region, tensor), getattr(other, tensor))
        for method in ("vertices", "rays", "lines"):
            assert torch.equal(getattr(region, method)(), getattr(other, method)())
        assert region.facets().names == other.facets().names
        assert region.contains(region.interior_point)
    assert shallow.num_linear_regions <= whole.num_linear_regions


@pytest.mark.parametrize("name", FEW)
def test_local_models_need_no_other_regions(name: str) -> None:
    whole = shared(name)
    path = whole.partition.path(whole.num_regions // 2)
    part = opened(whole.partition, {2 * cut + (not side) for cut, side in path})  # one region is left
    assert part.partition.num_regions == 1
    found, expected = affine_maps(part.partition), affine_maps(whole.partition)
    assert np.array_equal(found.normals, expected.normals[part.cuts])
    assert np.array_equal(found.offsets, expected.offsets[part.cuts])
    assert np.array_equal(found.weights, expected.weights[part.regions])
    assert np.array_equal(found.biases, expected.biases[part.regions])


@pytest.mark.parametrize("name", FEW)
def test_without_stored_local_models(name: str, tmp_path: Path) -> None:
    (part, stored), x = part_of(name), everywhere(name)
    ShallowReLU(part.partition, head=shared(name).head, store_maps=False).save(tmp_path / "network")
    shallow = ShallowReLU.load(tmp_path / "network")
    assert not shallow.stores_maps
    assert torch.equal(shallow.locate(x), stored.locate(x))
    assert_same(shallow(x), stored(x), 1e-9)
    assert certify(shallow, model_of(name), sample=5, points=100).passed


# With the rest of torch.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
@pytest.mark.parametrize("name", FEW)
def test_compiled(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch.compiler.reset()
    shallow, x = own(name), everywhere(name, 40)
    compiled = torch.compile(shallow, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_same(compiled(x), shallow(x))
    assert_same(compiled(x[:7]), shallow(x[:7]))


@pytest.mark.parametrize("name", FEW)
def test_exported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow, x, file = own(name), everywhere(name, 40), BytesIO()
    torch.export.save(torch.export.export(shallow, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), file)
    file.seek(0)
    assert_same(torch.export.load(file).module()(x[:33]), shallow(x[:33]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporter
@pytest.mark.slow
def test_in_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow, x, file = own("descent in a polytope"), everywhere("descent in a polytope"), BytesIO()
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(shallow, (x,), dynamo=True, dynamic_shapes=dynamic, verbose=False).save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_same(torch.from_numpy(y), shallow(x))


@pytest.mark.parametrize("name", FEW)
def test_in_torch_func(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shallow, x = part_of(name)[1], everywhere(name, 40)
    assert_same(vmap(shallow)(x), shallow(x))
    known = shallow.locate(x) >= 0
    assert_same(vmap(jacrev(shallow))(x)[known], vmap(jacrev(shared(name)))(x)[known])


@pytest.mark.parametrize("name", FEW)
def test_gradients_of_known_points_do_not_see_the_others(name: str) -> None:
    shallow, x = own(name), everywhere(name, 40).requires_grad_()
    known = shallow.locate(x) >= 0
    shallow.unfreeze()
    shallow(x)[known].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in shallow.parameters())
    assert shallow.freeze().may_be_discontinuous


# Files.


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str, tmp_path: Path) -> None:
    shallow, x = part_of(name)[1], everywhere(name)
    shallow.save(tmp_path / "network")
    again = ShallowReLU.load(tmp_path / "network")
    assert not again.complete
    assert again.extra_repr() == shallow.extra_repr()
    assert again.source_hash == shallow.source_hash
    assert torch.equal(again.locate(x), shallow.locate(x))
    assert torch.equal(again(x).nan_to_num(7.0), shallow(x).nan_to_num(7.0))
    found, expected = again.partition, shallow.partition
    for array in ("children", "cut_neurons", "packed_patterns", "points"):
        assert np.array_equal(getattr(found, array), getattr(expected, array))
    for array in ("origin", "directions", "inequalities", "inner"):
        assert np.array_equal(getattr(found.chart, array), getattr(expected.chart, array))
    assert found.method == expected.method
    (tmp_path / "other").mkdir()
    again.save(tmp_path / "other" / "network")
    assert (tmp_path / "network").read_bytes() == (tmp_path / "other" / "network").read_bytes()


def test_a_forged_number_of_open_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network"
    part_of("descent")[1].save(path)
    _, description, tensors = container.read(path.read_bytes())
    container.write(path, {**description, "open_cells": description["open_cells"] - 1}, tensors)
    with pytest.raises(TransformError, match=r"expected a tensor '.*' of shape"):
        ShallowReLU.load(path)


# What needs all regions.

REFUSALS: dict[str, Callable[[ShallowReLU], object]] = {
    "extended_weights": lambda shallow: shallow.extended_weights(),
    "to_sequential": lambda shallow: shallow.to_sequential(),
    "continuity_gap": lambda shallow: shallow.continuity_gap(),
    "soften": lambda shallow: shallow.soften(1.0),
    "merge": lambda shallow: shallow.merge(),
    "grow": lambda shallow: shallow.grow(everywhere("descent in a box")),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_needs_all_regions(name: str) -> None:
    _, shallow = part_of("descent in a box")
    message = rf"^{name}: .*, but this network is incomplete: \d+ cells of its domain are unexplored; go on with "
    with pytest.raises(TransformError, match=message + r"shallow\.resume\(model\)\.$"):
        REFUSALS[name](shallow)


def test_masks_need_all_regions() -> None:
    tree = part_of("dense in a box")[0].partition
    message = rf"dense: expected a complete partition, found one with {len(tree.open_cells)} unexplored cells; .*resume"
    with pytest.raises(TransformError, match=message):
        ShallowReLU(tree, dense=True)


def test_a_head_of_whole_numbers() -> None:
    class Label(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return y.argmax(-1)

    (part, _), whole = part_of("descent"), shared("descent")
    shallow = ShallowReLU(part.partition, head=Label())
    x = everywhere("descent")
    known = shallow.locate(x) >= 0
    assert torch.equal(shallow(x[known]), whole(x[known]).argmax(-1))
    message = rf"x: expected inputs in known .* found {int((~known).sum())} of {len(x)} outside them.*locate\(\) is -1"
    with pytest.raises(TransformError, match=message):
        shallow(x)


def test_it_says_what_it_is() -> None:
    whole = shared("descent")
    one = opened(whole.partition, {2 * cut + side for cut, side in whole.partition.path(1)[-1:]})
    shallow = ShallowReLU(one.partition)
    assert repr(shallow).count("incomplete: 1 unexplored cell)") == 0
    assert ", incomplete: 1 unexplored cell" in repr(shallow)
    found = f"(indicator): Indicator({shallow.num_regions} regions, {shallow.num_cuts} cuts, tree descent)"
    assert found in repr(shallow)
    assert shallow.missing.startswith("this network is incomplete: 1 cell of its domain is unexplored; ")
    assert "incomplete" not in repr(whole)
    assert whole.missing == ""


def test_weights_of_another_part_are_refused() -> None:
    whole = shared("descent")
    pairs = [opened(whole.partition, {code}) for code in (2 * cut + side for cut, side in _last_steps(whole, 2))]
    first, second = (ShallowReLU(part.partition) for part in pairs)
    with pytest.raises(RuntimeError, match="the tree of cuts of this network, found that of another network"):
        first.load_state_dict(second.state_dict())


def _last_steps(whole: ShallowReLU, count: int) -> list[tuple[int, bool]]:
    return [whole.partition.path(region)[-1] for region in range(1, 1 + count)]


# Certificates.


def failed(certificate: Certificate) -> set[str]:
    return {check.name for check in certificate.checks if not check.passed}


@pytest.mark.parametrize("name", NAMES)
def test_certificates_pass_and_say_that_there_is_more(name: str) -> None:
    _, shallow = part_of(name)
    cells = len(shallow.partition.open_cells)
    certificate = certify(shallow, model_of(name), sample=20, points=500).require()
    text = str(certificate)
    assert f"incomplete: {cells} unexplored cells" in text.splitlines()[0]
    assert f"tree: of {shallow.partition.num_cuts + 1:,} leaves {cells:,} are unexplored cells, of which" in text
    assert {check.unit for check in certificate.checks} == {"known regions", "points"}
    random, silence = certificate["equal, random points"], certificate["known or NaN"]
    assert 0 < random.examined < 500
    assert f"{500 - random.examined:,} other points lie in unexplored cells" in random.note
    assert silence.note.startswith("NaN at ")
    assert 0 < silence.examined <= 500


def test_a_certificate_in_float32() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    whole = transform(model, domain=Box(-2.0, 2.0))
    part = opened(whole.partition, some_codes(whole.partition, np.random.default_rng(0), 0.1))
    certificate = ShallowReLU(part.partition).certify(model, sample=10).require()
    assert 0 < certificate["equal in float32, random points"].examined < 10_000


def a_weight(shallow: ShallowReLU) -> None:
    shallow.selection.weights[5, 1, 0] += 1e-3


def a_half_space(shallow: ShallowReLU) -> None:
    shallow.half_spaces.rows[3, -1] += 1e-2


def a_pattern(shallow: ShallowReLU) -> None:
    packed = shallow.partition.packed_patterns.copy()
    packed[5, 0] ^= 128
    shallow.partition = replace(shallow.partition, packed_patterns=packed)


def _with_children(shallow: ShallowReLU, change: Callable[[np.ndarray], Any]) -> None:
    children = shallow.partition.children.copy()
    change(children)
    shallow.partition = replace(shallow.partition, children=children)
    shallow.indicator.tree[:, :2] = torch.from_numpy(children)


def a_region_is_open(shallow: ShallowReLU) -> None:
    _with_children(shallow, lambda children: children.__setitem__(children == ~5, ~shallow.num_regions))


def an_open_cell_is_a_region(shallow: ShallowReLU) -> None:
    def swap(children: np.ndarray) -> None:
        cut = int(np.flatnonzero((children == ~shallow.num_regions).any(axis=1) & (children.min(axis=1) < 0))[0])
        children[cut] = children[cut, ::-1].copy()

    _with_children(shallow, swap)


def only_the_network(shallow: ShallowReLU) -> None:
    shallow.indicator.num_regions += 1


@pytest.mark.parametrize(
    ("tamper", "checks"),
    [
        (a_weight, {"deep Jacobian", "equal, interior points"}),
        (a_half_space, {"proven error", "cells"}),
        (a_pattern, {"deep pattern", "proven error", "cells", "linear programs"}),
        (a_region_is_open, {"tree"}),
        (an_open_cell_is_a_region, {"interior points", "proven error", "cells"}),
        (only_the_network, {"tree"}),
    ],
)
def test_certificates_fail_where_something_is_false(tamper: Callable[[ShallowReLU], None], checks: set[str]) -> None:
    shallow, model = own("descent in a box"), model_of("descent in a box")
    tamper(shallow)
    proven, sampled = certify(shallow, model, points=500), certify(shallow, model, sample=1000, points=500)
    assert checks <= failed(proven) | failed(sampled)
    assert not proven.passed


def test_silence_about_a_known_region_is_found() -> None:
    """The half-space of a cut moves into a known region: what it loses of its region becomes a part of an open cell."""
    shallow, model = own("descent in a box"), model_of("descent in a box")
    half_spaces = shallow.half_spaces.rows
    half_spaces[:, -1] -= 0.05 * half_spaces[:, :-1].norm(dim=1)
    certificate = certify(shallow, model, points=2000)
    assert "known or NaN" in failed(certificate)
    assert "output NaN" in str(certificate["known or NaN"].failures[0]) + str(certificate["known or NaN"].failures)
