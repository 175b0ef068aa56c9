"""A certificate passes for the network of a model, and fails, naming the place, for one that was tampered with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torch_shallow
from tests.cases import examples, thinned
from tests.search.programs import draw_domain, draw_program, mlp
from torch_shallow._transform import transform
from torch_shallow.certify import Certificate, certify
from torch_shallow.certify.cells import sign_by_programs
from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.domain import Box, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.geometry.rays.generators import generators
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.enumerate import enumerate_regions

pytestmark = pytest.mark.quick

CHECKS = ["interior points", "deep pattern", "deep Jacobian"]
PROVEN = ["tree", "proven error", *CHECKS, "equal, interior points", "equal, random points"]
SAMPLED = ["tree", *CHECKS, "cells", "linear programs"]
SAMPLED += [f"equal, {places}" for places in ("vertices", "facets", "interior points", "random points")]


class OfProgram(nn.Module):
    """The deep model of a program, stage by stage."""

    def __init__(self, program: ReLUProgram) -> None:
        super().__init__()
        rows = [(stage.weight, stage.bias) for stage in program.stages] + [(program.out_weight, program.out_bias)]
        self.layers = nn.ModuleList(nn.Linear(weight.shape[1], len(bias)).double() for weight, bias in rows)
        for layer, (weight, bias) in zip(self.layers, rows, strict=True):
            layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.cat([x, torch.relu(layer(x))], dim=1)
        return last(x)


def network(dense: bool = False) -> tuple[nn.Module, ShallowReLU]:
    program = mlp(2, 8, 6, 2)
    return OfProgram(program), ShallowReLU(enumerate_regions(program, Box(-3.0, 3.0)), dense=dense)


def failed(certificate: Certificate) -> list[str]:
    return [check.name for check in certificate.checks if not check.passed]


@examples(25)
@given(st.data())
def test_degenerate_networks_pass(data: st.DataObject) -> None:
    program = draw_program(data)
    try:
        partition = enumerate_regions(program, draw_domain(data, program.num_inputs))
    except TransformError:  # a polytope without interior
        return
    certificate = certify(ShallowReLU(partition), OfProgram(program), points=200)
    assert [check.name for check in certificate.checks] == PROVEN
    certificate.require()
    sampled = certify(ShallowReLU(partition), OfProgram(program), sample=20, points=200)
    assert [check.name for check in sampled.checks] == SAMPLED
    sampled.require()


@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0)])
def test_a_network_of_zeros_passes(domain: torch_shallow.Box | None) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.data.zero_()
    certificate = torch_shallow.transform(model, domain=domain).certify(model).require()
    assert certificate.max_error is not None
    assert certificate.max_error <= 1e-280


@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0), Box(0.5, [0.5, 1.0, np.inf]), Polytope(np.eye(3), [1, 1, 1])])
def test_all_models_pass(domain: torch_shallow.Box | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(inplace=True), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))
    shallow = torch_shallow.transform(model, domain=domain)
    before = copy.deepcopy(model.state_dict())
    for sample, names in ((None, PROVEN), (20, SAMPLED)):
        certificate = shallow.certify(model, sample=sample).require()
        assert certificate.passed
        assert certificate.failures == ()
        # The model is in float32, and is compared in float32 too.
        assert [check.name for check in certificate.checks] == [*names, "equal in float32, random points"]
        assert (certificate.max_error is None) is (sample is not None)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_report_says_what_was_examined() -> None:
    model, shallow = network()
    regions = shallow.num_regions
    certificate = certify(shallow, model, sample=7, cells=9, points=123)
    examined = {check.name: (check.examined, check.total, check.unit) for check in certificate.checks}
    assert examined["tree"] == examined["interior points"] == examined["deep Jacobian"] == (regions, regions, "regions")
    assert examined["cells"] == (9, regions, "regions")
    assert examined["linear programs"] == examined["equal, vertices"] == (7, regions, "regions")
    assert examined["equal, random points"] == (123, None, "points")
    lines = str(certificate).splitlines()
    assert lines[0] == (
        f"Certificate: passed. (2,) -> (2,), {regions} activation regions, {shallow.num_cuts} cuts by "
        f"{shallow.num_half_spaces} half-spaces, domain Box(lower=-3.0, upper=3.0)"
    )
    assert f"9 of {regions} regions" in lines[1 + 1 + SAMPLED.index("cells")]
    assert f"all {regions} regions" in lines[1 + 1 + SAMPLED.index("tree")]
    assert "123 points" in str(certificate)
    with pytest.raises(KeyError, match="'nothing' is no check; the checks are 'tree', "):
        certificate["nothing"]


def test_a_cell_of_too_many_rays_is_left_to_linear_programs() -> None:
    model, shallow = network()
    cells = certify(shallow, model, sample=3, max_rays=4)["cells"]
    assert cells.passed
    assert "cells of more than 4 rays were checked by linear programs" in cells.note
    few = certify(shallow, model, sample=3, max_rays=3)
    assert f"{shallow.num_regions} cells of more than 3 rays" in few["cells"].note
    assert few["equal, vertices"].examined == 3
    assert few["equal, vertices"].note.endswith("only some in 3 regions of more than 3 vertices and rays")
    assert few.passed


Tampering = Callable[[ShallowReLU], dict[str, int]]


def change_a_weight(shallow: ShallowReLU) -> dict[str, int]:
    shallow.selection.weights[5, 1, 0] += 1e-6
    return {"region": 5}


def change_a_bias(shallow: ShallowReLU) -> dict[str, int]:
    shallow.selection.biases[5, 1] += 1e-6
    return {"region": 5}


def move_a_half_space(shallow: ShallowReLU) -> dict[str, int]:
    shallow.half_spaces.offsets[shallow.function.half_space_of([3])] += 1e-3
    return {"neuron": int(shallow.partition.cut_neurons[3])}


def swap_children(shallow: ShallowReLU) -> dict[str, int]:
    shallow.indicator.tree[4, :2] = shallow.indicator.tree[4, :2].flip(0)
    return {"cut": 4}


def swap_children_everywhere(shallow: ShallowReLU) -> dict[str, int]:
    children = shallow.partition.children
    cut = int(np.flatnonzero((children < 0).any(axis=1))[0])
    children[cut] = children[cut, ::-1].copy()
    shallow.indicator.tree[:, :2] = torch.from_numpy(children)
    return {"region": ~int(children[cut].min())}


def forget_a_half_space(shallow: ShallowReLU) -> dict[str, int]:
    shallow.indicator.tree[6, 2] = shallow.num_half_spaces
    return {"cut": 6}


def make_a_circle(shallow: ShallowReLU) -> dict[str, int]:
    shallow.indicator.tree[5, 0] = 5
    return {"cut": 5}


def repeat_a_pattern(shallow: ShallowReLU) -> dict[str, int]:
    shallow.partition.packed_patterns[7] = shallow.partition.packed_patterns[6]
    return {"region": 7}


def flip_a_bit(shallow: ShallowReLU) -> dict[str, int]:
    shallow.partition.packed_patterns[7, 0] ^= 128
    return {"region": 7, "neuron": 0}


def move_a_point(shallow: ShallowReLU) -> dict[str, int]:
    shallow.partition.points[7] = shallow.partition.points[8]
    return {"region": 7}


def forget_a_region(shallow: ShallowReLU) -> dict[str, int]:
    partition = shallow.partition
    shallow.partition = dataclasses.replace(
        partition, packed_patterns=partition.packed_patterns[:-1], points=partition.points[:-1]
    )
    return {}


@pytest.mark.parametrize(
    ("tamper", "check"),
    [
        (change_a_weight, "deep Jacobian"),
        (change_a_bias, "equal, interior points"),
        (move_a_half_space, "cells"),
        (swap_children, "tree"),
        (swap_children_everywhere, "cells"),
        (make_a_circle, "tree"),
        (forget_a_half_space, "tree"),
        (repeat_a_pattern, "tree"),
        (flip_a_bit, "deep pattern"),
        (flip_a_bit, "cells"),
        (move_a_point, "interior points"),
        (forget_a_region, "tree"),
    ],
)
def test_tampering_is_found(tamper: Tampering, check: str) -> None:
    model, shallow = network(dense=False)
    place = tamper(shallow)
    certificate = certify(shallow, model, sample=10, points=500)
    assert not certificate.passed
    assert check in failed(certificate)
    found = certificate[check].failures
    assert any(all(getattr(failure, name) == value for name, value in place.items()) for failure in found)
    with pytest.raises(TransformError, match=rf"the shallow network is not the model:\n(.*\n)*{check}: FAILED at "):
        certificate.require()
    text = str(certificate)
    assert "FAILED" in text.splitlines()[0]
    assert all(f"{name} {value}" in text for name, value in place.items())


def test_a_wrong_mask_is_found() -> None:
    model, shallow = network(dense=True)
    assert certify(shallow, model, sample=3).passed
    masks = shallow.get_buffer("indicator.must_be_active")
    masks[4] = masks[5]
    assert certify(shallow, model, sample=3)["tree"].failures[0].region == 4


def test_two_regions_in_one_are_found() -> None:
    """A partition of P - 1 regions and P - 2 cuts, sound as a tree, in which two neighbours are one region."""
    model, shallow = network()
    partition = shallow.partition
    last = partition.num_regions - 1
    cut = partition.path(last)[-1][0]
    assert (partition.children[cut] < 0).all()
    kept = ~int(next(child for child in partition.children[cut] if child != ~last))
    children = np.delete(np.where(partition.children == cut, ~kept, partition.children), cut, axis=0)
    children = np.where(children > cut, children - 1, children)
    merged = dataclasses.replace(
        partition,
        children=children,
        cut_neurons=np.delete(partition.cut_neurons, cut),
        packed_patterns=partition.packed_patterns[:-1],
        points=partition.points[:-1],
    )
    proven = certify(ShallowReLU(merged), model)
    assert proven["tree"].passed
    assert {failure.region for failure in proven["proven error"].failures} == {kept}
    certificate = certify(ShallowReLU(merged), model, sample=1000)
    assert certificate["tree"].passed
    assert {"cells", "linear programs"} <= set(failed(certificate))
    assert {failure.region for failure in certificate["cells"].failures} == {kept}
    assert partition.cut_neurons[cut] in {failure.neuron for failure in certificate["linear programs"].failures}


def test_another_model_is_found() -> None:
    model, shallow = network()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.layers[0].weight[2, 0] += 1e-3
    certificate = certify(shallow, other, sample=10, points=500)
    assert {"deep Jacobian", "equal, interior points", "equal, random points"} <= set(failed(certificate))
    assert certificate["equal, random points"].failures[0].point is not None

    torch.manual_seed(1)
    smaller = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    certificate = certify(shallow, smaller, sample=10, points=500)
    assert certificate["deep pattern"].examined == 0
    assert "the model has 3 ReLUs, the network was made from 14" in str(certificate)


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_a_model_of_other_shapes_is_refused(sizes: tuple[int, int]) -> None:
    _, shallow = network()
    with pytest.raises(TransformError, match=r"model: .* [Cc]ertify with the model that was transformed"):
        shallow.certify(nn.Linear(*sizes).double())


def test_the_deep_model_is_the_model() -> None:
    """Pre-activations and Jacobians, for a batch dimension that is moved, a module used twice and work in place."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.linear(x)).T
            h = torch.relu_(h - 0.1)
            return self.linear(h.T) + (2.0 * x).relu_()

    torch.manual_seed(0)
    model = Model().double()
    shallow = torch_shallow.transform(model)
    shallow.certify(model, sample=5).require()
    program = shallow.partition.program
    x = np.random.default_rng(0).standard_normal((7, 3))
    deep = DeepModel(model, program)
    assert np.allclose(deep.preactivations(x), program.preactivations(x))
    assert np.allclose(deep.outputs(x), program(x))
    for point, jacobian in zip(x, deep.jacobians(x), strict=True):
        weight = program.affine_maps(program.pattern(point[None])[0])[2]
        assert np.allclose(jacobian, weight)


