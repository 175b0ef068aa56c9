"""The compiled operators against the operations of torch, which other devices use."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cases import thinned
from tests.modules.torch_networks import NAMES, network, points, points_and_outsiders, shared
from torch_shallow import transform
from torch_shallow.functions import tree_function
from torch_shallow.functions.operators.locate import level_by_level
from torch_shallow.functions.operators.plain import PlainTree, TreeTensors, is_plain, project
from torch_shallow.functions.operators.select import gathered, scattered

SAME = {"rtol": 0.0, "atol": 0.0}


def random_tree(cuts: int, rng: np.random.Generator, open_share: float = 0.0) -> tuple[Tensor, int]:
    """A tree of any shape, in which children come after their parents, and its number of regions; at least one."""
    children, free = np.zeros((cuts, 2), dtype=np.int64), []
    for cut in range(cuts):
        if cut:
            parent, side = free.pop(int(rng.integers(len(free))))
            children[parent, side] = cut
        free += [(cut, 0), (cut, 1)]
    regions = max(1, int((rng.random(len(free)) >= open_share).sum()))
    for number, at in enumerate(rng.permutation(len(free))):
        children[free[at]] = ~min(number, regions)
    return torch.from_numpy(children), regions


@given(
    st.integers(0, 200), st.integers(0, 40), st.integers(1, 9), st.sampled_from(["space", "box", "polytope"]), st.data()
)
def test_both_ways_down_the_tree_end_alike(cuts: int, count: int, inputs: int, kind: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    half_spaces = int(rng.integers(1, cuts + 2))
    rows = torch.from_numpy(rng.integers(-3, 4, (half_spaces, inputs + 1)).astype(np.float64))
    children, regions = random_tree(cuts, rng, data.draw(st.sampled_from([0.0, 0.3, 1.0])))
    tree = torch.column_stack([children, torch.from_numpy(rng.integers(0, half_spaces, cuts))])
    x = torch.from_numpy(rng.choice([0.0, 1.0, -1.0, 0.5, 3.0, np.nan, np.inf], (count, inputs)))
    x = x.to(data.draw(st.sampled_from([torch.float32, torch.float64])))
    limits: tuple[Tensor | None, Tensor | None] = (None, None)
    if kind == "box":
        limits = (torch.full((inputs,), -1.0, dtype=torch.float64), torch.full((inputs,), 1.0, dtype=torch.float64))
    elif kind == "polytope":
        limits = (torch.from_numpy(rng.integers(-1, 2, (3, inputs)).astype(np.float64)), torch.ones(3).double())
    found = torch.ops.torch_shallow.locate(x, x, *limits, rows, tree, cuts, regions, 1e-7)
    assert torch.equal(found, level_by_level(x, x, *limits, rows, tree, cuts, regions, 1e-7))
    for point, region in zip(x, found, strict=True):
        node = 0 if cuts else ~0
        while node >= 0:
            row = rows[tree[node, 2]]
            node = int(tree[node, int(row[:-1] @ point.double() + row[-1] > 0.0)])
        assert region in ((-1, ~node) if ~node < regions else (-1,))


@given(st.integers(1, 20), st.integers(0, 40), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.data())
def test_both_selections_are_one(
    regions: int, count: int, outputs: int, inputs: int, transposed: bool, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    weights = torch.randn(regions, outputs, inputs, dtype=torch.float64, generator=generator)
    biases = torch.randn(regions, inputs if transposed else outputs, dtype=torch.float64, generator=generator)
    given_biases = None if transposed or data.draw(st.booleans()) else biases
    region = torch.randint(-1, regions, (count,), generator=generator)
    u = torch.randn(count, outputs if transposed else inputs, dtype=torch.float64, generator=generator)
    u[region < 0] = torch.nan
    found = torch.ops.torch_shallow.select(weights, given_biases, region, u, transposed)
    torch.testing.assert_close(found, gathered(weights, given_biases, region, u, transposed), equal_nan=True)
    g = torch.randn(count, outputs, dtype=torch.float64, generator=generator)
    rows = (u, g) if transposed else (g, u)
    sums = torch.ops.torch_shallow.collect(region, *rows, regions)
    torch.testing.assert_close(sums, scattered(region, *rows, regions))
    assert sums.isfinite().all()


@pytest.mark.parametrize("name", thinned(NAMES, "dense", "descent in a box", "projected"))
def test_torch_checks_the_operators(name: str) -> None:
    shallow, x = shared(name), points_and_outsiders(name).flatten(1)
    u = shallow.half_spaces.coordinates(x)
    limits = shallow.first_limit, shallow.second_limit
    indicator = shallow.indicator
    tree = shallow.half_spaces.rows, indicator.tree, indicator.depth, indicator.num_regions, 1e-16
    torch.library.opcheck(torch.ops.torch_shallow.locate.default, (u, x, *limits, *tree))
    inner = points(name).flatten(1)
    region = shallow.locate(inner.reshape(-1, *shallow.in_shape))
    u, local = shallow.half_spaces.coordinates(inner), shallow.selection
    torch.library.opcheck(torch.ops.torch_shallow.select.default, (local.weights, local.biases, region, u, False))
    g = torch.ones(len(u), local.weights.shape[1], dtype=torch.float64)
    torch.library.opcheck(torch.ops.torch_shallow.collect.default, (region, g, u, shallow.num_regions))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_plain_tensors_get_the_same_bits_in_one_loop(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = shared(name)
    x = torch.cat([points_and_outsiders(name), points(name)]).to(dtype)
    batches = (x, x[:1], x[0], x[:0])
    plain, calls = PlainTree.evaluate, []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return plain(*arguments)

    monkeypatch.setattr(PlainTree, "evaluate", counted)
    found = [shallow(batch) for batch in batches]
    assert len(calls) == (0 if shallow.dense else len(batches))
    monkeypatch.setattr(tree_function, "is_plain", lambda *_: False)
    for batch, y in zip(batches, found, strict=True):
        torch.testing.assert_close(y, shallow(batch), rtol=0.0, atol=0.0, equal_nan=True)


def near_the_cuts(name: str, dtype: torch.dtype) -> Tensor:
    """Points on the half-spaces' boundaries as nearly as numbers allow, their neighbours, and points of all sizes."""
    shallow, rows = shared(name), shared(name).half_spaces.rows
    inner = points(name, len(rows)).flatten(1)
    back = shallow.half_spaces.projection
    normals = rows[:, :-1] if back is None else rows[:, :-1] @ back
    height = (normals * inner).sum(1) + rows[:, -1]
    on_cuts = (inner - (height / normals.square().sum(1))[:, None] * normals).to(dtype)
    far = torch.full_like(on_cuts, torch.inf)
    sizes = [inner.to(dtype) * factor for factor in (0.0, -0.0, 1e-40, 1e-12, 1e12, 1e38, float("nan"), float("inf"))]
    return torch.cat([on_cuts, torch.nextafter(on_cuts, far), torch.nextafter(on_cuts, -far), *sizes])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("dense")])
