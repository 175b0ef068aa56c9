"""A network out of a file is the network that went in."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.modules.laws import random_points
from tests.modules.visiting import SMALL, points_of, visited_of
from tests.zoo import ARCHITECTURES, DEGENERATE, PIECEWISE, WITH_HEAD, Specimen, chain
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.domain import WholeSpace
from torch_shallow.geometry.tree import FreeTree
from torch_shallow.modules import visited_relu as module
from torch_shallow.modules.visited_relu import VisitedReLU
from torch_shallow.program import extraction as extent
from torch_shallow.search.affine_maps import affine_maps
from torch_shallow.search.partition import Partition

SOME = (*DEGENERATE[:4], *ARCHITECTURES[3:8], *PIECEWISE[:1], *WITH_HEAD)
TRAINED = ("selection.", "local_models.")
VISITED = ("no ReLU in a box", "trap", "image")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.safetensors"


def through_file(shallow: ShallowReLU, path: Path | str) -> ShallowReLU:
    shallow.save(path)
    again = ShallowReLU.load(path)
    assert os.listdir(Path(path).parent) == [Path(path).name]  # nothing is left beside it
    return again


def assert_same(found: ShallowReLU, expected: ShallowReLU, x: Tensor) -> None:
    """Nothing that can be asked of two networks tells them apart."""
    assert type(found) is type(expected)
    assert found.extra_repr() == expected.extra_repr()
    shape = ("in_shape", "trunk_shape", "out_shape", "num_regions", "complete", "source_hash", "may_be_discontinuous")
    for name in shape:
        assert getattr(found, name) == getattr(expected, name), name
    assert torch.equal(found.locate(x), expected.locate(x))
    for method in ("forward", "trunk"):
        assert torch.equal(getattr(found, method)(x).nan_to_num(7.0), getattr(expected, method)(x).nan_to_num(7.0))
    for one, other in ((found, expected), (copy.deepcopy(found), expected)):
        first, second = one.state_dict(), other.state_dict()
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]
    for index in {0, found.num_regions - 1}:
        one, other = found.regions[index], expected.regions[index]
        assert repr(one) == repr(other)
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
        assert torch.equal(one.interior_point, other.interior_point)
        walls, others = one.half_spaces, other.half_spaces  # computed each time
        assert walls.names == others.names
        assert torch.equal(walls.neurons, others.neurons)
        assert torch.allclose(walls.A, others.A, rtol=1e-12, atol=1e-12)
        assert torch.allclose(walls.b, others.b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("specimen", SOME, ids=str)
def test_complete_networks(specimen: Specimen, path: Path) -> None:
    model = specimen.model()
    expected = transform(model, specimen.example(), domain=specimen.domain)
    found = through_file(expected, path)
    x = torch.cat([random_points(expected, 100), 5 * torch.randn(50, *specimen.in_shape, dtype=torch.float64)])
    assert_same(found, expected, x)
    assert repr(found.domain) == repr(expected.domain)
    for one, other in zip(found.domain.limits(found.in_shape), expected.domain.limits(found.in_shape), strict=True):
        assert np.array_equal(one, other)
    assert found.partition.method == expected.partition.method
    assert str(found.partition.program) == str(expected.partition.program)
    assert np.array_equal(found.partition.patterns(), expected.partition.patterns())
    assert torch.equal(found.regions[0].pattern, expected.regions[0].pattern)
    if found.num_regions < 50:
        for one, other in zip(found.extended_weights(), expected.extended_weights(), strict=True):
            assert torch.equal(one.weight, other.weight)
            assert torch.equal(one.bias, other.bias)
        assert torch.equal(found.regions[0].vertices(), expected.regions[0].vertices())


@pytest.mark.parametrize("name", ["trap", "residual", "classifier in a box", "30-5-4-2"])
def test_certificates_of_complete_networks(name: str, path: Path) -> None:
    specimen = next(s for s in SOME if s.name == name)
    model = specimen.model()
    expected = transform(model, specimen.example(), domain=specimen.domain)
    found = through_file(expected, path)
    certificate = found.certify(model)
    assert certificate.passed
    assert str(certificate) == str(expected.certify(model))


@pytest.mark.parametrize("specimen", [s for s in SMALL if s.name in VISITED], ids=str)
def test_networks_of_visited_regions(specimen: Specimen, path: Path) -> None:
    model = specimen.model()
    expected = visited_of(model, points_of(specimen, 40), specimen.domain)
    found = through_file(expected, path)
    more = points_of(specimen, 100, seed=1)
    assert isinstance(found, VisitedReLU)
    assert_same(found, expected, more)
    assert torch.equal(found.regions[0].pattern, expected.regions[0].pattern)
    assert found.grow(more) == expected.grow(more)
    assert torch.equal(found.locate(more), expected.locate(more))
    assert torch.allclose(found(more), expected(more), rtol=1e-10, atol=1e-10)


class Ways(nn.Module):
    """Code that is more than a chain of layers."""

    def __init__(self, way: Callable[[Ways, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.linear, self.norm = nn.Conv2d(1, 3, 2), nn.Linear(12, 3), nn.BatchNorm2d(3)
        self.way, self.constant = way, torch.rand(3)
        self.register_buffer("order", torch.tensor([2, 0, 1]), persistent=False)
        self.register_buffer("unused", torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


WAYS: dict[str, Callable[[Ways, Tensor], Tensor]] = {
    "normalised": lambda m, x: m.linear(m.norm(m.convolution(x)).relu().flatten(1)),
    "flattens batch": lambda m, x: (
        (m.convolution(x).permute(0, 2, 3, 1).reshape(-1, 3) - m.constant).relu().reshape(x.shape[0], 12)
    ),
    "in place": lambda m, x: m.linear(m.convolution(x).relu_().flatten(1)).relu_() - x[:, 0, :1, 0].relu(),
    "constants": lambda m, x: m.linear(m.convolution(x).abs().flatten(1)).sort(-1).values[:, m.order] + m.constant,
    "two heads": lambda m, x: m.convolution(x).relu().flatten(1).exp() * x.flatten(1).sum(1, keepdim=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_deep_networks_of_all_kinds(way: str, path: Path) -> None:
    torch.manual_seed(0)
    model, x = Ways(WAYS[way]).eval(), torch.randn(30, 1, 3, 3)
    expected = transform(model, data=x[:20])
    found = through_file(expected, path)
    assert_same(found, expected, x.double())
    assert found.grow(x) == expected.grow(x)
    assert torch.allclose(found(x), model(x), atol=1e-5)
    if way == "two heads":
        assert found.certify(model).passed
        assert torch.equal(through_file(found, path)(x), expected(x))  # what was loaded can be saved


class Scaled(nn.Module):
    """A head with numbers of its own, in every way that a module has them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.constant = nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([0.5])
        self.register_buffer("scale", torch.tensor([1.0, 2.0, torch.inf]))

    def forward(self, y: Tensor) -> Tensor:
        return torch.tanh(y * self.weight) / self.scale + torch.full((3,), 0.25, device=y.device)