@examples(50)
@given(st.data())
def test_two_ways_to_the_sign_on_a_cone(data: st.DataObject) -> None:
    """The largest wrong value on the rays is positive if and only if the linear programs do not prove the sign."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dimension, rows = data.draw(st.integers(2, 5)), data.draw(st.integers(0, 9))
    half_spaces = rng.integers(-2, 3, (rows, dimension)).astype(float)
    half_spaces = half_spaces[half_spaces.any(axis=1)]
    half_spaces /= np.linalg.norm(half_spaces, axis=1, keepdims=True)
    found = generators(half_spaces, 1e-9, 1000)
    assert found is not None
    lines, rays = found
    if len(lines) + len(rays) == 0:
        return
    functions = rng.integers(-2, 3, (dimension, 20)).astype(float)
    functions[:, : len(half_spaces)] = half_spaces.T[:, :20]
    active = np.ones(20, dtype=bool)
    wrong = sign_by_programs(half_spaces, functions, np.ones(20), active, 1e-9)
    both = np.concatenate([np.abs(lines @ functions), -(rays @ functions)])
    assert ((both.max(axis=0) > 1e-8) == (wrong > 1e-8)).all()


class ZeroUpToRounding(nn.Module):
    """Half of its neurons are zero in exact arithmetic, and rounding errors in floats."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 600), nn.Linear(600, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(torch.relu(h) + torch.relu(3.0 * h - h - 2.0 * h))