def test_eight_half_spaces_at_once_decide_as_each_does(name: str, dtype: torch.dtype) -> None:
    """The first few points descend cut by cut, the others by blocks."""
    shallow = network(name)
    x = torch.cat([near_the_cuts(name, dtype), points_and_outsiders(name).flatten(1).to(dtype)])
    x = x.reshape(-1, *shallow.in_shape)
    few = (shallow.num_cuts - 1) // 2
    by_cuts = []
    for part in x.split(max(few, 1)):
        shallow.indicator.plain = PlainTree()
        by_cuts.append(shallow(part))
        assert few == 0 or shallow.num_cuts == 0 or not shallow.indicator.plain._kept.in_blocks
    y = shallow(torch.cat([x] * (1 + shallow.num_cuts // len(x))))[: len(x)]
    assert shallow.indicator.plain._kept.in_blocks == (shallow.num_cuts > 0)
    torch.testing.assert_close(y, torch.cat(by_cuts), rtol=0.0, atol=0.0, equal_nan=True)
    region = shallow.locate(x)
    assert torch.equal(y.flatten(1).isnan().all(1), region < 0)


@given(
    st.integers(1, 300),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from(["space", "box", "polytope"]),
    st.data(),
)
def test_blocks_of_any_tree_end_where_its_cuts_do(
    cuts: int, count: int, inputs: int, outputs: int, kind: str, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    half_spaces = int(rng.integers(1, cuts + 2))
    rows = torch.from_numpy(rng.integers(-3, 4, (half_spaces, inputs + 1)).astype(np.float64))
    children, regions = random_tree(cuts, rng, data.draw(st.sampled_from([0.0, 0.3, 1.0])))
    tree = torch.column_stack([children, torch.from_numpy(rng.integers(0, half_spaces, cuts))])
    x = torch.from_numpy(rng.choice([0.0, 1.0, -1.0, 0.5, 3.0, np.nan, np.inf], (max(count, cuts), inputs)))
    x = x.to(data.draw(st.sampled_from([torch.float32, torch.float64])))
    limits: tuple[Tensor | None, Tensor | None] = (None, None)
    if kind == "box":
        limits = (torch.full((inputs,), -1.0, dtype=torch.float64), torch.full((inputs,), 1.0, dtype=torch.float64))
    elif kind == "polytope":
        limits = (torch.from_numpy(rng.integers(-1, 2, (3, inputs)).astype(np.float64)), torch.ones(3).double())
    weights, biases = torch.from_numpy(rng.standard_normal((regions, outputs, inputs))), torch.zeros(regions, outputs)
    tensors = TreeTensors(None, rows, tree, *limits, weights, biases.double())
    plain = PlainTree()
    y, region = plain.evaluate(x, tensors, regions, 1e-7)
    assert plain._kept is not None
    assert plain._kept.in_blocks
    expected = torch.ops.torch_shallow.locate(x, x, *limits, rows, tree, cuts, regions, 1e-7)
    assert torch.equal(region, expected)
    values = torch.ops.torch_shallow.select(weights, biases.double(), region, x, False)
    torch.testing.assert_close(y, values, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_may_read_nothing(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight.zero_()
    shallow, x = transform(model), torch.randn(1000, 5).to(dtype)
    assert shallow.half_spaces.projection.shape == (0, 5)
    x[::7, 2], x[::11, 4] = torch.nan, torch.inf
    y = shallow(x)
    known = x.isfinite().all(1)
    assert torch.equal(y[known], model(torch.zeros(5, dtype=torch.float64)).to(dtype).expand(int(known.sum()), 2))
    assert y[~known].isnan().all()
    assert torch.equal(shallow.locate(x) >= 0, known)


def test_blocks_follow_their_tensors() -> None:
    name = "descent in a box"
    shallow, x = network(name), points(name, 2000)
    before = shallow(x)
    for change in (
        lambda: shallow.half_spaces.rows.neg_(),
        lambda: setattr(shallow.half_spaces, "rows", -shallow.half_spaces.rows),
        lambda: shallow.indicator.tree.copy_(shallow.indicator.tree[:, [1, 0, 2]]),
        lambda: shallow.second_limit.fill_(0.0),
        lambda: shallow.selection.weights.mul_(2.0),
        lambda: setattr(shallow.selection, "weights", shallow.selection.weights.mT.contiguous().mT),
        lambda: shallow.selection.weights.mul_(0.5),
    ):
        with torch.inference_mode():
            change()
        y = shallow(x)
        assert shallow.indicator.plain._kept.in_blocks
        shallow.indicator.plain = PlainTree()
        torch.testing.assert_close(y, torch.cat([shallow(point) for point in x.split(1)]), equal_nan=True, **SAME)
    assert not torch.equal(before, y)
    for copied in (copy.deepcopy(shallow), pickle.loads(pickle.dumps(shallow))):
        assert copied.indicator.plain._kept is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("coordinates", "inputs"), [(0, 3), (1, 1), (7, 20), (8, 3), (17, 40)])
def test_projected_points_are_products(coordinates: int, inputs: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(coordinates, inputs, dtype=torch.float64, generator=generator)
    x = torch.randn(9, inputs, generator=generator).to(dtype)
    u = project(x, matrix)
    assert u.is_contiguous()
    torch.testing.assert_close(u, x.double() @ matrix.T)
    assert torch.equal(project(x[:1], matrix), u[:1])


class Watched(TorchDispatchMode):
    """Sees all operators."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_who_watches_derives_or_traces_has_operators() -> None:
    shallow, x = shared("descent in a box"), points("descent in a box")
    tensors = shallow.half_spaces.rows, shallow.selection.weights, None
    assert is_plain(x, *tensors)
    with Watched() as watched:
        shallow(x)
    assert any("torch_shallow.locate" in name for name in watched.seen)
    assert not is_plain(x.clone().requires_grad_(), *tensors)
    assert not is_plain(x, x.clone().requires_grad_())
    assert not is_plain(x, x.float())
    assert not is_plain(nn.Parameter(x), *tensors)
    assert not is_plain(torch.empty(2, 2, device="meta"), *tensors)
    asked: list[bool] = []

    def asking(rows: Tensor) -> Tensor:
        asked.append(is_plain(rows, *tensors))
        return rows.sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which forward mode uses, too
        torch.vmap(asking)(x)
        torch.func.grad(asking)(x)
        torch.func.jvp(asking, (x,), (x,))
        with forward_ad.dual_level():
            asking(forward_ad.make_dual(x, x))
        torch.jit.trace(asking, x, check_trace=False)
    assert len(asked) == 5
    assert not any(asked)
    with torch.no_grad():
        assert is_plain(x.clone().requires_grad_(), *tensors)