@pytest.mark.parametrize(
    "head",
    [nn.LogSoftmax(-1), nn.Sequential(nn.GELU(), nn.LayerNorm(3)), Scaled()],
    ids=lambda head: type(head).__name__,
)
def test_heads(head: nn.Module, path: Path) -> None:
    torch.manual_seed(0)
    trunk = transform(chain(2, 5, 3).double())
    expected = ShallowReLU(trunk.partition, head=head.double())
    found = through_file(expected, path)
    x = torch.randn(50, 2, dtype=torch.float64)
    assert torch.allclose(found(x), expected(x), rtol=1e-12, atol=1e-12, equal_nan=True)
    assert torch.equal(found.trunk(x), expected.trunk(x))
    assert found(x.float()).dtype == torch.float32
    first, second = found.state_dict(), expected.state_dict()
    assert first.keys() == second.keys()
    assert {name: p.requires_grad for name, p in found.named_parameters()} == {
        name: p.requires_grad for name, p in expected.named_parameters()
    }


class Largest(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.argmax(-1)


def test_a_head_of_whole_numbers(path: Path) -> None:
    expected = ShallowReLU(transform(chain(2, 5, 3)).partition, head=Largest())
    x = torch.randn(50, 2)
    assert torch.equal(through_file(expected, path)(x), expected(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_converted_network_with_inputs_of_any_dtype(dtype: torch.dtype, path: Path) -> None:
    expected = transform(chain(2, 6, 1)).to(dtype)
    found, x = through_file(expected, path), torch.randn(20, 2, dtype=dtype)
    assert torch.equal(found(x), expected(x))


@pytest.mark.parametrize("data", [None, torch.randn(20, 2)], ids=["complete", "visited"])
def test_trained_local_models_are_kept_and_trained_further(data: Tensor | None, path: Path) -> None:
    torch.manual_seed(0)
    expected = transform(chain(2, 6, 1), data=data).unfreeze()
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            if name.startswith(TRAINED):
                parameter += torch.randn_like(parameter)
    found, x = through_file(expected, path), torch.randn(20, 2) if data is None else data
    assert_same(found, expected, x.double())
    assert found.may_be_discontinuous
    found(x).sum().backward()
    assert all(p.grad is not None for name, p in found.named_parameters() if name.startswith(TRAINED))
    frozen = through_file(found.freeze(), path)
    assert_same(frozen, found, x.double())
    assert frozen.may_be_discontinuous
    assert not [name for name, _ in frozen.named_parameters() if name.startswith(TRAINED)]


@pytest.mark.parametrize("bits", [None, 255])
def test_merged_regions(bits: int | None, path: Path) -> None:
    tree = transform(chain(2, 6, 1)).partition
    assert isinstance(tree, Partition)
    mixed = None if bits is None else np.full_like(tree.packed_patterns, bits)
    expected = ShallowReLU(replace(tree, mixed=mixed), affine_maps(tree))
    found = through_file(expected, path)
    kept = found.partition.mixed
    assert kept is None if mixed is None else np.array_equal(kept, mixed)
    assert_same(found, expected, torch.randn(50, 2, dtype=torch.float64))


def test_cuts_of_no_deep_network(path: Path) -> None:
    made = transform(chain(2, 6, 1), domain=Box(-1.0, [1.0, 2.0])).partition
    tree = FreeTree(
        in_shape=made.in_shape,
        out_shape=made.out_shape,
        domain=made.domain,
        chart=made.chart,
        children=made.children,
        points=made.points,
    )
    expected = ShallowReLU(tree, affine_maps(made))
    found = through_file(expected, path)
    assert isinstance(found.partition, FreeTree)
    assert_same(found, expected, torch.randn(50, 2, dtype=torch.float64))
    assert torch.equal(found.regions[1].vertices(), expected.regions[1].vertices())


def test_dense_or_not_is_kept(path: Path) -> None:
    tree = transform(chain(2, 6, 1)).partition
    for dense in (True, False):
        assert through_file(ShallowReLU(tree, dense=dense), path).dense is dense


def test_maps_that_are_not_stored(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(module, "STORED_BYTES", 0)
    expected = transform(chain(2, 6, 1), data=torch.randn(20, 2))
    found = through_file(expected, path)
    assert len(found.local_models) == 0
    assert_same(found, expected, torch.randn(50, 2, dtype=torch.float64))


def test_a_network_in_a_small_box_of_a_large_one(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(extent, "SMALL", 0)
    torch.manual_seed(0)
    model, x = chain(20, 40, 30, 2), torch.randn(20)
    expected = transform(model, domain=Box(x - 0.02, x + 0.02))
    assert expected.partition.program.whole is not None
    found = through_file(expected, path)
    assert_same(found, expected, (x + 0.02 * torch.rand(50, 20)).double())
    assert torch.equal(found.regions[0].pattern, expected.regions[0].pattern)
    assert found.certify(model).passed


def test_any_reader_of_safetensors_reads_the_tensors(path: Path) -> None:
    shallow = transform(chain(3, 5, 2))
    shallow.save(path)
    found = safetensors.torch.load_file(path)
    assert torch.equal(found["selection.weights"], shallow.selection.weights)
    assert np.array_equal(found["tree.points"].numpy(), shallow.partition.points)


def test_files_are_as_large_as_the_arrays(path: Path) -> None:
    torch.manual_seed(0)
    shallow = transform(chain(3, 16, 16, 3))
    shallow.save(path)
    tree = shallow.partition
    arrays = sum(tensor.nbytes for tensor in shallow.state_dict().values())
    arrays += tree.points.nbytes + tree.packed_patterns.nbytes + tree.cut_neurons.nbytes - 4 * tree.num_cuts
    assert arrays < path.stat().st_size < 1.1 * arrays + 10_000


def test_a_file_is_replaced_at_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    first, second = transform(chain(2, 3, 1)), transform(chain(2, 4, 1))
    assert through_file(first, path).num_regions == first.num_regions
    assert through_file(second, str(path)).num_regions == second.num_regions

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TransformError, match="No space left on device"):
        first.save(path)
    assert os.listdir(path.parent) == [path.name]
    assert ShallowReLU.load(path).num_regions == second.num_regions


def test_all_is_written_before_the_disk_is_asked_to_keep_it(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    kept = []
    monkeypatch.setattr(os, "fsync", lambda file: kept.append(os.pread(file, os.fstat(file).st_size, 0)))
    transform(chain(2, 3, 1)).save(path)
    assert kept == [path.read_bytes()]


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    def fail(*arguments: object) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(TransformError, match=r"^path: .*No space left on device"):
        transform(chain(2, 3, 1)).save(path)
    assert os.listdir(path.parent) == []


def test_the_same_network_gives_the_same_bytes(path: Path) -> None:
    through_file(transform(chain(2, 3, 1)), path)
    expected = path.read_bytes()
    for _ in range(5):
        ShallowReLU.load(path).save(path)
        assert path.read_bytes() == expected


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("network")
    transform(chain(2, 3, 1)).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert ShallowReLU.load(tmp_path / "network").num_regions > 0


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    through_file(transform(chain(2, 3, 1)), tmp_path / ("n" * 255))


@pytest.mark.parametrize("wrong", [3, None, "", "a\0b", b"bytes", "\ud800"], ids=repr)
def test_paths_that_are_none(monkeypatch: pytest.MonkeyPatch, wrong: object) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=r"^path: expected a path"):
        transform(chain(2, 3, 1)).save(wrong)


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    shallow = transform(chain(2, 3, 1))
    with pytest.raises(TransformError, match=r"^path: .*expected a file in a writable folder"):
        shallow.save(tmp_path / "none" / "network")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, ".", "/", tmp_path / "pipe"):
        with pytest.raises(
            TransformError, match=r"^path: .*expected the name of a file, found a (folder|device or a pipe)"
        ):
            shallow.save(path)


class Random(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y + torch.rand_like(y)


class Fixed(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return torch.linalg.inv(torch.diag_embed(y.exp()))


class OfOneSize(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return torch.cdist(y, torch.eye(2, dtype=y.dtype))


@pytest.mark.parametrize(
    ("head", "found"),
    [(Random(), "aten.rand"), (Fixed(), "aten.linalg_inv_ex"), (OfOneSize(), "torch.export cannot trace")],
    ids=["random", "no core operation", "of one size"],
)
def test_a_head_that_cannot_be_written(head: nn.Module, found: str, path: Path) -> None:
    shallow = ShallowReLU(transform(chain(2, 3, 2)).partition, head=head)
    with pytest.raises(TransformError, match=rf"path: expected a network whose head .*{found}.*shallow.head = None"):
        shallow.save(path)
    assert not path.exists()


def test_a_tree_from_the_state_of_another_network(path: Path) -> None:
    shallow = transform(chain(2, 3, 1))
    shallow.indicator.tree = shallow.indicator.tree[:, [1, 0, 2]]
    with pytest.raises(TransformError, match="runs on the tree of its partition"):
        shallow.save(path)


def test_domains_of_ones_own(path: Path) -> None:
    class Everywhere(WholeSpace):
        """As all of R^n."""

    with pytest.raises(TransformError, match="found a Everywhere"):
        transform(chain(2, 3, 1), domain=Everywhere()).save(path)