def test_neurons_that_are_zero_up_to_rounding_are_no_alarm() -> None:
    torch.manual_seed(0)
    model = ZeroUpToRounding().double()
    shallow = transform(model, torch.zeros(1, 3).double(), domain=Box(-0.003, 0.003))
    shallow.certify(model, sample=20).require()


def test_rounding_errors_are_told_from_the_terms_of_all_layers() -> None:
    torch.manual_seed(0)
    model = ZeroUpToRounding().double()
    shallow = transform(model, torch.zeros(1, 3).double(), domain=Box(-0.003, 0.003))
    deep = DeepModel(model, shallow.partition.program)
    x = 0.003 * np.random.default_rng(0).uniform(-1.0, 1.0, (50, 3))
    neurons, outputs = deep.rounding(x)
    z = deep.preactivations(x)
    assert neurons.shape == z.shape
    assert outputs.shape == (50, 1)
    of_zero = z[:, 600:]
    assert np.abs(of_zero).max() > 0.0
    assert (np.abs(of_zero) <= ALLOWED * EPSILON * neurons[:, 600:]).all()
    assert (np.abs(z[:, :600]) > ALLOWED * EPSILON * neurons[:, :600]).mean() > 0.99
    nothing = deep.rounding(x, np.zeros(50, dtype=bool))
    assert not nothing[0].any()


@pytest.mark.parametrize("by_data", [False, True])
def test_hooks_that_change_values_fail(by_data: bool) -> None:
    model, seen = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)), []
    model[0].register_forward_pre_hook(lambda _, args: seen.append(args))
    shallow = transform(model, data=torch.rand(5, 3) if by_data else None)
    seen.clear()
    assert shallow.certify(model).require()["hooks"].examined > 0
    assert seen
    model[0].register_forward_pre_hook(lambda _, args: (2 * args[0],))
    certificate = shallow.certify(model)
    assert {check.name for check in certificate.checks if not check.passed} == {"hooks"}


@pytest.mark.parametrize("seed", range(5))
def test_regions_as_thin_as_the_tolerance_are_no_alarm(seed: int) -> None:
    torch.manual_seed(seed)
    first = nn.Linear(3, 8)
    with torch.no_grad():
        for neuron, apart in enumerate((1e-9, 1e-12, 1e-15, 1e-7), start=1):
            first.weight[neuron] = first.weight[0] * (1.0 + apart * torch.randn(3))
            first.bias[neuron] = first.bias[0] * (1.0 + apart)
    model = nn.Sequential(first.double(), nn.ReLU(), nn.Linear(8, 6).double(), nn.ReLU(), nn.Linear(6, 1).double())
    transform(model, domain=Box(-2.0, 2.0)).certify(model, sample=20).require()


@pytest.mark.parametrize("seed", thinned(range(10), "0", "1"))
def test_steep_terms_that_cancel_far_out_are_rounding_of_the_composed_map(seed: int) -> None:
    """Saturated one after the other, the model is constant to the last bit; a composed map has slopes of 1e-16."""
    generator = torch.Generator().manual_seed(seed)
    layers = [part for pair in ((3, 2), (2, 1), (1, 1)) for part in (nn.Linear(*pair), nn.Hardtanh())]
    model = nn.Sequential(*layers, nn.Linear(1, 3)).double()
    for parameter in model.parameters():
        parameter.data = 2.0 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    transform(model, torch.zeros(1, 3).double()).certify(model).require()


@pytest.mark.parametrize("seed", thinned(range(40), "0", "17"))
def test_there_is_no_false_alarm_on_a_cone_without_biases(seed: int) -> None:
    torch.manual_seed(seed)
    layers = [
        nn.Linear(3, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, 2, bias=False),
    ]
    for model in (nn.Sequential(*layers), nn.Sequential(*layers).double()):
        transform(model, domain=Polytope([[-1.0, -2.0, 3.0]], [0.0])).certify(model).require()
